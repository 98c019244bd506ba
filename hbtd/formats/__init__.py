"""Formats that are shared with others: xnames, integers and JSON as Go reads them."""
