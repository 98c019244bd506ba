"""What keeps hbtd from starting, as one line for an operator."""

from collections.abc import Iterator
from contextlib import contextmanager

from hbtd.net.tls import TLSUnusable


class StartupError(Exception):
    """hbtd can't start; the message says why, in one line."""


@contextmanager
def naming(option: str, value: str) -> Iterator[None]:
    """Raise exceptions of the block as a `StartupError` that names an option and its value."""
    try:
        yield
    except TLSUnusable as error:
        raise StartupError(f"{option}: {error}") from error
    except Exception as error:  # endpoints are plugins, which raise what they like
        kind = type(error).__name__
        raise StartupError(f"{option}={value!r} can't be used: {kind}: {error}") from error
