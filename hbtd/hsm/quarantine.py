"""The quarantine: finds the components that make updates to HSM fail, and sets them aside."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, islice
from typing import NamedTuple

from hbtd.hsm.batch_size import BatchSize
from hbtd.hsm.outbox import Outbox
from hbtd.tracker.transitions import Judgement, Transition

IN_A_ROW = 32
"""The number of consecutive failed updates after which HSM itself is suspected, not components.

If one component makes a batch fail, and the batch is halved again and again, HSM accepts an update
after two consecutive failures at the latest.
"""

_FIRST_RETRY = 5.0
_LAST_RETRY = 300.0
"""The longest time until a component that is set aside is tried again, in seconds."""

_STALE = 1.0
"""Seconds until a component whose judgement is stale is looked at again."""

_JITTER = 0.2
"""The largest share by which the time until a retry is shortened at random."""


class Culprit(NamedTuple):
    """A component for which an update that named no other component has failed.

    `judgement` is the judgement that the update was about, and `said` the reason of the failure.
    `since` is the time of the first failed update with the component, in seconds of the notifier's
    clock.
    """

    judgement: Judgement
    said: str
    since: float


@dataclass(eq=False)
class _Suspect:
    """A component of an update that failed; it is never sent on both connections at once."""

    component: str
    successes: int
    """The number of updates that had been accepted when one with this component failed first."""

    since: float
    """The time of that first failure."""

    rejected: bool = False
    """Whether HSM has rejected the component when it was sent alone."""

    failure: Culprit | None = None
    """The last failure of the component when it was sent alone."""

    tries: int = 0
    """How often it was tried since it was set aside, or since HSM came back."""

    last: float = 0.0
    due: float = 0.0
    """When the component, if it is set aside, is tried next; `last` is when it was tried last."""


class _Group(NamedTuple):
    """Suspects to be sent together, at `due` or later, in seconds of the notifier's clock."""

    suspects: Sequence[_Suspect]
    due: float


