"""Stores of judgements and records: their interface, a module for each store, and the ledger."""
