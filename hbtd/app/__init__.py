"""The composition root: `service` builds hbtd out of its parts, and `process` runs it."""
