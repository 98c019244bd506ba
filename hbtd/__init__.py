"""hbtd, the Heartbeat Tracking Service.

Nodes of a large machine POST small heartbeats; hbtd records when each node was last heard, judges
which nodes have started, fallen silent, restarted or died, and reports these changes to the
Hardware State Manager (HSM) and to Kafka. `docs/design.md` describes how the modules work together.
"""

__version__ = "0.1.0"
