"""Long runs in which hbtd is killed again and again, for `trial tests.faults.etcd`.

Their modules are not called `test_...`, so that `make test` passes them by.
"""
