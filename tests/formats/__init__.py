"""Tests of the formats of names, integers and JSON."""
