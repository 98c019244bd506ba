"""The rules: who is heard, who is silent for how long, and what follows from it.

Pure Python without I/O, clock or Twisted. Whatever depends on time takes it as an argument, in
seconds of the observed clock (`hbtd.tracker.observed`).
"""
