"""The entry point of `python -m hbtd`, which does the same as the command `hbtd`."""

from hbtd.cli import main

main()
