"""Tests of options and parameters."""
