"""Wire formats: xnames, and integers and JSON fields as Go reads them."""
