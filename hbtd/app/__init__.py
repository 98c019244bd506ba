"""The whole of hbtd: `service` builds it out of its parts, and `process` runs it as a process."""
