"""Tests of the HSM client and the notifier."""
