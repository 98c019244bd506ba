"""Tests of the Kafka publisher."""
