"""Which Warntime, Errtime and Interval hbtd may go by, and since when."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Rule(NamedTuple):
    """The parameters that judge, in seconds."""

    warntime: int
    errtime: int
    interval: int

    def __str__(self) -> str:
        return f"{self.warntime}/{self.errtime}/{self.interval}"


class Period(NamedTuple):
    """A rule, and when it may have been in force."""

    begin: float
    end: float
    """Infinity for a rule that may be in force still."""
    rule: Rule


class Rules:
    """The rules that may have been in force at each time.

    From the moment in which a change is asked for, and until it has certainly arrived everywhere,
    both the old rule and the new one may be.
    """

    def __init__(self, rule: Rule) -> None:
        """Begin with a rule that is in force."""
        self._over: list[Period] = []
        self._since = {rule: 0.0}

    @property
    def possible(self) -> list[Rule]:
        """The rules that may be in force now."""
        return list(self._since)

    def may(self, rule: Rule, now: float) -> None:
        """Note that a rule may be in force from now on, besides the others."""
        self._since.setdefault(rule, now)

    def only(self, rules: Iterable[Rule], now: float) -> None:
        """Note that no other rules are in force from now on."""
        kept = set(rules)
        for rule, since in list(self._since.items()):
            if rule not in kept:
                self._over.append(Period(since, now, rule))
                del self._since[rule]
        for rule in kept:
            self.may(rule, now)

    def between(self, begin: float, end: float) -> Iterator[Period]:
        """Return the rules that may have been in force between two times."""
        for period in self._over:
            if period.begin <= end and period.end >= begin:
                yield period
        for rule, since in self._since.items():
            if since <= end:
                yield Period(since, float("inf"), rule)
