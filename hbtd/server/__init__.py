"""The HTTP server below the REST API: client connections, and limits on what each may use."""
