"""Stores for judgements and records: one interface, a module for each kind, and the ledger."""
