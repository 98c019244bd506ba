"""The rules by which heartbeats, and their absence, change the states of components.

This package has no I/O and does not use Twisted. Functions that depend on the current time take it
as an argument, in seconds of the observed clock (`hbtd.tracker.observed`).
"""
