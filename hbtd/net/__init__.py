"""TLS, the served certificate, an HTTP client that bounds responses, and name look-up."""
