"""Formats of texts: xnames, nodesets, times, counts, and integers and JSON as Go reads them."""
