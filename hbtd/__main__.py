"""`python -m hbtd`, which is the command `hbtd`."""

from hbtd.cli import main

main()
