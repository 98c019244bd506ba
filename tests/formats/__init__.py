"""Tests of the formats of xnames, integers and JSON fields."""
