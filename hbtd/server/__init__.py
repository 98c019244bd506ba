"""The HTTP server on which the REST API is built: client connections, requests, and limits."""
