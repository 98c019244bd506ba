"""Runs `hbtd-smoke` as `python -m hbtd.smoke`."""

from hbtd.smoke.main import main

main()
