"""TLS, the served certificate, and parts of an HTTP client that limits responses."""
