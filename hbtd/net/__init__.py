"""TLS and its certificates, an HTTP client that limits responses, and the look-up of host names."""
