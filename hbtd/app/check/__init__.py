"""`hbtd --check`: reports whether hbtd could start and, if not, why; changes nothing."""
