"""Runs `hbtctl` as `python -m hbtd.ctl`."""

from hbtd.ctl.main import main

main()
