"""Tests of `hbtd --check`."""
