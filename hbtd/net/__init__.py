"""TLS, the served certificate, and an HTTP client that limits the size of responses."""
