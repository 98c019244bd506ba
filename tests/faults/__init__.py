"""Long runs in which hbtd is killed again and again, for `trial tests.faults.sqlite`.

Their modules are not called `test_...`, so that `make test` passes them by.
"""
