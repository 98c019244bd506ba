"""The world around hbtd, simulated on real sockets: a Hardware State Manager and a fleet of nodes.

Tests, benchmarks and the demonstration share these; `python -m hbtd.simulator` runs them from a
shell. The service itself imports nothing from here.
"""
