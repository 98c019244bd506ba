"""Options and parameters: their definitions, their values, and the sources of these."""
