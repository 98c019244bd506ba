"""Benchmarks: what hbtd costs and carries, measured on the machine at hand. See `make bench`."""
