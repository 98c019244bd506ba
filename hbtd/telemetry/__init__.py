"""Telemetry: every transition published on Kafka."""
