"""Operators' bearer tokens, read from a file."""

import hmac
import os
from collections.abc import Sequence

from twisted.logger import Logger

from hbtd.runtime.watched_files import WatchedFiles

_SHORTEST = 16
"""The fewest bytes in a token. A shorter one could be guessed, or is not fully written yet."""

_LARGEST_FILE = 64 * 1024
"""The most bytes in a token file; limited because requests are checked against each token."""

_log = Logger()


class TokensUnusable(Exception):
    """A token file that can't be used; the message names it and says why, without any token."""


class TokenFile:
    """The tokens in a file, which is read again when it changes."""

    def __init__(self, path: str) -> None:
        """Read the tokens in a file; raise `TokensUnusable` as `read_tokens` does."""
        self.watched: WatchedFiles[Sequence[bytes]] = WatchedFiles(
            "The operators' tokens", [path], lambda: read_tokens(path), TokensUnusable, instead=()
        )

    def contains(self, token: bytes) -> bool:
        """Return whether a token is in the file, in a time that does not depend on the token.

        If the file has changed, it is read again first. While the file can't be used, return
        `False`.
        """
        self.watched.reload_if_changed()
        found = False
        for each in self.watched.current:
            found |= hmac.compare_digest(each, token)
        return found


def read_tokens(path: str) -> list[bytes]:
    """Return the tokens in a file, one on each line; empty lines and `#` comments are skipped.

    Raise `TokensUnusable` if the file can't be read, is too large, has a line that is no token,
    or has no token at all. Log a warning if every user of this host may read or write it.
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
        _log.warn(
            "{path} contains secrets and is accessible to every user of this host.", path=path
        )
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
