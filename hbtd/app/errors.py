"""The error that keeps hbtd from starting, as one line for an operator."""

from collections.abc import Iterator
from contextlib import contextmanager

from hbtd.net.tls import TLSUnusable


class StartupError(Exception):
    """The reason why hbtd can't start, as a message of one line."""


@contextmanager
def naming(option: str, value: str) -> Iterator[None]:
    """Return a context manager that turns an exception in its block into a `StartupError`.

    The message names the option and, unless the exception is `TLSUnusable`, its value.
    """
    try:
        yield
    except TLSUnusable as error:
        raise StartupError(f"{option}: {error}") from error
    except Exception as error:  # endpoints are plugins, which raise what they like
        kind = type(error).__name__
        raise StartupError(f"{option}={value!r} can't be used: {kind}: {error}") from error
