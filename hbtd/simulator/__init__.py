"""What surrounds hbtd, simulated on real sockets: a Hardware State Manager and a fleet of nodes.

Tests, benchmarks and the demonstration use it; `python -m hbtd.simulator` runs it from a shell.
The service itself imports nothing from here.
"""
