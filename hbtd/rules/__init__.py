"""The rules that operators set while hbtd runs, kept among the settings of the store."""
