"""TLS, the served certificate, and the parts of a bounded HTTP client."""
