"""Tests of the guard at work."""
