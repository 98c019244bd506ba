"""Stores of judgements and records: their interface, each kind of store, and their users."""
