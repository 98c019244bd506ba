"""Directories with short paths: that of a Unix socket has 107 bytes at most."""

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

_SHORT = 40
"""The most bytes of a directory for temporary ones."""


def short_folder(test: SynchronousTestCase) -> Path:
    """Make a directory until the test ends; its path is short, wherever the checkout is.

    Only its owner can look into it, unless its mode is changed.
    """
    usual = tempfile.gettempdir()
    folder = tempfile.TemporaryDirectory(
        prefix="hbtd-", dir=usual if len(usual.encode()) <= _SHORT else "/tmp"
    )
    test.addCleanup(folder.cleanup)
    return Path(folder.name)
