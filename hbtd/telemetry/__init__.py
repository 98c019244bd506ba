"""Telemetry: publishes every transition on Kafka."""
