"""Operators' bearer tokens, which a file holds."""

import hmac
import os
from collections.abc import Sequence

from twisted.logger import Logger

from hbtd.runtime.watched_files import WatchedFiles

_SHORTEST = 16
"""Bytes that a token has at least; a shorter one is no secret, or was not written yet."""

_LARGEST_FILE = 64 * 1024
"""Bytes that a file of tokens may have: each token is compared with what a request presents."""

_log = Logger()


class TokensUnusable(Exception):
    """A file of tokens that can't be used; the message says which and why."""


class TokenFile:
    """The tokens of a file, as they are now."""

    def __init__(self, path: str) -> None:
        """Read the file; raises `TokensUnusable`."""
        self.watched: WatchedFiles[Sequence[bytes]] = WatchedFiles(
            "The operators' tokens", [path], lambda: read_tokens(path), TokensUnusable, instead=()
        )

    def holds(self, token: bytes) -> bool:
        """Tell whether a token is one of the file's; takes as long for any token as for another.

        A file that has changed is read first; while it can't be read, it holds none.
        """
        self.watched.look()
        found = False
        for each in self.watched.current:
            found |= hmac.compare_digest(each, token)
        return found


def read_tokens(path: str) -> list[bytes]:
    """Read a file of tokens, one a line; empty lines and those that begin with `#` don't count.

    Raises `TokensUnusable` when it can't be read or holds none. The tokens themselves are never
    part of what is said.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise TokensUnusable(f"{path} can't be read: {error.strerror}") from error
    if len(content) > _LARGEST_FILE:
        raise TokensUnusable(f"{path} has more than {_LARGEST_FILE} bytes")
    if mode & 0o007:
        _log.warn("{path} holds secrets, and everybody on this host can get at it.", path=path)
    tokens = []
    for number, line in enumerate(content.splitlines(), 1):
        token = line.strip()
        if not token or token.startswith(b"#"):
            continue
        if len(token) < _SHORTEST or not token.isascii() or len(token.split()) != 1:
            raise TokensUnusable(
                f"line {number} of {path} is no token: one has at least {_SHORTEST} characters"
                " and no blanks"
            )
        tokens.append(token)
    if not tokens:
        raise TokensUnusable(f"{path} holds no token")
    return tokens
