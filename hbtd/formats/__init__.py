"""Formats of the wire: xnames, and integers and JSON fields as Go reads them."""
