"""`python -m hbtd.smoke`, which is the command `hbtd-smoke`."""

from hbtd.smoke.main import main

main()
