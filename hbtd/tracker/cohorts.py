"""Cohorts: groups of living components whose silence is judged by the same rule.

Most components are in the ordinary cohort, which is judged by the parameters `warntime` and
`errtime`. The other cohorts are made as they are needed:

- one for each pair of limits of their own (`Limits`), which some components have by the thresholds;
- one for the components that are spared, whose silence is not judged: they are in maintenance;
- one for each pair of deadlines (`Deadlines`): components that are to be judged at a given time,
  unless they are heard before. With their next heartbeat they return to the cohort to which they
  belong.

So a sweep looks only at the front of each queue, however many components have a rule of their own.
"""

from collections import OrderedDict
from typing import NamedTuple

from hbtd.tracker.components import Component, Unheard, find_overdue, sort_queue


class Limits(NamedTuple):
    """The silences, in observed seconds, after which components are warned about, and have died.

    A limit that is `None` is the parameter's.
    """

    warntime: float | None = None
    errtime: float | None = None

    def over(self, warntime: float, errtime: float) -> tuple[float, float]:
        """Return both limits; `warntime` and `errtime` replace those that are `None`."""
        return (
            warntime if self.warntime is None else self.warntime,
            errtime if self.errtime is None else self.errtime,
        )


ORDINARY = Limits()
"""The limits of the ordinary cohort: the parameters."""


class Deadlines(NamedTuple):
    """The observed times at which silent components are warned about, and declared dead."""

    warn_at: float
    die_at: float
    held: bool = False
    """Whether the death of these components was due before, and was held back."""
    remark: str = ""
    """Words that follow the silence in the reasons for judgements, such as `; it was away`."""


class Cohort:
    """Living components whose silence is judged by the same rule, in a queue for each phase.

    The queues `healthy` and `warned` are in the order of the last heartbeats, the earliest first,
    except where the rule has deadlines: then their order means nothing.
    """

    __slots__ = ("healthy", "rule", "temporary", "warned")

    def __init__(self, rule: Limits | Deadlines | None) -> None:
        """Make an empty cohort; a `rule` that is `None` means that silence is not judged."""
        self.rule = rule
        """The rule by which silence is judged; `None` if it is not judged."""
        self.temporary = isinstance(rule, Deadlines)
        """Whether components leave this cohort with their next heartbeat: it has deadlines."""
        self.healthy: OrderedDict[str, Component] = OrderedDict()
        self.warned: OrderedDict[str, Component] = OrderedDict()

    def __len__(self) -> int:
        return len(self.healthy) + len(self.warned)

    @property
    def held(self) -> bool:
        """Whether the deaths of this cohort's components were due before, and were held back."""
        return isinstance(self.rule, Deadlines) and self.rule.held

    def remark(self, *, dies: bool) -> str:
        """Return what the reason for a judgement adds about the rule, in words; often nothing.

        `dies` says whether the judgement is a death, and not a warning.
        """
        if isinstance(self.rule, Deadlines):
            return "; its death was held back by the guard" if self.rule.held else self.rule.remark
        limit = None if self.rule is None else self.rule[dies]
        return "" if limit is None else f"; its own limit is {limit:.10g} s"

    def get(self, xname: str) -> Component | None:
        """Return a component of this cohort, healthy or warned; `None` if it is not in it."""
        return self.healthy.get(xname) or self.warned.get(xname)

    def pop(self, xname: str) -> Component | None:
        """Remove and return a component of this cohort; return `None` if it is not in it."""
        component = self.healthy.pop(xname, None)
        return self.warned.pop(xname, None) if component is None else component

    def limits(self, warntime: float, errtime: float) -> tuple[float, float] | None:
        """Return the limits that apply to this cohort: of silences, or observed times.

        `warntime` and `errtime` are the parameters. Return `None` if silence is not judged.
        """
        if self.rule is None:
            return None
        if isinstance(self.rule, Deadlines):
            return self.rule.warn_at, self.rule.die_at
        return self.rule.over(warntime, errtime)

    def may_be_due(self, at: float, limits: tuple[float, float]) -> bool:
        """Return whether any component may have reached one of `limits` at the observed time `at`.

        `limits` are those that the method `limits` returns. Only the fronts of the queues are
        looked at, so this is much faster than to look for the components that are overdue.
        """
        if self.temporary:
            return at >= min(limits)
        for component in self.healthy.values():
            if at - component.last_heard >= min(limits):
                return True
            break
        for component in self.warned.values():
            return at - component.last_heard >= limits[1]
        return False

    def death_due(self, at: float, limit: float) -> bool:
        """Return whether a component may have reached the limit after which it is dead.

        `limit` is the second of those that the method `limits` returns. Only the fronts of the
        queues are looked at.
        """
        if self.temporary:
            return len(self) > 0 and at >= limit
        fronts = (next(iter(queue.values()), None) for queue in (self.warned, self.healthy))
        return any(front is not None and at - front.last_heard >= limit for front in fronts)

    def overdue(
        self,
        queue: "OrderedDict[str, Component]",
        at: float,
        limit: float,
        patience: float,
        unheard: Unheard,
        most: int,
    ) -> list[tuple[str, Component, float]]:
        """Return up to `most` components of one of the queues that have reached a limit.

        `limit` is one of those that the method `limits` returns; the other arguments and the result
        are those of `find_overdue`. If the rule has deadlines, the third element of each tuple is
        the time `at`, less `patience` for a component in `unheard`.
        """
        return find_overdue(queue, at, limit, patience, unheard, most, fixed=self.temporary)

    def sort(self) -> None:
        """Sort the queues by the times of the last heartbeats, the earliest first."""
        sort_queue(self.healthy)
        sort_queue(self.warned)
