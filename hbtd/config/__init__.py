"""Options and parameters: their definitions, their values, and where these values come from."""
