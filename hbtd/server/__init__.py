"""The HTTP server below the REST API: client connections, and the limits for each client."""
