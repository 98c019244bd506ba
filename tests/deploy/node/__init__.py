"""Tests of what nodes run."""
