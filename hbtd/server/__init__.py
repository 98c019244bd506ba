"""The HTTP server below the API: connections, lanes, limits, and turns."""
