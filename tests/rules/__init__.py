"""Tests of `hbtd.rules`."""
