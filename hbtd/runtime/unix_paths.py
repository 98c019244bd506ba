"""The paths of Unix sockets, which are shorter than those of files."""

import os

_LONGEST = 107
"""The most bytes of a Unix socket's path on Linux."""


def why_too_long(path: str | bytes) -> str:
    """Return why a path is too long for a Unix socket, in words; empty if it isn't."""
    length = len(os.fsencode(path))
    if length <= _LONGEST:
        return ""
    return f"a path of {length} bytes is too long for a Unix socket: name one of {_LONGEST} at most"
