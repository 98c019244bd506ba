"""Tests of the guard by failure domain."""
