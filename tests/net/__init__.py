"""Tests of TLS and of the bounded HTTP client."""
