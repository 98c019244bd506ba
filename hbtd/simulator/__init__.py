"""The simulator of hbtd's surroundings, on real sockets: a fake HSM and a fleet of nodes.

Tests, benchmarks and the demonstration use the simulator; `python -m hbtd.simulator` runs it from a
shell. The service hbtd imports nothing from this package.
"""
