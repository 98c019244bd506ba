"""Benchmarks of hbtd's speed and size on the present machine, run by `make bench`."""
