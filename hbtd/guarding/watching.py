"""Tells the guard what becomes of components: who begins or ceases to live, is silent, or is heard.

It asks the tracker, in portions, and only when somebody wants to know. Each change is told once, in
this order: who lives or does not any more, who was heard, who is silent.
"""

from typing import Final

from twisted.internet.interfaces import IReactorTime

from hbtd.guard.disruptions import MISSED, silence_limit
from hbtd.guard.rules import Guard
from hbtd.guarding.turns import Turns
from hbtd.tracker.cohorts import ORDINARY, Deadlines
from hbtd.tracker.components import Component, Unheard
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.turnover import Standing, Turnover

_PORTION: Final = 200
"""The most components of which the guard is told before the time is looked at."""

_SHORTEST: Final = 0.5
"""The shortest period, in seconds, after which a heartbeat has not waited for those before it."""

_LOOKED_AT: Final = 2000
"""The most components that are looked at before the time is looked at: few of them are silent."""


class Watcher:
    """Tells a guard what becomes of the components of a tracker.

    Components that the tracker spares, since they are in maintenance, do not count as living.
    """

    def __init__(
        self, clock: IReactorTime, tracker: Tracker, guard: Guard, late: float = 0.0
    ) -> None:
        """Make a watcher; the guard knows of nobody, or of disruptions alone.

        `late` is how many seconds late a heartbeat may be known here that another replica takes.
        """
        self._clock = clock
        self._tracker = tracker
        self._guard = guard
        self._late = late
        self._turnover = Turnover()
        self._turnover.anew = True

    def begin(self) -> None:
        """Have the tracker note who begins or ceases to live, in place of anybody else."""
        self._tracker.turnover = self._turnover

    def end(self) -> None:
        """Have the tracker note nothing more."""
        if self._tracker.turnover is self._turnover:
            self._tracker.turnover = None

    async def note_living(self) -> None:
        """Tell who has begun or ceased to count among the living since the last call.

        All are counted in the first call, which takes a second or two for a million.
        """
        turns = Turns(self._clock)
        if self._turnover.anew:
            self._turnover.anew = False
            self._turnover.take()
            for member in self._guard.silences():
                self._guard.note_heard(member.xname)
            self._guard.recount(())
            for _, components in self._tracker.judged():
                async for portion in turns.over(components, _PORTION):
                    for component in portion:
                        self._guard.note_living(component.xname)
        taken = list(self._turnover.take().items())
        async for some in turns.over(taken, _PORTION):
            for xname, before in some:
                self._note_change(xname, before)

    def _note_change(self, xname: str, before: Standing) -> None:
        # What has changed again since it was taken is told now.
        self._turnover.discard(xname)
        guard, now = self._guard, self._tracker.standing(xname)
        if now is Standing.COUNTED:
            if before is not now:
                guard.note_living(xname)
        elif before is Standing.COUNTED:
            if now is Standing.DEAD:
                guard.note_dead(xname)
            else:
                guard.note_gone(xname, living=True)
        elif before is Standing.DEAD:
            # It is gone, or it was heard and has died once more.
            guard.note_gone(xname, living=False)

    async def note_heard(self) -> None:
        """Tell who was heard of those who were silent."""
        async for portion in Turns(self._clock).over(self._guard.silences(), _PORTION):
            for member in portion:
                component = self._tracker.component(member.xname)
                if component is not None and component.last_heard != member.since:
                    self._guard.note_heard(member.xname)

    async def note_silent(
        self, at: float, warntime: float, errtime: float, unheard: Unheard
    ) -> None:
        """Tell who is silent at the observed time `at`; `warntime` and `errtime` are parameters.

        As in a sweep, all limits are `errtime` seconds longer for components in `unheard`. Who is
        judged anew, after a maintenance or with other limits, has been silent before that, and is
        not told of.
        """
        turns = Turns(self._clock)
        for rule, components in self._tracker.judged():
            if isinstance(rule, Deadlines):
                if not rule.held:
                    continue
                rule = ORDINARY
            limits = rule.over(warntime, errtime)
            first = min(limits)
            async for portion in turns.over(components, _LOOKED_AT):
                # Most are left out here.
                silent = [
                    each
                    for each in portion
                    if (silence := at - each.last_heard) > MISSED * each.mean or silence >= first
                ]
                async for some in turns.over(silent, _PORTION):
                    for component in some:
                        self._note_if_silent(component, at, limits, errtime, unheard)

    def _note_if_silent(
        self,
        component: Component,
        at: float,
        limits: tuple[float, float],
        patience: float,
        unheard: Unheard,
    ) -> None:
        warntime, errtime = limits
        xname, limit = component.xname, limit_of(component, warntime, errtime, self._late)
        silence = at - component.last_heard
        if unheard.includes(xname, component):
            silence -= patience
        if silence < limit or self._tracker.component(xname) is not component:
            return
        if self._tracker.standing(xname) is Standing.COUNTED:
            self._guard.note_silent(xname, component.last_heard, limit)


def limit_of(component: Component, warntime: float, errtime: float, late: float) -> float:
    """Return the observed seconds of silence after which a component counts as silent.

    It is that of `silence_limit` for its mean period, unless that misleads:

    - Heartbeats that have waited, as in a network that was down, come together. The mean of who
      begins with them is too short for minutes, and is not known while it has sent no others. So
      nobody is silent before its silence is longer than any since it started, up to `warntime`.
    - One long silence makes the mean much too long. So whoever has been silent for `warntime`
      since it started, and has not died of it, is silent after `warntime`.

    If the period is known, the limit is `late` seconds more, but never more than `errtime`. `late`
    is how much later a heartbeat may be known than it is taken.
    """
    longest = component.longest
    if component.mean <= 0.0 or longest < _SHORTEST:
        return silence_limit(0.0, warntime, errtime)
    limit = silence_limit(component.mean, warntime, errtime)
    limit = warntime if longest >= warntime else max(limit, longest)
    return min(limit + late, errtime)
