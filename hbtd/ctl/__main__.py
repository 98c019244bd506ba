"""`python -m hbtd.ctl` is `hbtctl`."""

from hbtd.ctl.main import main

main()
