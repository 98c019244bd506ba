"""The rules: what state each component is in, and which transitions heartbeats and silence make.

Pure Python, without I/O, clock or Twisted. Functions that depend on time take it as an argument, in
seconds of the observed clock (`hbtd.tracker.observed`).
"""
