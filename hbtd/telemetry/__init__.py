"""Telemetry: publishes every transition to Kafka."""
