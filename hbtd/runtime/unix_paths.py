"""The length of paths of Unix sockets, which is more limited than that of other paths."""

import os

_LONGEST = 107
"""The most bytes of a Unix socket's path on Linux."""


def why_too_long(path: str | bytes) -> str:
    """Return a phrase that says why a path is too long for a Unix socket; empty if it isn't."""
    length = len(os.fsencode(path))
    if length <= _LONGEST:
        return ""
    return f"a path of {length} bytes is too long for a Unix socket: name one of {_LONGEST} at most"
