"""The types of the values of hbtctl's arguments, as argparse takes them.

Each function returns the value of a text, and raises `ArgumentTypeError` if the text has none.
"""

from argparse import ArgumentTypeError
from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def count(text: str) -> int:
    """Return `text` as a whole number from 0 on."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def limit(text: str) -> int:
    """Return `text` as a limit of silence: a whole number of seconds from 1 on."""
    if count(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of seconds from 1 on")
    return int(text)


def page(text: str) -> int:
    """Return `text` as a number of entries of the log, at most as many as an answer has."""
    if count(text) > 1000:
        raise ArgumentTypeError(f"{text} is more than 1000; `hbtctl history` has more")
    return int(text)


def seconds(text: str) -> float:
    """Return `text` as a number of seconds, 0 included."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e8:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


def duration(text: str) -> float:
    """Return `text` in seconds: a number above 0, with `s`, `m`, `h`, `d` or no unit."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        length = float(number) * _UNITS[unit]
    except ValueError:
        length = -1.0
    if not 0 < length < 1e9:
        raise ArgumentTypeError(f"{text!r} is no duration, such as 90s, 15m, 2h or 7d")
    return length


def period(text: str) -> float:
    """Return `text` as a number of seconds that is not below 0.01."""
    number = seconds(text)
    if number < 0.01:
        raise ArgumentTypeError(f"{text!r} seconds are too short")
    return number
