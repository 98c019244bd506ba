"""Tests with the real neighbours, for `make test-real`.

Their modules are not called `test_...`, so that `make test` passes them by.
"""
