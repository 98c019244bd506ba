"""Runs `hbtd` as `python -m hbtd`."""

from hbtd.cli import main

main()
