"""Stores of judgements and records: their interface, a module for each, and who uses them."""