class Quarantine:
    """Divides an outbox between two connections, to find the components that make updates fail.

    When an update has failed, for whatever reason, its components become suspects. The first
    connection sends no suspects. The second connection sends the suspects in halves, those that
    failed longest ago first, until each component is accepted or fails alone.

    A component that fails alone is a culprit, and is set aside, if HSM has accepted another update
    since the component's first failure. It is retried alone after 5, 10, 20, ... 300 seconds, and
    at once when there is a new judgement on it; after that, the pauses begin with 5 seconds again.

    While every update fails, HSM itself may be the cause. Suspects are then set aside only if HSM
    has rejected each of them alone, and no other components are in the outbox.
    """

    def __init__(
        self,
        outbox: Outbox,
        jitter: Callable[[], float],
        is_stale: Callable[[Judgement], bool] = lambda _: False,
    ) -> None:
        """Make a quarantine without suspects; `jitter` returns a random number from 0 to 1.

        `is_stale` returns whether a judgement must not be sent any more, because another one on
        the same component waits to be committed, and replaces it in the outbox then.
        """
        self._outbox = outbox
        self._jitter = jitter
        self._is_stale = is_stale
        self._suspects: dict[str, _Suspect] = {}
        self._set_aside: dict[str, _Suspect] = {}
        # When those that are set aside are due; entries with another time than theirs are outdated.
        self._tries: list[tuple[float, int, _Suspect]] = []
        self._numbers = count()
        self._groups: deque[_Group] = deque()
        self._trying: list[str] = []
        self._successes = 0
        self.in_a_row = 0
        """The number of updates that have failed since HSM last accepted one.

        Retries for components that are set aside don't count.
        """

    @property
    def set_aside(self) -> Collection[str]:
        """The components that are set aside."""
        return self._set_aside.keys()

    def why_set_aside(self, xname: str) -> str | None:
        """Return why the last update of a component failed.

        Return `None` if the component is not set aside.
        """
        suspect = self._set_aside.get(xname)
        if suspect is None:
            return None
        return "no reason" if suspect.failure is None else suspect.failure.said

    def is_suspect(self, xname: str) -> bool:
        """Return whether an update of a component failed, and no later one has succeeded."""
        return xname in self._suspects

    @property
    def has_work(self) -> bool:
        """Whether the outbox has something to be sent, but for components that are set aside."""
        return self._outbox.has_free or any(
            self._outbox.latest(xname) is not None and not self._is_replaced(xname)
            for xname in self._suspects
            if xname not in self._set_aside
        )

    @property
    def everything_fails(self) -> bool:
        """Whether HSM itself seems to be the cause, because `IN_A_ROW` updates failed in a row.

        After further failures, the property is true again whenever `in_a_row` is a multiple of
        `IN_A_ROW`. In between it is false, so that components can be tried alone.
        """
        return self.in_a_row > 0 and self.in_a_row % IN_A_ROW == 0

    def is_evident(self, batch: Sequence[Judgement]) -> bool:
        """Return whether a failure of a batch would be caused by its components rather than by HSM.

        That is so if the batch is one component that is set aside, or if HSM has accepted another
        update since the first failure of each component.
        """
        if batch[0].component in self._set_aside:
            return True
        suspects = [self._suspects.get(judgement.component) for judgement in batch]
        return all(each is not None and each.successes < self._successes for each in suspects)

    def longest_aside(self) -> Culprit | None:
        """Return the culprit whose first failure was earliest; `None` if there are no culprits."""
        culprits = self._failures(self._set_aside.values())
        return min(culprits, key=lambda culprit: culprit.since, default=None)

    def culprits(self) -> Iterator[Culprit]:
        """Yield the components that are set aside, each with its judgement and its last failure."""
        for suspect in self._set_aside.values():
            if suspect.failure is not None:
                yield suspect.failure

    def next_batch(self, sizes: Mapping[Transition, BatchSize]) -> list[Judgement]:
        """Return the next batch for the first connection, which sends no suspects.

        The batch is empty if the outbox has no judgement, or only judgements on suspects. All
        judgements of a batch have the same transition, whose entry in `sizes` limits their number.
        """
        waiting = iter(self._outbox.next_group())
        first = next(waiting, None)
        if first is None:
            return []
        return [first, *islice(waiting, sizes[first.transition].size - 1)]

    def next_suspects(self, sizes: Mapping[Transition, BatchSize], now: float) -> list[Judgement]:
        """Return the next batch for the second connection; it is empty if no suspects are due.

        `now` is in seconds of the notifier's clock. If the previous batch was reported neither to
        `accepted` nor to `failed`, its suspects are sent again first.
        """
        self._recall()
        while (group := self._take_group(now)) is not None:
            if batch := self._first_of(group, sizes, now):
                return batch
        while (suspect := self._first_aside()) is not None and suspect.due <= now:
            if not self._is_replaced(suspect.component):
                return self._try([suspect.component])
            self._set_due(suspect, now + _STALE)
        return []

    def _take_group(self, now: float) -> _Group | None:
        """Remove and return the first group of suspects that is due; `None` if none is."""
        for index, group in enumerate(self._groups):
            if group.due <= now:
                del self._groups[index]
                return group
        return None

    def next_due(self) -> float | None:
        """Return when the next suspects may be sent, in seconds of the notifier's clock.

        Return `None` if no suspects wait.
        """
        times = [group.due for group in self._groups]
        suspect = self._first_aside()
        if suspect is not None:
            times.append(suspect.due)
        return min(times, default=None)

    def accepted(self, batch: Sequence[Judgement]) -> list[Culprit]:
        """Record that HSM has accepted a batch, whose components are suspects no longer.

        Return the culprits among them, which are no longer set aside. Call this after the
        judgements of the batch were removed from the outbox.
        """
        self._trying = [] if self._is_tried(batch) else self._trying
        if self.in_a_row >= IN_A_ROW:
            self._join()
        self.in_a_row = 0
        self._successes += 1
        names = [each.component for each in batch if each.component in self._set_aside]
        culprits = self._failures(self._set_aside[name] for name in names)
        for judgement in batch:
            self._acquit(judgement.component)
        if culprits:
            # Something has changed; perhaps the others are accepted now, too.
            self._hasten()
        return culprits

    def failed(
        self,
        batch: Sequence[Judgement],
        said: str,
        now: float,
        *,
        pause: float = 0.0,
        rejected: bool = False,
    ) -> list[Culprit]:
        """Make the components of a batch suspects, because the batch has failed.

        Return the culprits that are newly set aside; often there are none. `said` is the reason of
        the failure. The components of the batch are sent again `pause` seconds from `now` at the
        earliest; `now` is in seconds of the notifier's clock. `rejected` says whether HSM has
        rejected the content of the batch. While HSM accepts no update at all, only such a rejection
        makes components culprits; see `Quarantine`.
        """
        self._trying = [] if self._is_tried(batch) else self._trying
        suspects = self._suspect(batch, now)
        if len(batch) > 1:
            self.in_a_row += 1
            half = len(suspects) // 2
            for part in filter(None, (suspects[:half], suspects[half:])):
                self._groups.append(_Group(part, now + pause))
            return []
        if not suspects:
            return []
        (suspect,) = suspects
        known = suspect.component in self._set_aside
        suspect.failure = Culprit(batch[0], said, suspect.since)
        suspect.rejected = rejected
        if known:
            self._put_aside(suspect, now, pause)
            return []
        self.in_a_row += 1
        if suspect.successes < self._successes:
            self._put_aside(suspect, now, pause)
            return [suspect.failure]
        self._groups.append(_Group(suspects, now + pause))
        return self._convict(now)

    def reconsider(self) -> None:
        """Let all components that are set aside be retried now.

        The pauses between further retries begin with the shortest one, 5 seconds, again.
        """
        for suspect in self._set_aside.values():
            suspect.tries = 0
        self._hasten()

    def forget(self, xname: str) -> None:
        """Forget the failures of a component, which is then no longer set aside."""
        self._set_aside.pop(xname, None)
        suspect = self._suspects.get(xname)
        if suspect is not None and xname in self._trying:
            # It must not be on the first connection at the same time.
            self._suspects[xname] = _Suspect(xname, self._successes, suspect.since)
        else:
            self._acquit(xname)

    def clear(self) -> None:
        """Forget the failures of all components.

        Call this only while no update with suspects is in flight.
        """
        self._trying = []
        self._groups.clear()
        self.in_a_row = 0
        for xname in list(self._suspects):
            self._acquit(xname)

    def _first_aside(self) -> _Suspect | None:
        """Return the component that is due first of those set aside, `None` if there is none.

        A component with a new judgement is due at once; of several, the one that was tried longest
        ago comes first.
        """
        for xname in self._outbox.take_renewed():
            renewed = self._set_aside.get(xname)
            if renewed is not None and renewed.last < renewed.due:
                renewed.tries = 0
                self._set_due(renewed, renewed.last)
        while self._tries:
            due, _, suspect = self._tries[0]
            if self._set_aside.get(suspect.component) is suspect and suspect.due == due:
                return suspect
            heappop(self._tries)
        return None

    def _set_due(self, suspect: _Suspect, due: float) -> None:
        suspect.due = due
        heappush(self._tries, (due, next(self._numbers), suspect))

    def _hasten(self) -> None:
        """Make every component that is set aside due now."""
        for suspect in self._set_aside.values():
            suspect.due = 0.0
        self._tries = [(0.0, next(self._numbers), each) for each in self._set_aside.values()]

    def _first_of(
        self, group: _Group, sizes: Mapping[Transition, BatchSize], now: float
    ) -> list[Judgement]:
        """Take from a group the suspects of the next update; return the judgements on them.

        The rest of the group is put back as the first one of the groups, and those with a stale
        judgement as a group that is due later. The list is empty if no component of the group has a
        judgement to be sent now.
        """
        transition: Transition | None = None
        names: list[str] = []
        others: list[_Suspect] = []
        stale: list[_Suspect] = []
        for suspect in group.suspects:
            xname = suspect.component
            if self._suspects.get(xname) is not suspect:
                continue
            judgement = self._outbox.latest(xname)
            if judgement is None:
                self._acquit(xname)  # it was withdrawn while it was tried
                continue
            if self._is_stale(judgement):
                stale.append(suspect)
                continue
            transition = transition or judgement.transition
            fits = judgement.transition is transition
            if fits and len(names) < sizes[transition].size:
                names.append(xname)
            else:
                others.append(suspect)
        if stale:
            self._groups.append(_Group(stale, now + _STALE))
        if not names:
            return []
        if others:
            self._groups.appendleft(_Group(others, group.due))
        return self._try(names)

    def _try(self, names: list[str]) -> list[Judgement]:
        self._trying = names
        latest = [self._outbox.latest(xname) for xname in names]
        return [judgement for judgement in latest if judgement is not None]

    def _recall(self) -> None:
        """Put the latest batch of the second connection back, to be sent before other suspects.

        Do nothing if its outcome is known: it was reported to `accepted` or `failed`.
        """
        suspects = [self._suspects[each] for each in self._trying if each in self._suspects]
        again = [each for each in suspects if each.component not in self._set_aside]
        if again:
            self._groups.appendleft(_Group(again, 0.0))
        self._trying = []

    def _is_tried(self, batch: Sequence[Judgement]) -> bool:
        """Return whether a batch is the one that was sent last on the second connection."""
        return batch[0].component in self._trying

    def _suspect(self, batch: Sequence[Judgement], now: float) -> list[_Suspect]:
        """Make the components of a failed batch suspects; return those with a judgement to send."""
        suspects = []
        for xname in (judgement.component for judgement in batch):
            if self._outbox.latest(xname) is None:
                self._acquit(xname)
                continue
            fresh = _Suspect(xname, self._successes, now)
            suspects.append(self._suspects.setdefault(xname, fresh))
            self._outbox.hold(xname)
        return suspects

    def _convict(self, now: float) -> list[Culprit]:
        """Set all suspects aside if all seem to be to blame; return them as culprits.

        Suspects seem to be to blame if HSM has rejected each of them alone, if there are at most
        `IN_A_ROW` of them, and if nothing else is to be sent. Otherwise set none aside, and return
        an empty list: the next updates will show whether HSM accepts anything.
        """
        if self._outbox.has_free:
            return []
        waiting: list[_Suspect] = []
        stale: list[_Suspect] = []
        for each in self._suspects.values():
            if each.component in self._set_aside:
                continue
            if self._is_replaced(each.component):
                stale.append(each)  # it is not sent, so it can't show anything
                continue
            waiting.append(each)
            if not each.rejected or len(waiting) > IN_A_ROW:
                return []
        self._groups.clear()
        if stale:
            self._groups.append(_Group(stale, now + _STALE))
        for suspect in waiting:
            self._put_aside(suspect, now, 0.0)
        return self._failures(waiting)

    def _put_aside(self, suspect: _Suspect, now: float, pause: float) -> None:
        wait = min(_FIRST_RETRY * 2.0**suspect.tries, _LAST_RETRY)
        suspect.last = now
        suspect.tries += 1
        self._set_aside[suspect.component] = suspect
        assert suspect.failure is not None
        renewed = suspect.failure.judgement is not self._outbox.latest(suspect.component)
        wait *= 1 - _JITTER * self._jitter()
        self._set_due(suspect, now if renewed else now + max(pause, wait))

    @staticmethod
    def _failures(suspects: Iterable[_Suspect]) -> list[Culprit]:
        return [each.failure for each in suspects if each.failure is not None]

    def _acquit(self, xname: str) -> None:
        if self._suspects.pop(xname, None) is not None:
            self._set_aside.pop(xname, None)
            if self._is_replaced(xname):
                # The first connection does not ask; nothing is counted here any more.
                self._outbox.withdraw_alarm(xname)
            self._outbox.release(xname)

    def _is_replaced(self, xname: str) -> bool:
        """Return whether the judgement on a component must not be sent any more."""
        judgement = self._outbox.latest(xname)
        return judgement is not None and self._is_stale(judgement)

    def _join(self) -> None:
        """Join into one group all groups that first failed after the last success of any update.

        While every update failed, HSM was to blame, so the halving of groups has shown nothing.
        """
        groups, self._groups = self._groups, deque()
        joined: list[_Suspect] = []
        for group in groups:
            evident = any(each.successes < self._successes for each in group.suspects)
            if evident:
                self._groups.append(group)
            else:
                joined.extend(group.suspects)
        if joined:
            self._groups.append(_Group(joined, 0.0))
