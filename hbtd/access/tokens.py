"""Operators' bearer tokens, read from a file."""

import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from math import inf
from typing import NamedTuple

from hbtd.runtime.ordinary_files import read_ordinary
from hbtd.runtime.secret_files import warn_of_readers
from hbtd.runtime.watched_files import WatchedFiles

_SHORTEST = 16
"""The fewest bytes in a secret. A shorter one could be guessed, or is not fully written yet."""

_LARGEST_FILE = 64 * 1024
"""The most bytes in a token file; limited because requests are checked against each token."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._@-]{0,30}")
"""Names, which are logged. Secrets in hexadecimal are longer, so none is taken for a name."""

_EXPIRES = "expires="


class TokensUnusable(Exception):
    """Raised when a token file can't be used.

    The message names the file and says why, and contains no token.
    """


class Token(NamedTuple):
    """An operator's bearer token."""

    name: str
    """The token's name; if the file gives none, a name such as `in line 3`."""
    secret: bytes
    """The secret text that the token's owner sends."""
    expires: float = inf
    """When the token expires, in seconds since the epoch; `inf` if it does not."""

    def describe(self, kind: str = "token") -> str:
        """Return a phrase that names the token in log lines.

        `kind` is the noun in the phrase, such as `expired token`.
        """
        named = _NAME.fullmatch(self.name) is not None
        return f"{kind} {self.name!r}" if named else f"the {kind} {self.name}"

    def __repr__(self) -> str:
        """Return a text that names the token and does not contain its secret."""
        return f"<Token {self.name!r}>"


class TokenFile:
    """The tokens in a file, which is read again when it changes."""

    def __init__(self, path: str) -> None:
        """Read the tokens in a file; raise `TokensUnusable` as `read_tokens` does."""
        self.watched: WatchedFiles[Sequence[Token]] = WatchedFiles(
            f"The operators' tokens in --operator_access=token:{path}",
            [path],
            lambda: read_tokens(path),
            TokensUnusable,
            instead=(),
            describe=lambda tokens: f"{len(tokens)} of them",
        )

    def find(self, secret: bytes) -> Token | None:
        """Return the token whose secret is `secret`, expired or not; `None` if there is none.

        The time that the search takes does not depend on `secret`. If the file has changed since it
        was read, it is read again first; while it can't be used, there are no tokens.
        """
        self.watched.reload_if_changed()
        found = None
        for each in self.watched.current:
            found = (found, each)[hmac.compare_digest(each.secret, secret)]
        return found


def read_tokens(path: str) -> list[Token]:
    """Return the tokens in a file.

    Raise `TokensUnusable` if the file can't be read or is too large, or if `parse_tokens` raises
    it. Log a warning if every user of this host may read or write the file.
    """
    try:
        content, mode = read_ordinary(path, _LARGEST_FILE)
    except OSError as error:
        raise TokensUnusable(f"{path} can't be read: {error.strerror}") from error
    tokens = parse_tokens(content, path)
    warn_of_readers(path, mode)
    return tokens


def parse_tokens(content: bytes, path: str) -> list[Token]:
    """Return the tokens in the content of the file `path`, one on each line.

    A line is `SECRET` or `NAME:SECRET`. ` expires=` may follow, with a time in ISO 8601, which is
    in UTC unless it has an offset; a date means the beginning of that day. Empty lines and lines
    that begin with `#` are skipped. Raise `TokensUnusable` if a line has any other form, or if
    there is no token.
    """
    tokens = []
    for number, line in enumerate(content.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        try:
            tokens.append(_parse_line([word.decode("ascii") for word in words], number))
        except ValueError as error:
            why = "it is not ASCII" if isinstance(error, UnicodeDecodeError) else error
            # Not from the error, which may contain a secret.
            raise TokensUnusable(f"line {number} of {path} is no token: {why}") from None
    if not tokens:
        raise TokensUnusable(f"{path} holds no token")
    return tokens


def _parse_line(words: Sequence[str], number: int) -> Token:
    """Return the token that a line of the file defines, from the words of the line.

    `number` is the number of the line, from 1. Raise `ValueError`, with a message that says what is
    wrong, if the line is not valid.
    """
    if len(words) > 2 or (len(words) == 2 and not words[1].startswith(_EXPIRES)):
        raise ValueError("after [NAME:]SECRET only expires=TIME may follow")
    before, colon, after = words[0].partition(":")
    name, secret = (before, after) if colon else (f"in line {number}", before)
    if colon and not _NAME.fullmatch(name):
        raise ValueError(
            "a name before the colon has up to 31 letters, digits and ._@-, the first a letter"
        )
    if len(secret) < _SHORTEST:
        raise ValueError(f"a secret has at least {_SHORTEST} characters")
    expires = _parse_time(words[1].removeprefix(_EXPIRES)) if len(words) == 2 else inf
    return Token(name, secret.encode("ascii"), expires)


def _parse_time(text: str) -> float:
    """Return the Unix time that an ISO 8601 date or date with time gives; UTC without a time zone.

    Raise `ValueError` if `text` is neither.
    """
    try:
        # Python 3.10 does not know the Z.
        moment = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            "expires= takes a day or a time, as 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from None
