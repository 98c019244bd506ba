"""Tests with a real Apache Kafka.

`make test-real` runs them. Their modules are not named `test_...`, so `make test` does not.
"""
