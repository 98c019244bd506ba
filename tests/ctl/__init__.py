"""Tests of hbtctl."""
