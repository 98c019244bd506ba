"""The soak: real processes for hours, faults at random, and what they need over time.

`make soak HOURS=2` runs it; `make test` runs the tests of its rules only.
"""
