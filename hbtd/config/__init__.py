"""Options and parameters: what can be set, to what, and from where."""
