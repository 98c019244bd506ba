"""Tests of the rules that operators set while hbtd runs."""
