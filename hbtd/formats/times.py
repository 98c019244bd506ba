"""Converts between Unix times and texts in the format of RFC 3339."""

from datetime import datetime, timezone


def format_time(at: float) -> str | None:
    """Return the Unix time `at` as RFC 3339 in UTC with milliseconds; `None` for 0 (unknown)."""
    if not at:
        return None
    text = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def clock_time(at: float, now: float) -> str:
    """Return a Unix time as a text for people, in UTC: with the date unless that is today's.

    `now` is the current Unix time.
    """
    time, today = (datetime.fromtimestamp(each, timezone.utc) for each in (at, now))
    return f"{time:%H:%M:%S}" if time.date() == today.date() else f"{time:%Y-%m-%d %H:%M:%S}"


def parse_time(text: str, now: float) -> float:
    """Return the Unix time, in seconds, that a text stands for.

    The text is a time in the format of RFC 3339, a date, a number of seconds since the epoch, or a
    time before the Unix time `now`, such as `-90s`, `-15m`, `-2h` or `-7d`. A time without an
    offset is in UTC. Raise `ValueError` for any other text, and for times outside of the years 1970
    to 9999.
    """
    if text[:1] == "-" and text[1:-1].isdecimal() and text[-1] in _SECONDS and len(text) < 16:
        at = now - int(text[1:-1]) * _SECONDS[text[-1]]
    elif text.replace(".", "", 1).isdecimal() and text.isascii() and len(text) < 20:
        at = float(text)
    else:
        # Python 3.10 knows no Z.
        time = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text)
        at = (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()
    if not 0 <= at < 253_402_300_800:
        raise ValueError("outside of the years 1970 to 9999")
    return at


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
