"""`python -m hbtd`: as the command `hbtd`."""

from hbtd.cli import main

main()
