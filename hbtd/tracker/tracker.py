"""The tracker: keeps the state of every component in memory, and makes judgements."""

import sys
from collections.abc import Container, Iterable, Mapping
from math import inf
from types import MappingProxyType

from hbtd.tracker.cohorts import Cohort, Deadlines
from hbtd.tracker.components import (
    NO_PERIOD,
    NOT_HEARD,
    Component,
    Unheard,
    find_unheard,
    identity_of,
)
from hbtd.tracker.membership import Membership
from hbtd.tracker.records import Record, age_after_restart
from hbtd.tracker.silences import Silences
from hbtd.tracker.starting import Progress, Starting
from hbtd.tracker.transitions import Judgement, Phase, Transition

_LONGEST_TEXT = 256
"""The most characters that are kept of a heartbeat's timestamp, and of its status."""


_LOOK_EVERY = 15.0
"""Observed seconds in which the period and the names of one heartbeat of each component count."""


class TrackerFull(Exception):
    """Raised for a heartbeat of an untracked component if no further component can be tracked."""


_HEARD = Unheard()

_NOBODY: Mapping[str, Deadlines] = MappingProxyType({})


class Tracker(Membership):
    """Tracks which components are healthy, warned or dead, and makes judgements.

    In each cohort, healthy components are in one queue and warned ones in another, each in the
    order of the last heartbeats. A heartbeat moves its component to the end of the queue, so the
    components that have been silent longest are in front. Therefore a heartbeat takes the same time
    however many components there are, a sweep takes time only for the components that it judges,
    and nothing is rebuilt when `warntime` or `errtime` changes. (A plain dict does not work as such
    a queue: finding its first key becomes slow once many keys in front have been removed.)

    Times (`at`) are observed seconds (`hbtd.tracker.observed`), and must not decrease from one call
    to the next.
    """

    def __init__(
        self,
        *,
        note_changes: bool = False,
        most: int = sys.maxsize,
        starting: Starting | None = None,
    ) -> None:
        """Make an empty tracker.

        If `note_changes` is true, the tracker keeps a list of the components that were heard, so
        that their records can be stored. `beat` raises `TrackerFull` for further components once
        `most` components are tracked, including dead ones. Components that are restored, or that
        other replicas have heard, are tracked even beyond this limit. `starting` counts heartbeats
        of dead components; if it is `None`, one heartbeat starts a dead component.
        """
        super().__init__()
        self._starting = Starting() if starting is None else starting
        self._note_changes = note_changes
        self._most = most
        # The components whose records are to be stored, with the times of their last heartbeats
        # here, by `ObservedClock.ticked_at`.
        self._changed: dict[str, float] = {}
        self._ticked_at = 0.0
        self._reads_late = False
        # A status is one of few words, and each is sent very often: only one copy of each is kept.
        self._statuses: dict[str, str] = {}
        self.beats = 0
        """The number of heartbeats that this replica has taken."""
        self.silences = Silences()
        """The long silences that have ended; somebody has to put them into a table."""
        self.held_back = 0
        """The number of deaths that the last call of `sweep` has held back."""

    def beat(
        self,
        xname: str,
        at: float,
        timestamp: str,
        status: str,
        source: str | None = None,
        fresh: bool = False,
        hostname: str = "",
        nid: str = "",
    ) -> Judgement | None:
        """Take a heartbeat; return a judgement if the component has started or restarted.

        `at` is the current observed time. `xname` must be valid and in normal form. `timestamp`,
        `status`, `hostname` and `nid` are cut off after 256 characters; real ones are shorter.
        `source` is the sender's IP address, if known; `fresh` says whether this is the first
        heartbeat on its connection. If there is no judgement, return `None`. Raise `TrackerFull` if
        the component is not tracked and no further component can be tracked.

        While hbtd reads heartbeats late (see `reads_late` of `tick`), a heartbeat of a warned or
        dead component, or one that is a return (see `set_returns`), is counted, but changes nothing
        else. A dead component stays dead until it has sent enough heartbeats in time (`Starting`).
        """
        if self.beat_again(xname, at, timestamp, status, source, fresh, hostname, nid):
            return None
        if self._reads_late and xname in self:
            self.beats += 1
            return None
        if self._full and xname not in self:
            raise TrackerFull
        self.beats += 1
        if self._note_changes:
            self._changed[xname] = self._ticked_at
        dead = self._dead.get(xname)
        if dead is not None and not self._starting.count(xname, at, source):
            self._note_heard_dead(dead, at, timestamp, status, source)
            return None
        return self.apply_beat(xname, at, timestamp, status, source, fresh, hostname, nid)

    def apply_beat(
        self,
        xname: str,
        at: float,
        timestamp: str,
        status: str,
        source: str | None = None,
        fresh: bool = False,
        hostname: str = "",
        nid: str = "",
    ) -> Judgement | None:
        """Apply a heartbeat that another replica took and has stored; see `beat` for the arguments.

        Return a judgement if the component has started or restarted, otherwise `None`.
        """
        if self.beat_again(xname, at, timestamp, status, source, fresh, hostname, nid, True):
            return None
        self._turns(xname)
        transition, before, why = Transition.STARTED, Phase.UNKNOWN, "heartbeat"
        back, cohort = self._note_return(xname, at), self._cohort(xname)
        if (component := cohort.warned.pop(xname, None)) is not None:
            transition, before = Transition.RESTARTED, Phase.WARNED
        elif (component := self._dead.pop(xname, None)) is not None:
            before, why = Phase.DEAD, self._starting.started(xname)
            self.silences.end(component, at)
            component.last_heard = at
        elif (component := cohort.healthy.pop(xname, None)) is not None:
            before = Phase.HEALTHY
        else:
            component = Component(xname, at, "", "")
            self.population += 1
        if back:
            transition, why = Transition.STARTED, "heartbeat; it is back"
        if back and before is not Phase.UNKNOWN:
            # Its silence was announced, and is none by which limits are chosen.
            self.silences.leave(component)
            component.last_heard = at
        self._join_own(xname).healthy[xname] = component
        component.enter_phase()
        if transition is Transition.STARTED:
            component.forget_periods()
        elif hostname:
            self._note_identity(xname, component, hostname, nid)
        self.beat_again(xname, at, timestamp, status, source, fresh, hostname, nid, True)
        return Judgement(xname, transition, component.timestamp, before, why)

    def beat_again(
        self,
        xname: str,
        at: float,
        timestamp: str,
        status: str,
        source: str | None = None,
        fresh: bool = False,
        hostname: str = "",
        nid: str = "",
        elsewhere: bool = False,
    ) -> bool:
        """Take a heartbeat only if its component is healthy; return whether it was taken.

        If the component is not healthy, or if the heartbeat is its return (see `set_returns`),
        nothing changes. `xname` may be any text: the tracker finds a healthy component only under a
        valid name in normal form. `elsewhere` says whether another replica took the heartbeat; the
        other arguments are those of `beat`.

        To save time, the mean period, host name and NID are updated only by the component's first
        heartbeat in each 15 observed seconds, by the first on each connection, and by the first two
        after the component or hbtd started.
        """
        queue, judged = self._healthy, True
        component = queue.get(xname)
        if component is None:
            cohort = self._cohort_of.get(xname)
            component = None if cohort is None else cohort.healthy.get(xname)
            if cohort is None or component is None:
                return False
            queue, judged = cohort.healthy, cohort.rule is not None
            if cohort.temporary or not judged:
                found = self._queue_when_heard(xname, component, cohort, at)
                if found is None:
                    return False
                queue = found
        if not elsewhere:
            self.beats += 1
            if self._note_changes:
                # The name is always the same object, or there would be two of each in memory.
                self._changed[component.xname] = self._ticked_at
        period, mean = at - component.last_heard, component.mean
        # What a heartbeat does not touch needs not be fetched into the processor's cache.
        if fresh or at % _LOOK_EVERY < period or mean is NO_PERIOD or mean is NOT_HEARD:
            # What ends while it is not judged is no long silence.
            if period > component.notable and judged:
                self.silences.note(component, period, at)
            component.note_period(period)
            if hostname:
                self._note_identity(xname, component, hostname, nid)
        elif period > component.notable:
            if judged:
                self.silences.note(component, period, at)
            component.note_longest(period)
        if len(timestamp) > _LONGEST_TEXT:
            timestamp = timestamp[:_LONGEST_TEXT]
        component.last_heard = at
        component.timestamp = timestamp
        component.source = source
        component.fresh = fresh
        if component.status != status:
            component.status = self._shared(status[:_LONGEST_TEXT])
        queue.move_to_end(xname)
        return True

    def sweep(
        self,
        at: float,
        warntime: float,
        errtime: float,
        limit: int,
        unheard: Unheard = _HEARD,
        held: Mapping[str, Deadlines] = _NOBODY,
    ) -> list[Judgement]:
        """Judge which components are to be warned about or have died; return the judgements.

        `at` is the current observed time. A component that has been silent for `errtime` observed
        seconds or more has died; a healthy one that has been silent for `warntime` or more is
        warned about. Components in other cohorts than the ordinary one are judged by the rule of
        their cohort. For components in `unheard`, all limits are `errtime` seconds longer.

        `held` has deadlines of components whose death is to wait: instead of being declared dead,
        such a component gets these deadlines. It has to be in `held` in the one call in which its
        death is due; from then on the deadlines hold whatever later calls say, and one silence is
        held once only.

        At most `limit` judgements are made in a call, including the deaths that are held back
        (`held_back`). If they are fewer, no other component is to be judged now.
        """
        self.held_back = 0
        judgements: list[Judgement] = []
        for cohort in self._cohorts():
            limits = cohort.limits(warntime, errtime)
            if limits is not None and cohort.may_be_due(at, limits):
                self._sweep(cohort, at, limits, errtime, limit, unheard, held, judgements)
            self._end_if_empty(cohort)
        return judgements

    def _sweep(
        self,
        cohort: Cohort,
        at: float,
        limits: tuple[float, float],
        patience: float,
        most: int,
        unheard: Unheard,
        held: Mapping[str, Deadlines],
        judgements: list[Judgement],
    ) -> None:
        """Judge the components of one cohort; append the judgements, until there are `most`."""
        warntime, errtime = limits
        if cohort.held:
            held = _NOBODY
        died, warned = cohort.remark(dies=True), cohort.remark(dies=False)
        left = most - len(judgements) - self.held_back
        for xname, component, _ in cohort.overdue(
            cohort.warned, at, errtime, patience, unheard, left
        ):
            if (deadlines := held.get(xname)) is not None and deadlines.die_at > at:
                self._move(xname, deadlines)
                self.held_back += 1
                continue
            self._turns(xname)
            del cohort.warned[xname]
            self._bury(xname, component)
            judgements.append(_silent(xname, Transition.DIED, component, Phase.WARNED, at, died))
        first, left = min(warntime, errtime), most - len(judgements) - self.held_back
        latest = next((each.last_heard for each in reversed(cohort.warned.values())), -inf)
        out_of_order = False
        for xname, component, silent in cohort.overdue(
            cohort.healthy, at, first, patience, unheard, left
        ):
            dies = silent >= errtime
            if dies and (deadlines := held.get(xname)) is not None and deadlines.die_at > at:
                self._move(xname, deadlines)
                self.held_back += 1
                continue
            if dies:
                self._turns(xname)
            del cohort.healthy[xname]
            if dies:
                self._bury(xname, component)
                transition = Transition.DIED
            else:
                cohort.warned[xname] = component
                component.enter_phase()
                transition = Transition.WARNED
                # One that was unheard before is warned about after others that were heard later.
                out_of_order |= component.last_heard < latest
            more = died if dies else warned
            judgements.append(_silent(xname, transition, component, Phase.HEALTHY, at, more))
        if out_of_order:
            cohort.sort()

    def death_due(self, at: float, limits: tuple[float, float]) -> bool:
        """Return whether a component may be declared dead in a sweep at the observed time `at`.

        `limits` are the parameters `warntime` and `errtime`. Only the fronts of the queues are
        looked at. Deaths that are held back do not count: they have been due before.
        """
        for cohort in self._cohorts():
            applied = cohort.limits(*limits)
            if applied is not None and not cohort.held and cohort.death_due(at, applied[1]):
                return True
        return False

    def unheard(
        self, at: float, limits: tuple[float, float], early: float, unheard: Unheard, most: int
    ) -> list[str] | None:
        """Return the xnames of living components in `unheard` that are to be judged soon.

        Such a component is `early` observed seconds, or less, from its next limit, or beyond it.
        `limits` are the parameters `warntime` and `errtime`; `at` is the current observed time.
        Return `None` if there are more than `most` such components.
        """
        names: list[str] = []
        for cohort in self._cohorts():
            applied = cohort.limits(*limits)
            if applied is None:
                continue
            for queue in (cohort.healthy, cohort.warned):
                left = most - len(names)
                soon = min(applied) - early
                found = find_unheard(queue, at, soon, unheard, left, cohort.temporary)
                if found is None:
                    return None
                names += found
        return names

    def heartbeating(self, xname: str, at: float, errtime: float) -> bool:
        """Return whether a component is living and was heard in the last `errtime` seconds.

        `at` is the current observed time; `errtime` is in observed seconds. For a component with
        limits of its own, its own one takes the place of `errtime`.
        """
        component = self._living(xname)
        if component is None:
            return False
        return at - component.last_heard < self._limits_of(xname).over(errtime, errtime)[1]

    def forget(self, xname: str) -> bool:
        """Stop tracking a component, without a judgement; return whether it was tracked before."""
        self._turns(xname)
        component = self._pop(xname)
        self._starting.drop(xname)
        if component is not None:
            self.population += 1
            self.silences.leave(component)
        self._changed.pop(xname, None)
        self._renamed.discard(xname)
        return component is not None

    def record(self, xname: str, at: float) -> Record | None:
        """Return the record of a component; `None` if the component is dead or not tracked.

        The record has the age of the last heartbeat at the observed time `at`.
        """
        cohort = self._cohort(xname)
        component = cohort.get(xname)
        if component is None:
            return None
        age = at - component.last_heard
        warned = xname in cohort.warned
        return Record(xname, age, component.timestamp, component.status, warned)

    def records(self, xnames: Iterable[str], at: float) -> list[Record]:
        """Return the records of the living components among `xnames`.

        Each record has the age of the last heartbeat at the observed time `at`.
        """
        found = (self.record(xname, at) for xname in xnames)
        return [record for record in found if record is not None]

    def apply_heard(
        self,
        xname: str,
        last_heard: float,
        source: str | None,
        sent: tuple[str, str] | None = None,
    ) -> Judgement | None:
        """Apply a heartbeat that another replica took earlier, unless a later one is known.

        `last_heard` is the observed time of that heartbeat, and `source` is the name of the other
        replica. `sent` has the timestamp and the status in the heartbeat. If `sent` is `None`, a
        living component keeps its timestamp and status, and a dead or untracked component does not
        change. Return a judgement if the component has started or restarted, otherwise `None`.

        The heartbeats of a replica arrive in order. Therefore, if the last known heartbeat came
        from the same replica, or its source is not known, `sent` is applied even if `last_heard` is
        not later: the observed clock of this replica may have stood still.
        """
        component = self._living(xname)
        if component is None:
            return self.apply_beat(xname, last_heard, *sent, source) if sent else None
        if last_heard <= component.last_heard:
            if sent and component.source in (source, None):
                self._note_sent(component, *sent)
            return None
        # It goes to the end of the queue, as if it was heard now: it may be judged that much later.
        timestamp, status = sent or (component.timestamp, component.status)
        return self.apply_beat(xname, last_heard, timestamp, status, source)

    def apply_sent(self, record: Record, source: str | None) -> bool:
        """Set the timestamp and status of a living component to those in `record`.

        Call this after `apply_heard` has applied the heartbeat without its timestamp and status.
        `source` is the name of the replica that took the heartbeat. If the component's last
        heartbeat is known to have come from another source, nothing changes. Return whether the
        component is living.
        """
        xname = record.component
        component = self._living(xname)
        if component is None:
            return False
        if component.source in (source, None):
            self._note_sent(component, record.timestamp, record.status)
        return True

    def apply_starting(self, record: Record, at: float, source: str, *, starts: bool) -> bool:
        """Count a heartbeat of a dead component that another replica took; return if it starts.

        `record` is about that heartbeat, and `at` is the current observed time. `source` is the
        name of the other replica. If `starts` is false, the count may be complete, but the
        component is not started. If the component is not dead, nothing changes. The caller starts
        the component by `apply_beat`.
        """
        xname, heard = record.component, at - record.age
        component = self._dead.get(xname)
        if component is None:
            return False
        if heard > component.last_heard:
            self._note_heard_dead(component, heard, record.timestamp, record.status, source)
        return self._starting.count(xname, heard, source, elsewhere=True) and starts

    def starting_records(self, xnames: Iterable[str], at: float) -> list[Record]:
        """Return records of the last heartbeats of the dead components among `xnames`.

        The caller takes `xnames` from `take_changed`: this replica took these heartbeats. Each
        record has the age of the heartbeat at the observed time `at`.
        """
        if not len(self._starting):
            return []  # as always while one heartbeat is enough
        dead = ((xname, self._dead.get(xname)) for xname in xnames)
        return [
            Record(xname, at - each.last_heard, each.timestamp, each.status, False)
            for xname, each in dead
            if each is not None
        ]

    def starting(self, xname: str, at: float) -> Progress | None:
        """Return how many heartbeats in time a dead component has sent, and how many it needs.

        `at` is the current observed time. Return `None` if the component is not dead, or if its
        next heartbeat starts it in any case.
        """
        return self._starting.progress(xname, at) if xname in self._dead else None

    def _note_heard_dead(
        self, component: Component, at: float, timestamp: str, status: str, source: str | None
    ) -> None:
        self._note_return(component.xname, at)
        self.silences.end(component, at)
        component.last_heard, component.source = at, source
        self._note_sent(component, timestamp, status)

    def _note_sent(self, component: Component, timestamp: str, status: str) -> None:
        component.timestamp = timestamp[:_LONGEST_TEXT]
        component.status = self._shared(status[:_LONGEST_TEXT])

    def apply_warning(self, record: Record, at: float, warntime: float, errtime: float) -> None:
        """Mark a component as warned about, because another replica has warned about it.

        `record` is the record that the other replica has stored. The component's timestamp and
        status become those in `record`, so that later messages to Kafka don't name an earlier
        heartbeat. If the component is dead or not tracked, it is restored from `record`; for the
        other arguments see `restore`.
        """
        cohort = self._cohort(record.component)
        component = cohort.healthy.pop(record.component, None)
        if component is not None:
            self._changed.pop(record.component, None)
            component.enter_phase()
            cohort.warned[record.component] = component
        else:
            component = cohort.warned.get(record.component)
        if component is not None:
            self._note_sent(component, record.timestamp, record.status)
        else:
            self._revive(record, at, warntime, errtime).enter_phase()

    def apply_gap(self, record: Record, at: float) -> None:
        """Mark a component as warned about, and count its silence from the observed time `at`.

        Call this when an original hbtd has warned about the component, and has stored `record`,
        after a time in which no hbtd could hear heartbeats. The component may have sent heartbeats
        in that time, so the time does not count as silence.
        """
        xname = record.component
        self._changed.pop(xname, None)
        again = xname in self._cohort(xname).warned
        component = self._recorded(record, at)
        self._join_own(xname).warned[xname] = component
        if not again:
            component.enter_phase()

    def apply_death(self, xname: str) -> None:
        """Mark a component as dead, because another replica has judged that it died."""
        if xname not in self._dead:
            self._turns(xname)
            component = self._pop(xname)
            self.population += component is None
            self._bury(xname, component or Component(xname, -inf, "", ""))

    def restore(
        self,
        records: Iterable[Record],
        dead: Iterable[str],
        at: float,
        warntime: float,
        errtime: float,
        unheard: float = 0.0,
    ) -> None:
        """Begin to track the components of `records` as living, and those named in `dead` as dead.

        Components that are tracked already do not change. `at` is the current observed time. Each
        record is given the age that `age_after_restart` returns for `warntime` and `errtime`, both
        in observed seconds. The record of a spared component keeps its age, less the `unheard`
        seconds in which nobody could be heard: it is not judged by its age, but that says whether
        its next heartbeat is a return.
        """
        self.restore_page(records, at, warntime, errtime, unheard)
        for xname in dead:
            if xname not in self:
                self.apply_death(xname)
        self.sort_queues()

    def restore_page(
        self,
        records: Iterable[Record],
        at: float,
        warntime: float,
        errtime: float,
        unheard: float = 0.0,
    ) -> None:
        """Begin to track the components of `records`, which are one page of the stored records.

        The arguments are those of `restore`. The caller must call `restore` after the last page,
        because the queues are not in order until then.
        """
        for record in records:
            if record.component not in self:
                self._revive(record, at, warntime, errtime, unheard)

    def keep_only(self, keep: Iterable[str]) -> None:
        """Stop tracking all components except the healthy ones whose xnames are in `keep`."""
        found = ((xname, self._cohort(xname).healthy.get(xname)) for xname in keep)
        kept = {xname: component for xname, component in found if component is not None}
        for queue in (self._dead, *self._queues()):
            for component in queue.values():
                if component.floor and component.xname not in kept:
                    self.silences.leave(component)
        for cohort in self._cohorts():
            cohort.healthy.clear()
            cohort.warned.clear()
        self._others.clear()
        self._cohort_of.clear()
        self._dead.clear()
        for xname, component in kept.items():
            self._join_own(xname).healthy[xname] = component
        self.population += 1
        if self.turnover is not None:
            self.turnover.note_all()
        self._changed = {xname: at for xname, at in self._changed.items() if xname in kept}
        self._renamed &= kept.keys()

    def tick(self, at: float, *, reads_late: bool = False) -> None:
        """Set the time of the changes that heartbeats make from now until the next call of `tick`.

        `at` is that time: a value of `ObservedClock.ticked_at`, not an observed time.
        `changed_since` says what changes are.

        If `reads_late` is true, heartbeats that are taken before the next call may have been sent
        long ago, and may have waited to be read while another replica judged their components.
        Therefore these heartbeats do not change the state of a warned or dead component: they do
        not prove that the component lives.
        """
        self._ticked_at, self._reads_late = at, reads_late

    def changed_at(self, xname: str) -> float | None:
        """Return the time of a component's latest change that has yet to be stored.

        `changed_since` says what a change and its time are. Return `None` if the component has no
        such change.
        """
        return self._changed.get(xname)

    def changed_since(self, since: float) -> dict[str, float]:
        """Return the times of all changes at `since` or later, by the xname of the component.

        A component has a change if this replica has taken a heartbeat of the component (`beat`,
        `beat_again`), and has yet to store the component's record. The time of the change is the
        argument `at` of the last call of `tick` before the heartbeat.
        """
        return {x: at for x, at in self._changed.items() if at >= since}

    def changed(self) -> list[str]:
        """Return the xnames of components with a change (see `changed_since`), in any order."""
        return list(self._changed)

    def take_changed(self, xnames: Iterable[str], since: float) -> dict[str, float]:
        """Remove the changes of the components `xnames`, and return those at `since` or later.

        The result maps the xname of each component with such a change to the time of the change
        (see `changed_since`). Earlier changes are removed without being returned. The caller must
        store the records of the components in the result, and call `put_back` if that fails.
        """
        taken: dict[str, float] = {}
        for xname in xnames:
            at = self._changed.pop(xname, None)
            if at is not None and at >= since:
                taken[xname] = at
        return taken

    def put_back(self, changes: Mapping[str, float]) -> None:
        """Add changes that `take_changed` has removed, because the records could not be stored.

        `changes` is the result of `take_changed`. A component that has changed again since then
        keeps the later time.
        """
        for xname, at in changes.items():
            self._changed.setdefault(xname, at)

    def mark_changed(self, at: float, others: Container[str]) -> None:
        """Record a change at the time `at` for every living component that is not in `others`.

        The effect is that the records of all these components are stored again. `at` is a value of
        `ObservedClock.ticked_at`, not an observed time.
        """
        self._changed.update((xname, at) for xname in self.living() if xname not in others)

    @property
    def _full(self) -> bool:
        return len(self) >= self._most

    def _note_identity(self, xname: str, component: Component, hostname: str, nid: str) -> None:
        identity = identity_of(hostname[:_LONGEST_TEXT], nid[:_LONGEST_TEXT])
        if component.identity != identity:
            component.identity = identity
            if self._note_changes:
                self._renamed.add(xname)

    def _revive(
        self, record: Record, at: float, warntime: float, errtime: float, unheard: float = 0.0
    ) -> Component:
        if record.component in self._spared:
            age = max(record.age - unheard, 0.0)
        else:
            limits = self._limits_of(record.component).over(warntime, errtime)
            age = age_after_restart(record, *limits)
        last_heard = at - age if age else at  # most are of one age: one object for all of these
        component = self._recorded(record, last_heard)
        cohort = self._join_own(record.component)
        (cohort.warned if record.warned else cohort.healthy)[record.component] = component
        return component

    def _recorded(self, record: Record, last_heard: float) -> Component:
        """Return the component of a record, set to the record's data; make it if not tracked.

        The component is in no queue then; the caller puts it into one.
        """
        self._turns(record.component)
        status = self._shared(record.status[:_LONGEST_TEXT])
        timestamp = record.timestamp[:_LONGEST_TEXT]
        component = self._pop(record.component)
        self._starting.drop(record.component)
        if component is None:
            self.population += 1
            component = Component(record.component, last_heard, timestamp, status)
        self.silences.leave(component)
        component.last_heard, component.source = last_heard, None
        component.timestamp, component.status = timestamp, status
        component.forget_periods()
        return component

    def _bury(self, xname: str, component: Component) -> None:
        self._cohort_of.pop(xname, None)
        self._dead[xname] = component
        component.enter_phase()
        self._changed.pop(xname, None)

    def _shared(self, status: str) -> str:
        # The cache is bounded, since clients choose the words.
        if len(self._statuses) < 1000:
            return self._statuses.setdefault(status, status)
        return self._statuses.get(status, status)


def _silent(
    xname: str, transition: Transition, component: Component, before: Phase, at: float, more: str
) -> Judgement:
    silent = at - component.last_heard
    why = f"silent for {silent:.1f} s{more}"
    return Judgement(xname, transition, component.timestamp, before, why, silent=silent)
