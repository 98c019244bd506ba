"""Tests of the queries, without HTTP."""
