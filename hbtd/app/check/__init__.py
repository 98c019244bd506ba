"""`hbtd --check`: whether hbtd could start, and all that is wrong; nothing is changed."""
