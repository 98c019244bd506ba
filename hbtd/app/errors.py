"""The errors that keep hbtd from starting, and the exit statuses of the process."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hbtd.app.hints import clock_hint, file_hint
from hbtd.net.own_secrets import SecretUnusable
from hbtd.net.tls import TLSUnusable
from hbtd.store.interface import StoreUnusable
from hbtd.store.sqlite_file import StoreDamaged

WRONG_OPTION = 2
"""The exit status, 2, if an option can't be used: a retry with the same options would fail, too."""

CAN_PASS = os.EX_TEMPFAIL
"""The exit status, 75, if hbtd can't start now, but may later be able to with the same options."""

UNEXPECTED = 1
"""The exit status, 1, if hbtd can't start for an unexpected reason."""


class StartupError(Exception):
    """Raised when hbtd can't start; the message says why, in one line."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        """Make the error; `passing` says whether a retry with the same options may succeed."""
        super().__init__(message)
        self.status = CAN_PASS if passing else WRONG_OPTION
        """The exit status of the process."""


def exit_status(error: BaseException | None) -> int:
    """Return the exit status of the process if its service has failed to start with this error.

    If the store can't be used, the status is `CAN_PASS`, 75: the store may recover, and a damaged
    file can be replaced, so that hbtd starts later with the same options. Otherwise the status is
    `UNEXPECTED`, 1.
    """
    return CAN_PASS if isinstance(error, StoreDamaged | StoreUnusable) else UNEXPECTED


@contextmanager
def naming(option: str, value: str) -> Iterator[None]:
    """Return a context manager that turns an exception in its block into a `StartupError`.

    The message names the option and, unless the exception is `TLSUnusable`, the option's value.
    """
    try:
        yield
    except StartupError:
        raise
    except TLSUnusable as error:
        raise StartupError(f"{option}: {_with_hint(error)}", passing=True) from error
    except OSError as error:
        reason = f"{option}={value!r} can't be used: {error.strerror or error}"
        raise StartupError(reason, passing=True) from error
    except Exception as error:  # endpoints are plugins, which raise what they like
        kind = type(error).__name__
        raise StartupError(f"{option}={value!r} can't be used: {kind}: {error}") from error


@contextmanager
def naming_files(files: Mapping[str, str]) -> Iterator[None]:
    """Return a context manager that raises `StartupError` if its block can't use a file.

    The `StartupError` replaces a `TLSUnusable` or a `SecretUnusable` that the block raises. `files`
    maps options to the paths that they have as values; the message names the options that have the
    path of the unusable file.
    """
    try:
        yield
    except (TLSUnusable, SecretUnusable) as error:
        about = [option for option, path in files.items() if path and path in str(error)]
        options = ", ".join(about or files)
        raise StartupError(f"{options}: {_with_hint(error)}", passing=True) from error


def _with_hint(error: Exception) -> str:
    return f"{error}{file_hint(error)}{clock_hint(str(error), time.time())}"
