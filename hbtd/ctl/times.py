"""Conversion of times and durations to and from texts for people. All times are in UTC."""

import re
from datetime import UTC, datetime, timedelta

from hbtd.ctl.escaping import shown

_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?Z?")


def shown_time(text: object) -> str:
    """Return an RFC 3339 time in the form `2026-11-26 18:56:00`; `-` if `text` is not a string."""
    if not isinstance(text, str):
        return "-"
    return shown(text[:19].replace("T", " "), 19)


def full_time(text: str | None, now: datetime | None = None) -> str | None:
    """Convert a time of day to the date and time of its latest occurrence up to `now`.

    The time of day is a text such as `18:56` or `18:56:00`, in UTC; `now` is by default the current
    time. The result is in the format of RFC 3339. `None`, or any other text, is returned unchanged.
    """
    if text is None or not _OF_DAY.fullmatch(text):
        return text
    now = now or datetime.now(UTC)
    hours, minutes, seconds = (int(part) for part in f"{text.rstrip('Z')}:00".split(":")[:3])
    moment = now.replace(hour=hours, minute=minutes, second=seconds, microsecond=0)
    moment -= timedelta(days=1) if moment > now else timedelta()
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def shown_seconds(seconds: object) -> str:
    """Return a duration in seconds as text, such as `4.2s`, `3m12s` or `3d04h`.

    Return `-` if `seconds` is no number.
    """
    if not isinstance(seconds, int | float):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02}h"
