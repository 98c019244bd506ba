"""Tests of `hbtd.queries`."""
