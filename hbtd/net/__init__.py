"""TLS, the served certificate, an HTTP client that limits the size of responses, and names."""
