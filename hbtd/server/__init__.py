"""The HTTP server below the REST API: client connections, their limits, and the order of work."""
