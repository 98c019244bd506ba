"""Shows hindrances: as objects of the API, and in sentences."""

from collections.abc import Iterable, Sequence
from typing import Final

from hbtd.formats.counts import counted
from hbtd.formats.times import clock_time, format_time
from hbtd.tracker.gaps import GapKind
from hbtd.tracker.hindrances import Hindrance, TroubleKind

MOST_SHOWN: Final = 20
"""The most hindrances in an answer about health, or about one component."""

_RECENT: Final = 600.0
"""Seconds for which `GET /health` lists a hindrance that is over."""

_SHORT: Final = 1.0
"""Seconds that a hindrance must have lasted to be listed there once it is over."""

_IN_A_SENTENCE: Final = 2
"""The most gaps that a sentence names."""

_UNREAD: Final = (TroubleKind.OVERLOAD, TroubleKind.TURNED_AWAY, TroubleKind.ELSEWHERE)
"""The kinds of troubles in which heartbeats may have arrived without having been read."""


def show(hindrance: Hindrance) -> dict[str, object]:
    """Return a hindrance as the API shows it."""
    return {
        "Kind": hindrance.kind.value,
        "Begin": format_time(hindrance.at),
        "End": None if hindrance.lasts else format_time(hindrance.end),
        "Seconds": round(hindrance.seconds, 3),
        "Cause": hindrance.cause or None,
    }


def recent(hindrances: Iterable[Hindrance], now: float) -> list[Hindrance]:
    """Return the hindrances that last, or ended within ten minutes before the Unix time `now`.

    `hindrances` are in the order of `Hindrances.all`. The start of hbtd is left out, and so are
    those that are over and were shorter than a second; at most the first twenty are returned.
    """
    found = [
        each
        for each in hindrances
        if each.lasts
        or (each.end >= now - _RECENT and each.seconds >= _SHORT and each.kind is not GapKind.START)
    ]
    return found[:MOST_SHOWN]


def during(hindrances: Iterable[Hindrance], since: float, until: float) -> list[Hindrance]:
    """Return the first twenty of `hindrances` that overlap a stretch of time.

    The stretch is from the Unix time `since` to the Unix time `until`, which may be infinite.
    """
    found = [each for each in hindrances if each.at < until and (each.lasts or each.end > since)]
    return found[:MOST_SHOWN]


def not_judged(hindrances: Sequence[Hindrance], now: float) -> str:
    """Return a sentence that says when the observed clock did not count, and why; "" if it did.

    `hindrances` are in the order of `Hindrances.all`; `now` is the Unix time.
    """
    gaps = [each for each in hindrances if isinstance(each.kind, GapKind)]
    if not gaps:
        return ""
    named = [_in_words(each, now) for each in reversed(gaps[:_IN_A_SENTENCE])]
    if len(gaps) > len(named):
        named.append(f"and {counted(len(gaps) - len(named), 'earlier time')}")
    return f"Not judged {'; '.join(named)}."


def why_unread(hindrances: Iterable[Hindrance], now: float) -> str:
    """Return why heartbeats may not have been read yet, in a sentence; "" if that is not known.

    `now` is the Unix time.
    """
    lasting = [each for each in hindrances if each.lasts and each.kind in _UNREAD]
    text = "; ".join(_in_words(each, now) for each in lasting)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _in_words(hindrance: Hindrance, now: float) -> str:
    begin = clock_time(hindrance.at, now)
    cause = f": {hindrance.cause}" if hindrance.cause else ""
    if hindrance.lasts:
        return f"since {begin}{cause}"
    return f"from {begin} to {clock_time(hindrance.end, now)}{cause}"
