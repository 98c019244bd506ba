"""What the guard states: that a failure domain is disrupted, and that a disruption has ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from hbtd.formats.counts import counted
from hbtd.guard.disruptions import EndReason
from hbtd.guard.domains import DomainKind


@dataclass(frozen=True)
class Statement:
    """The statement that a failure domain is disrupted or, with `ended`, that this has ended.

    There is one of each for a disruption. Times are Unix times, in seconds.
    """

    number: int
    """The number of the statement; the next one has the next number."""
    at: float
    """When it was made."""
    domain: str
    """The name of the failure domain."""
    kind: DomainKind
    began: float
    """When it was found that the domain is disrupted."""
    away: int
    """The number of its members that had not been heard since, dead or not."""
    living: int = 0
    """The number of living components in the domain, silent or not; 0 with `ended`."""
    since: float = 0.0
    """When the first of its silent members was heard last; 0 with `ended`."""
    until: float | None = None
    """Until when the deaths of its members wait at most; `None` if they do not."""
    includes: tuple[str, ...] = ()
    """The domains of earlier statements whose disruptions are part of this one now."""
    ended: EndReason | None = None
    """Why the disruption has ended; `None` if the statement is that it has begun."""

    def saved(self) -> dict[str, object]:
        """Return this statement as a value for JSON, which `loaded` reads."""
        return {
            "number": self.number,
            "at": self.at,
            "domain": self.domain,
            "kind": self.kind.value,
            "began": self.began,
            "away": self.away,
            "living": self.living,
            "since": self.since,
            "until": self.until,
            "includes": list(self.includes),
            "ended": None if self.ended is None else self.ended.value,
        }

    def in_words(self) -> str:
        """Return the statement in a sentence, for the log and for operators."""
        what = named(self.domain, self.kind)
        if self.ended is None:
            words = (
                f"{what} is disrupted: {self.away} of {counted(self.living, 'living component')}"
            )
            words += " in it fell silent together"
            if self.includes:
                words += f"; that includes {', '.join(self.includes)}"
            return words
        lasted = f"the disruption of {what} has ended after {max(self.at - self.began, 0.0):.0f} s"
        if self.ended is EndReason.BACK:
            return f"{lasted}: all that fell silent are back, or are not expected any more"
        away = counted(self.away, "component")
        why = "was released by an operator" if self.ended is EndReason.RELEASED else "has lasted"
        if self.ended is EndReason.RELEASED:
            return f"{lasted}: it {why}, with {away} silent"
        return f"{lasted}, as long as it may: {away} still silent"


def named(domain: str, kind: DomainKind) -> str:
    """Return the name of a failure domain with its kind, such as `chassis x1000c0`."""
    return "the whole system" if kind is DomainKind.SYSTEM else f"{kind.value} {domain}"


def loaded(saved: object) -> Statement | None:
    """Return the statement that was saved; `None` if it is not valid."""
    try:
        return _load(saved)
    except (KeyError, TypeError, ValueError):
        return None


def _load(saved: Any) -> Statement:
    if not isinstance(saved, Mapping):
        raise TypeError
    ended, until = saved["ended"], saved["until"]
    return Statement(
        number=whole(saved["number"]),
        at=number(saved["at"]),
        domain=_text(saved["domain"]),
        kind=DomainKind(saved["kind"]),
        began=number(saved["began"]),
        away=whole(saved["away"]),
        living=whole(saved["living"]),
        since=number(saved["since"]),
        until=None if until is None else number(until),
        includes=tuple(map(_text, saved["includes"])),
        ended=None if ended is None else EndReason(ended),
    )


def number(value: object) -> float:
    """Return a finite number; raise `ValueError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError("no number")
    return float(value)


def whole(value: object) -> int:
    """Return a whole number from 0 on; raise `ValueError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("no whole number from 0 on")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
