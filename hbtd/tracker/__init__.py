"""The rules: what state each component is in, and which transitions follow from heartbeats.

This package has no I/O and does not use Twisted. Functions that depend on time take it as an
argument, in seconds of the observed clock (`hbtd.tracker.observed`).
"""
