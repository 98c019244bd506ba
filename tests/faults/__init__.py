"""Long tests of faults: hbtd is killed many times, etcd is away, or clients are hostile.

`make test-faults` runs them. Their modules are not named `test_...`, so `make test` does not.
"""
