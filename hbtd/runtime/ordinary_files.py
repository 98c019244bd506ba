"""Reading of files whose paths users give: only regular files of a limited size are read.

Opening a pipe that has no writer would block the process for ever; reading a device such as
`/dev/zero`, or a large image given by mistake, would fill the memory.
"""

import errno
import os
import stat
from typing import NamedTuple


class OrdinaryFile(NamedTuple):
    """The content of a regular file, and its mode, as in the result of `os.fstat`."""

    content: bytes
    mode: int


def read_ordinary(path: str, most: int) -> OrdinaryFile:
    """Return the content and mode of a regular file; raise `OSError` if the file can't be read.

    Also raise `OSError` if the file has more than `most` bytes, or is not a regular file. A pipe or
    a device is not even opened, since that could block, or change the state of the device.
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
