"""Tests of what HSM is told."""
