"""Tests of what runs everything else: reactor, periodic tasks, logs."""
