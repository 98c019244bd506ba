"""Tests of hbtd-smoke."""
