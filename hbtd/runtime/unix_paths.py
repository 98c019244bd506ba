"""The limit on the length of a Unix socket's path, which is lower than that of other paths."""

import os

_LONGEST = 107
"""The most bytes of a Unix socket's path on Linux."""


def why_too_long(path: str | bytes) -> str:
    """Return a phrase that says that `path` is too long for a Unix socket.

    If the path is not too long, return an empty string.
    """
    length = len(os.fsencode(path))
    if length <= _LONGEST:
        return ""
    return f"a path of {length} bytes is too long for a Unix socket: name one of {_LONGEST} at most"
