"""hbtd, the Heartbeat Tracking Service.

Nodes of a large machine POST small heartbeats; hbtd notes when each was last heard, judges who
has started, gone quiet, come back or died, and tells the Hardware State Manager and Kafka.
`docs/design.md` says how the modules fit together.
"""

__version__ = "0.1.0"
