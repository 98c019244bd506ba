"""`hbtd --check`: reports whether hbtd could start and what keeps it from that; changes nothing."""
