"""The `Retry-After` header of HTTP responses."""

from email.utils import parsedate_to_datetime

from twisted.web.http_headers import Headers

LONGEST = 30.0
"""The largest number of seconds that `retry_after` returns, even if a server asks for more."""


def retry_after(headers: Headers, now: float) -> float:
    """Return how many seconds a response's headers ask the client to wait; 0 if they don't.

    If `Retry-After` is a date, the seconds are counted from the date in the header `Date` or,
    without that header, from the Unix time `now`. An invalid value counts as 0. The result is at
    most `LONGEST`.
    """
    asked = _first(headers, b"retry-after")
    if asked.isascii() and asked.isdigit():
        # Digits beyond these would only be a longer time, and be slow to convert.
        return min(float(asked[:9]), LONGEST)
    until = _unix_time(asked)
    if until is None:
        return 0.0
    sent = _unix_time(_first(headers, b"date"))
    return min(max(0.0, until - (now if sent is None else sent)), LONGEST)


def _first(headers: Headers, name: bytes) -> str:
    values = headers.getRawHeaders(name) or [b""]
    return values[0].decode("latin-1").strip()


def _unix_time(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
