"""Mutation testing: small faults are put into hbtd, and a test has to notice each."""
