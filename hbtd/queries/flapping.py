"""Marks components that change their state again and again, from the log of transitions."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.formats.nodesets import count_names
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.store.past import LogEntry, Span
from hbtd.tracker.flapping import HOUR, Flapping
from hbtd.tracker.tracker import Tracker

_LOOK = 1.0
"""Seconds between two looks at whose marks end."""

_PORTION = 500
"""The most log entries, or marks, that are looked at before the reactor can do other work."""


class Mark(NamedTuple):
    """The beginning or the end of a component's mark, for operators."""

    component: str
    """The component's xname."""
    flapping: bool
    """Whether the mark begins; otherwise, it ends."""
    changes: int
    """The number of changes of the component's state within the last hour."""
    at: float
    """The Unix time, in seconds, at which this replica has noticed it."""


class FlapWatch(Service):
    """Marks components that have changed more than `flap_changes` times within an hour.

    Each replica makes the marks by itself, from the log that all of them share, and so they agree
    but for the seconds that news need. After a start, and when `flap_changes` has changed, the
    marks are made anew from the last hour of the log, as far as it is kept (`history`). Those marks
    are not announced; later ones are, when they begin and when they end: to readers of events by
    every replica, and in the log by the leader.

    This object is a listener of `LogFollower`. The marks decide nothing that HSM or Kafka is told.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        store: IStore,
        tracker: Tracker,
        params: LiveParams,
        leading: Callable[[], bool],
        announce: Callable[[Mark], None],
    ) -> None:
        """Make a service that has yet to be started.

        `wall` returns the current Unix time in seconds. `leading` returns whether this replica
        leads. `announce` is called for each mark that begins or ends.
        """
        self._clock = clock
        self._wall = wall
        self._store = store
        self._tracker = tracker
        self._params = params
        self._leading = leading
        self._announce = announce
        self._rule = Flapping()
        # The numbers of the log's last entry when the follower began, and of the last that it has
        # passed on; `None` before it begins.
        self._begun: int | None = None
        self._told = 0
        # The number of the last entry that was noted; `None` while the marks are to be made anew.
        self._noted: int | None = None
        # Whether all that the follower has passed on is noted; false while `flap_changes` is 0.
        self._caught_up = False
        self._looking = PeriodicService(clock, _LOOK, self._look, "the look at flapping components")
        params.on_change(self._params_changed)

    def startService(self) -> None:
        """Begin to look at whose marks end, once a second, unless `flap_changes` is 0."""
        super().startService()
        if self.most:
            self._looking.startService()

    def stopService(self) -> Deferred[None]:
        """Stop looking; return a Deferred that fires when a read in progress has ended."""
        super().stopService()
        return self._looking.stopService()

    def __contains__(self, xname: object) -> bool:
        """Return whether a component is marked as flapping."""
        return xname in self._rule

    def marked(self) -> list[str]:
        """Return the xnames of the tracked components that are marked, in no particular order."""
        return [xname for xname in self._rule.marked() if xname in self._tracker]

    def changes(self, xname: str) -> int:
        """Return how often a component has changed within the last hour.

        No more are counted than it takes to mark the component. The result is 0 while
        `flap_changes` is 0.
        """
        return self._rule.changes(xname, self._wall())

    @property
    def most(self) -> int:
        """The number of changes within an hour that don't mark a component: `flap_changes`."""
        return self._params.current.flap_changes

    # What the follower of the log tells

    def begin(self, number: int) -> None:
        """Prepare for calls of `tell`, which get only entries with numbers above `number`."""
        self._begun = self._told = number

    def tell(self, entries: Sequence[LogEntry]) -> None:
        """Note the next entries of the log, unless earlier ones have yet to be read."""
        self._told = entries[-1].number
        if self._caught_up:
            self._note(entries)

    def _note(self, entries: Sequence[LogEntry]) -> None:
        begun: list[str] = []
        for number, judgement, _ in entries:
            if self._noted is not None and number <= self._noted:
                continue
            self._noted = number
            component = self._tracker.component(judgement.component)
            # The name in the tracker is in memory already.
            xname = judgement.component if component is None else component.xname
            marked = self._rule.note(xname, judgement.at, self._wall(), self.most)
            if marked and number > (self._begun or 0):
                begun.append(xname)
        self._say(begun, flapping=True)

    def _say(self, xnames: Sequence[str], *, flapping: bool) -> None:
        at, most = self._wall(), self.most
        for xname in xnames:
            self._announce(Mark(xname, flapping, self.changes(xname), at))
        if not xnames or not self._leading():
            return
        if flapping:
            self._log.info(
                "Flapping, with more than {most} state changes within an hour: {xnames}",
                most=most,
                xnames=count_names(xnames),
            )
        else:
            self._log.info(
                "No longer flapping, with {most} state changes or fewer within the last hour:"
                " {xnames}",
                most=most // 2,
                xnames=count_names(xnames),
            )

    # Periodic work

    async def _look(self) -> None:
        if self._begun is not None and not self._caught_up:
            try:
                await self._catch_up()
            except StoreUnusable:
                return  # the follower of the log says so, and the next look tries again
        if self.most:
            self._say(self._rule.look(self._wall(), self.most, _PORTION), flapping=False)

    async def _catch_up(self) -> None:
        """Read the last hour of the log, up to what the follower has passed on."""
        while self.running and self.most and not self._caught_up:
            told, forgotten = self._told, self._noted is None
            if self._noted is None:
                span = Span(since=self._wall() - HOUR)
                entries = await self._store.history(span, most=_PORTION)
            else:
                entries = await self._store.log(self._noted, _PORTION)
            if not self.most or forgotten is not (self._noted is None):
                continue  # the marks are to be made anew, or not at all
            self._note(entries)
            # What was passed on meanwhile may be missing in what was read.
            self._caught_up = told == self._told and (
                not entries or entries[-1].number >= self._told
            )
            await deferLater(self._clock, 0)

    def _params_changed(self, old: Params, new: Params) -> None:
        if new.flap_changes != old.flap_changes:
            self._rule.clear()
            self._noted, self._caught_up = None, False
            # What is known by now is no news.
            if self._begun is not None:
                self._begun = self._told
            if not new.flap_changes:
                self._looking.stopService()
            elif self.running:
                self._looking.startService()
