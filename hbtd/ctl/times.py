"""Times and durations as people read them. All times are in UTC, as hbtd's own texts are."""

from hbtd.ctl.escaping import shown


def shown_time(text: object) -> str:
    """Return a time of RFC 3339 as `2026-11-26 18:56:00`, and `-` if there is none."""
    if not isinstance(text, str):
        return "-"
    return shown(text[:19].replace("T", " "), 19)


def shown_seconds(seconds: object) -> str:
    """Return a duration with its two largest units, such as `4.2s`, `3m12s` or `3d04h`."""
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
