"""hbtd's tests, for trial."""
