"""TLS, the certificate that is served, and a bounded HTTP client."""
