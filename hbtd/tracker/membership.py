"""The membership of components in cohorts: by which rule the silence of each is judged."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import ceil, inf

from hbtd.tracker.cohorts import ORDINARY, Cohort, Deadlines, Limits
from hbtd.tracker.components import Component
from hbtd.tracker.names import NameSet
from hbtd.tracker.population import Population
from hbtd.tracker.turnover import Standing, Turnover


class Membership(Population):
    """The tracked components, with the methods that change by which rule they are judged."""

    def __init__(self) -> None:
        super().__init__()
        self._limits_of: Callable[[str], Limits] = lambda _: ORDINARY
        self._spared = NameSet()
        self._is_return: Callable[[str, float, float], bool] = lambda *_: False
        self._returned: Callable[[str], bool] = lambda _: True
        self.turnover: Turnover | None = None
        """Notes who begins or ceases to live, if somebody wants to know; `None` if nobody does."""

    def set_limits(self, limits_of: Callable[[str], Limits]) -> None:
        """Have components judged by the limits that `limits_of` returns for their xnames.

        It has to take little time, as it is called when a component starts. The limits of those
        that are living already change when `apply_limits` or `judge_anew` is called for them, or
        with their next start; until then they are judged by those that they had.
        """
        self._limits_of = limits_of

    def own_limits(self, xname: str) -> Limits:
        """Return the limits of a component's own, by which it is judged unless `rule` differs.

        The component need not be tracked.
        """
        return self._limits_of(xname)

    def apply_limits(self, xnames: Iterable[str], at: float, limits: tuple[float, float]) -> None:
        """Judge components by their changed limits, with silences that begin at `at`.

        The arguments and the effect are those of `judge_anew`, except that components do not change
        if they are spared, or if their death is held back.
        """
        for xname in xnames:
            if xname not in self._spared and not self._cohort(xname).held:
                self._judge_anew(xname, at, limits)

    def shortest_warntime(self, warntime: float) -> float:
        """Return the shortest warntime by which a living component is judged, in observed seconds.

        `warntime` is the parameter.
        """
        own = [cohort.rule for cohort in self._cohorts() if isinstance(cohort.rule, Limits)]
        return min(limits.over(warntime, warntime)[0] for limits in own)

    def set_returns(
        self, is_return: Callable[[str, float, float], bool], returned: Callable[[str], bool]
    ) -> None:
        """Have some spared components judged again from a heartbeat on, their return.

        `is_return(xname, at, last_heard)` returns whether a heartbeat of a spared component is its
        return; it has to take little time, and to change nothing. `at` is the observed time of the
        heartbeat, `last_heard` that of the one before, `-inf` if there was none. `returned(xname)`
        is called for each return, and returns whether the component is spared all the same.

        With a return the component starts: HSM is told so, even if the component was healthy.
        """
        self._is_return, self._returned = is_return, returned

    def spare(self, xnames: Iterable[str]) -> None:
        """Judge the silence of components no more, until `judge_anew` is called for them.

        They need not be tracked: those that start later are spared, too. Their heartbeats mean what
        they always mean. Being spared outlasts `forget` and `keep_only`.
        """
        for xname in xnames:
            self._spared.add(xname)
            if self._living(xname) is not None:
                self._move(xname, None)

    def judge_anew(
        self, xnames: Iterable[str], at: float, limits: tuple[float, float], remark: str = ""
    ) -> None:
        """Judge components, spared or not, by their limits, with silences that begin at `at`.

        `at` is the current observed time, and not one before the last heartbeat; `limits` are the
        parameters `warntime` and `errtime`. Living components that are not heard are warned about
        and declared dead as if they had been heard at the next whole second after `at`, so that
        components which are judged anew one after the other have the same deadlines; those warned
        about already are not warned about again. Once heard they are judged as always. `remark` is
        what the reasons for these judgements end with.
        """
        for xname in xnames:
            self._spared.discard(xname)
            self._judge_anew(xname, at, limits, remark)

    def give_up(self, xnames: Iterable[str], at: float, remark: str = "") -> None:
        """Declare components, which were spared so far, dead within a second, unless heard.

        `at` is the current observed time. The second lets components that are given up one by one
        have the same deadline, as in `judge_anew`. `remark` is what the
        reasons for these judgements end with.
        """
        due = float(ceil(at))
        for xname in xnames:
            self._spared.discard(xname)
            if self._living(xname) is not None:
                self._move(xname, Deadlines(due, due, remark=remark))

    def is_spared(self, xname: str) -> bool:
        """Return whether the silence of a component, tracked or not, is not judged (`spare`)."""
        return xname in self._spared

    @property
    def spares(self) -> bool:
        """Whether any component, tracked or not, is spared."""
        return bool(self._spared)

    def spared_components(self) -> list[str]:
        """Return the xnames of the tracked components that are spared, in no particular order."""
        if not self._spared:
            return []
        cohort = self._others.get(None)
        living = [] if cohort is None else [*cohort.healthy, *cohort.warned]
        return living + [xname for xname in self._dead if xname in self._spared]

    def rule(self, xname: str) -> Limits | Deadlines | None:
        """Return the rule by which a living component is judged, or would be if it started now.

        It is `None` if its silence is not judged.
        """
        if self._living(xname) is not None:
            return self._cohort(xname).rule
        return None if xname in self._spared else self._limits_of(xname)

    def release(self, xnames: Iterable[str], at: float) -> None:
        """Declare components whose death was held back dead in the next sweep.

        `at` is the current observed time. Other components do not change.
        """
        for xname in xnames:
            rule = self._cohort(xname).rule
            if isinstance(rule, Deadlines) and rule.held and rule.die_at > at:
                self._move(xname, Deadlines(at, at, held=True))

    def _judge_anew(
        self, xname: str, at: float, limits: tuple[float, float], remark: str = ""
    ) -> None:
        if self._living(xname) is not None:
            warntime, errtime = self._limits_of(xname).over(*limits)
            begin = ceil(at)
            self._move(xname, Deadlines(begin + warntime, begin + errtime, remark=remark))

    def standing(self, xname: str) -> Standing:
        """Return whether a component counts among the living, is dead, or neither."""
        cohort = self._cohort(xname)
        if cohort.get(xname) is not None:
            return Standing.OUT if cohort.rule is None else Standing.COUNTED
        return Standing.DEAD if xname in self._dead else Standing.OUT

    def _turns(self, xname: str) -> None:
        """Note that the standing of a component may be about to change."""
        if self.turnover is not None:
            self.turnover.note(xname, self.standing(xname))

    def _move(self, xname: str, rule: Limits | Deadlines | None) -> None:
        """Move a living component to the cohort with a rule, to the end of its queue there."""
        cohort = self._cohort(xname)
        if cohort.rule == rule:
            return
        if cohort.rule is None or rule is None:
            self._turns(xname)
        component = cohort.healthy.pop(xname, None)
        if component is not None:
            self._join(xname, rule).healthy[xname] = component
        else:
            component = cohort.warned.pop(xname)
            self._join(xname, rule).warned[xname] = component

    def _join(self, xname: str, rule: Limits | Deadlines | None) -> Cohort:
        """Make a component, which is in no queue, belong to the cohort with a rule; return it.

        The cohort to which it has belonged ends if it has no other components.
        """
        left = self._cohort_of.pop(xname, None)
        if rule == ORDINARY:
            joined = self._ordinary
        else:
            known = self._others.get(rule)
            joined = Cohort(rule) if known is None else known
            self._others[rule] = self._cohort_of[xname] = joined
        if left is not None and left is not joined:
            self._end_if_empty(left)
        return joined

    def _join_own(self, xname: str) -> Cohort:
        """Make a component that has been heard belong to the cohort to which it belongs then."""
        return self._join(xname, None if xname in self._spared else self._limits_of(xname))

    def _queue_when_heard(
        self, xname: str, component: Component, cohort: Cohort, at: float
    ) -> "OrderedDict[str, Component] | None":
        """Return the queue of a healthy component that is heard; move it there, if it changes.

        The component, which is in `cohort`, leaves it if that has deadlines. `at` is the observed
        time of the heartbeat. If the heartbeat is the return of a spared component, change nothing,
        and return `None`.
        """
        if cohort.rule is None and self._is_return(xname, at, component.last_heard):
            return None
        if not cohort.temporary:
            return cohort.healthy
        del cohort.healthy[xname]
        queue = self._join_own(xname).healthy
        queue[xname] = component
        return queue

    def _note_return(self, xname: str, at: float) -> bool:
        """Return whether a heartbeat at the observed time `at` is a spared component's return.

        If so, the component is spared no more, unless there is another reason.
        """
        if xname not in self._spared:
            return False
        component = self.component(xname)
        last_heard = -inf if component is None else component.last_heard
        if not self._is_return(xname, at, last_heard):
            return False
        if not self._returned(xname):
            self._spared.discard(xname)
        return True
