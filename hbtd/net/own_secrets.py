"""Secrets by which hbtd authenticates itself to other services, in files that may change."""

import re
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from hbtd.runtime.ordinary_files import read_ordinary
from hbtd.runtime.secret_files import warn_of_readers
from hbtd.runtime.watched_files import WatchedFiles

_LARGEST_FILE = 16 * 1024
"""The most bytes in a file with a secret; some servers take heads of 8 KiB only."""

_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""A bearer token as it may stand in a header (`b64token` of RFC 6750 2.1)."""

_CONCEALED = "(a secret)"


class SecretUnusable(Exception):
    """Raised when a file with a secret can't be used; the message names the file and says why.

    The secret is not in the message.
    """


class BearerToken(NamedTuple):
    """A bearer token (RFC 6750)."""

    secret: str

    def __repr__(self) -> str:
        """Return a text without the token."""
        return "<BearerToken>"


class Login(NamedTuple):
    """A user's name and password."""

    user: str
    secret: str
    """The password."""

    def __repr__(self) -> str:
        """Return a text without the password."""
        return f"<Login {self.user!r}>"


_Secret = TypeVar("_Secret", BearerToken, Login)


class SecretFile(Generic[_Secret]):
    """A secret in a file, which is read again when it changes."""

    def __init__(self, what: str, path: str, read: Callable[[str], _Secret]) -> None:
        """Read the secret with `read`, which raises `SecretUnusable` if the file is invalid.

        `what` describes the secret in log lines. It is the subject of a sentence, in the plural,
        such as `The user and password in --kv_login=PATH`.
        """
        self.watched: WatchedFiles[_Secret] = WatchedFiles(
            what, [path], lambda: read(path), SecretUnusable
        )
        """The file, to be given to a `FileWatcher`."""
        # The one before is concealed, too: a server may answer with it after a change.
        self._known: list[_Secret] = [self.watched.current]
        self.watched.on_change(self._changed)

    @property
    def current(self) -> _Secret:
        """The secret last read from the file; it stays the same while the file can't be used."""
        return self.watched.current

    def renewed(self, refused: _Secret) -> bool:
        """Read the file again if it has changed; return whether its secret differs from `refused`.

        `refused` is a secret that a server has refused, perhaps because the file has a new one.
        """
        self.watched.reload_if_changed()
        return self.current != refused

    def conceal(self, text: str) -> str:
        """Return `text`, received from outside, with `(a secret)` in place of the secret.

        Copies of the secret that the file had before are replaced, too.
        """
        for each in self._known:
            text = text.replace(each.secret, _CONCEALED)
        return text

    def _changed(self) -> None:
        if self.current not in self._known:
            self._known = [self.current, self._known[0]]


def read_bearer(path: str) -> BearerToken:
    """Return the token in a file; white space around the token is ignored.

    Raise `SecretUnusable` if the file can't be read, or contains anything but one token. Log a
    warning if every user of this host may read or write the file.
    """
    content, mode = _read(path)
    token = content.strip()
    if not _BEARER.fullmatch(token):
        raise SecretUnusable(
            f"{path} holds no bearer token: it has to be one word, of letters, digits and ._~+/-"
        )
    warn_of_readers(path, mode)
    return BearerToken(token)


def read_login(path: str) -> Login:
    """Return the user and the password in a file with one line, `USER:PASSWORD`.

    The password may contain colons, and includes all spaces to the end of the line. Raise
    `SecretUnusable` if the file can't be read, or contains anything else. Log a warning if every
    user of this host may read or write the file.
    """
    content, mode = _read(path)
    line = content.removesuffix("\n").removesuffix("\r")
    user, colon, password = line.partition(":")
    if not (user and colon and password) or not line.isprintable():
        raise SecretUnusable(f"{path} holds no user and password: it has one line, USER:PASSWORD")
    warn_of_readers(path, mode)
    return Login(user, password)


def _read(path: str) -> tuple[str, int]:
    try:
        content, mode = read_ordinary(path, _LARGEST_FILE)
    except OSError as error:
        raise SecretUnusable(f"{path} can't be read: {error.strerror}") from error
    try:
        return content.decode(), mode
    except UnicodeDecodeError:
        # Not from the error, which contains the secret.
        raise SecretUnusable(f"{path} is not UTF-8") from None
