"""Passes the new entries of the log of transitions on to the tracker and to listeners."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.runtime.backoff import Backoff
from hbtd.runtime.outage import Outage
from hbtd.runtime.wakeup import Wakeup
from hbtd.store.interface import IStore
from hbtd.store.past import LogEntry
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Phase

_PORTION = 500
"""The most entries, or states of components, handled at a time: a few milliseconds' work."""

_LOOK = 5.0
"""Seconds after which the follower looks at the log even if nobody has woken it."""

_RETRY = (0.75, 10.0)
"""The shortest and the longest pause, in seconds, after the log could not be read."""


class Listener(Protocol):
    """The interface of objects to which a `LogFollower` passes the new entries of the log."""

    def begin(self, number: int) -> None:
        """Prepare for calls of `tell`, which get only entries with numbers above `number`."""

    def tell(self, entries: Sequence[LogEntry]) -> None:
        """Receive the next entries of the log of transitions, in the order of their numbers."""


class LogFollower(Service):
    """A service that reads the log of transitions as it grows; it runs on every replica.

    After its start, the follower finds out in the background when each tracked component entered
    its state, and when HSM acknowledged each alarm (warned, died). From then on, it reads each new
    entry once, and passes the entry on to the tracker and to the listeners. New entries are read
    every five seconds, and soon after a call of `tell` (this replica has committed judgements) or
    `notify` (another replica may have committed judgements).
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        observed: ObservedClock,
        store: IStore,
        tracker: Tracker,
        jitter: Callable[[], float],
        listeners: Sequence[Listener] = (),
    ) -> None:
        """Make a follower of the log, which has yet to be started.

        `wall` returns the current Unix time in seconds. `jitter` returns a random number from 0 to
        1, which varies the pauses between attempts to read the log after a failure.
        """
        self._clock = clock
        self._wall = wall
        self._observed = observed
        self._store = store
        self._tracker = tracker
        self._listeners = listeners
        self._wakeup = Wakeup(clock)
        self._backoff = Backoff(*_RETRY, jitter)
        self._outage = Outage(self._outage_began, self._outage_ended, clock.seconds)
        # The last number of the log when reading found nothing further: there may be gaps.
        self._exhausted_at: int | None = None
        self._stopped = True
        self.read_to: int | None = None
        """The number of the log entry after which the follower reads on.

        It is `None` until the follower has found out when components entered their states.
        """

    def startService(self) -> None:
        """Begin to read the log in the background."""
        super().startService()
        self._stopped = False
        Deferred.fromCoroutine(self._run()).addErrback(self._ended)

    def stopService(self) -> None:
        """Stop reading the log, and ignore the result of a read in progress."""
        super().stopService()
        self._stopped = True
        self._wakeup.interrupt()

    def tell(self, judgements: Sequence[Judgement]) -> None:
        """Read the new entries of the log soon, because this replica has committed `judgements`."""
        self.notify()

    def notify(self) -> None:
        """Read the log soon, because another replica may have committed judgements."""
        self._wakeup.notify()

    async def _run(self) -> None:
        while not self._stopped:
            if self.read_to is None and not self._store.usable():
                await self._wakeup.wait(_LOOK)  # it may be long before etcd can be reached
                continue
            try:
                if self.read_to is None:
                    await self._find_states()
                if self.read_to is not None and self._more():
                    await self._read(self.read_to)
            except Exception as error:  # noqa: BLE001  # it is tried again
                if self._stopped:
                    return
                self._outage.fail(str(error) or repr(error))
                await self._wakeup.pause(self._backoff.next())
            else:
                self._backoff.reset()
                self._outage.recover()
                if not self._stopped and not self._more():
                    await self._wakeup.wait(_LOOK)

    async def _find_states(self) -> None:
        """Find out when components entered their states, and when HSM acknowledged the alarms.

        The results are passed to the tracker.
        """
        begin = self._store.last_number()
        after, more = "", True
        while more:
            # etcd has no order by component: it reads the whole log for each call.
            most = 10**9 if self._store.shared else _PORTION
            states = (await self._store.states_at(inf, after=after, most=most)).states
            for start in range(0, len(states), _PORTION):
                if self._stopped:
                    return
                for each in states[start : start + _PORTION]:
                    self._note(each.component, each.phase, each.since, each.silent)
                await deferLater(self._clock, 0)
            more = len(states) == most
            after = states[-1].component if states else ""
        told = await self._store.told()
        for xname, (transition, at) in told.items():
            self._tracker.note_told(xname, transition.after, at)
        if not self._stopped:
            self.read_to = begin
            for listener in self._listeners:
                listener.begin(begin)

    async def _read(self, read_to: int) -> None:
        """Read the next portion of the log, after the number `read_to`, and pass it on."""
        last = self._store.last_number()
        entries = await self._store.log(read_to, _PORTION)
        if self._stopped:
            return
        if len(entries) < _PORTION:
            self._exhausted_at = last
        if not entries:
            return
        self.read_to = entries[-1].number
        for _, judgement, _ in entries:
            after = judgement.transition.after
            self._note(judgement.component, after, judgement.at, judgement.silent)
        for listener in self._listeners:
            listener.tell(entries)
        await deferLater(self._clock, 0)

    def _note(self, xname: str, phase: Phase, at: float, silent: float | None) -> None:
        heard = None
        if silent is not None and at:
            heard = self._observed.shown(self._wall() - at + silent)
        self._tracker.note_judged(xname, phase, at, heard)

    def _more(self) -> bool:
        """Return whether the log may have entries that were not read yet."""
        last = self._store.last_number()
        return last > (self.read_to or 0) and last != self._exhausted_at

    def _outage_began(self, reason: str) -> None:
        self._log.warn(
            "The log of transitions can't be read: {error}. Until it can be read again, queries"
            " can't say how long components have been in their states, and events are late.",
            error=reason,
        )

    def _outage_ended(self) -> None:
        self._log.info("The log of transitions can be read again.")

    def _ended(self, failure: Failure) -> None:
        self._log.failure(
            "Following the log of transitions has ended because of a bug in hbtd; until hbtd is"
            " restarted, clients of /events get no events.",
            failure,
        )
