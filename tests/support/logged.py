"""What was logged, as the operator reads it."""

from typing import Any

from twisted.logger import LogLevel, eventAsText


def said(events: Any, *levels: LogLevel) -> list[str]:
    """Return the log messages of some levels."""
    return [
        eventAsText(event, includeTimestamp=False, includeSystem=False)
        for event in events
        if event["log_level"] in levels
    ]
