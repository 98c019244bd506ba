"""Reading of files that users name, which can be anything that a path can lead to.

A pipe without a writer would be waited for without end, with the whole process, and a device such
as `/dev/zero`, or an image that was named by mistake, would fill the memory.
"""

import errno
import os
import stat
from typing import NamedTuple


class OrdinaryFile(NamedTuple):
    """The content of a file, and its mode."""

    content: bytes
    mode: int


def read_ordinary(path: str, most: int) -> OrdinaryFile:
    """Return what is in an ordinary file of up to `most` bytes; raise `OSError` otherwise.

    Never wait for another process, and open no device, since that alone may do something.
    """
    _check(os.stat(path).st_mode, path)
    # It may have been replaced meanwhile.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        _check(mode, path)
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", path)
    return OrdinaryFile(content, mode)


def _check(mode: int, path: str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no ordinary file", path)
