"""Applies maintenance to the tracker: who is in it is not judged, and is judged anew at its end."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from heapq import heapify, heappop, heappush
from math import inf
from typing import Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.formats.counts import counted
from hbtd.formats.nodesets import NodesetError, expand, pieces, portions
from hbtd.rules.in_force import Entry, InForce, Notice, tell_nobody
from hbtd.rules.maintenance import (
    AWAY,
    LONGEST,
    MAINTENANCE,
    MOST_NAMES,
    UNDER_WAY,
    Maintenance,
    id_of,
    key_of,
    parse,
)
from hbtd.store.settings import Settings
from hbtd.tracker.tracker import Tracker

_AT_ONCE: Final = 1000
"""The most components that begin or end their maintenance before the reactor does other work."""

_CHARACTERS_AT_ONCE: Final = 4096
"""The characters of a nodeset that are read at once: a few milliseconds' worth."""

_LONGEST_WAIT: Final = 60.0
"""The most seconds after which the clocks are looked at again: the reactor's may be another."""

_SHORTEST_WAIT: Final = 0.1
"""The least seconds to wait for an end, as the clock that counts them may stand still."""

_STALE_ENDS: Final = 100
"""The most ends that no longer matter, and wait besides as many as there are maintenances."""

_ENDED: Final = "; judged anew since its maintenance ended"
_NOT_BACK: Final = "; it had said that it would be back by then"

Key = tuple[str, str]
"""The kind and the name of a setting."""


async def components(
    wanted: Maintenance,
    turn: Callable[[], Awaitable[None]],
    fault: Callable[[NodesetError], None] = lambda _: None,
) -> AsyncIterator[list[str]]:
    """Yield the xnames of the components of a maintenance, in portions.

    `turn` is awaited between portions, so that the reactor does other work. Pieces of the nodeset
    that can't be read, as a store may have after all, are left out, and passed to `fault`.
    """
    first = True
    for piece in pieces(wanted.nodeset, _CHARACTERS_AT_ONCE):
        try:
            names = expand(piece, MOST_NAMES)
        except NodesetError as error:
            fault(error)
            continue
        for some in portions(names, _AT_ONCE):
            if not first:
                await turn()
            first = False
            yield some


class Observed(Protocol):
    """The part of the observed clock that is used here."""

    def now(self) -> float:
        """Return the observed time in seconds."""


class Maintaining:
    """Has the tracker spare the components that are in maintenance by the settings of the store.

    Whoever is in maintenance no more is judged anew, with silences that begin when it ended; but a
    component that has said that it will be away, and is not back by then, is declared dead.

    Every replica applies the settings to its own tracker, and finds their ends by its own clocks:
    so each is ready to lead. An end is a time of the wall clock only in the store. From when a
    replica has read it, the seconds until then are counted by the host's elapsed clock, so that a
    step of the wall clock neither ends a maintenance nor prolongs it. The seconds for which a
    component is away are observed seconds: it is declared dead only if it could be heard.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        elapsed: Callable[[], float],
        wall: Callable[[], float],
        observed: Observed,
        tracker: Tracker,
        settings: Settings,
        params: LiveParams,
        leading: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        """Apply the settings from now on.

        `elapsed` returns the seconds of a clock that also advances while the host is suspended;
        `wall` returns the Unix time in seconds. `leading` returns whether this replica leads.
        `changed` is called when the store has to be changed, because a maintenance has ended for
        all of its components, or for some that are back; see `over` and `with_returns`.
        """
        self._clock = clock
        self._elapsed = elapsed
        self._wall = wall
        self._observed = observed
        self._tracker = tracker
        self._settings = settings
        self._params = params
        self._leading = leading
        self._changed = changed
        self.in_force = InForce()
        """The maintenances that are in force on this replica."""
        self.over: dict[Key, tuple[float, float]] = {}
        """The settings of maintenances that are over, each with its end (`Maintenance.given`).

        They are to be removed from the store.
        """
        self.notice: Notice = tell_nobody
        """A function that is told what has become of each maintenance; see `Notice`."""
        self.with_returns: dict[str, Entry] = {}
        """The maintenances that components have left as they are back, by identifier.

        The settings have these components still.
        """
        # What has changed and has yet to be applied, in order.
        self._stale: dict[Key, None] = {}
        self._work: Deferred[None] = succeed(None)
        self._working = self._hurrying = False
        self._pause: tuple[Deferred[None], IDelayedCall] | None = None
        # The ends to come, and the identifiers of what ends: by elapsed, and by observed seconds.
        self._ends: list[tuple[float, str]] = []
        self._returns_due: list[tuple[float, str]] = []
        self._timer: IDelayedCall | None = None
        for kind in (MAINTENANCE, AWAY):
            self._listen(kind)
        tracker.set_returns(self._is_return, self._returned)

    def _listen(self, kind: str) -> None:
        self._settings.on_change(
            kind, lambda names, anew: self._apply([(kind, name) for name in names], anew=anew)
        )

    def applied(self) -> Deferred[None]:
        """Return a Deferred that fires when all that the settings have now is in force."""
        waiting: Deferred[None] = Deferred()
        self._work.addCallback(lambda _: waiting.callback(None))
        return waiting

    def until(self, entry: Entry) -> float:
        """Return the Unix time at which a maintenance ends, by this host's clock as it is now.

        It is that of the store, unless the wall clock was set since that was read.
        """
        known = entry.maintenance.until
        now = self._wall() + entry.ends - self._time(entry.maintenance)
        return known if abs(now - known) < 1.0 else now

    def find(self, id: str) -> Entry | None:
        """Return a maintenance that is in force; `None` if it is over, or never was."""
        entry = self.in_force.entries.get(id)
        return None if entry is None or key_of(id) in self.over else entry

    def stop(self) -> None:
        """Wait for no further ends."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    # Applying the settings

    def _apply(self, keys: Collection[Key], *, anew: bool) -> None:
        """Apply changed settings, at once if they are few or were read `anew` from the store.

        In the latter case records are read next, and nobody is to be judged by them who is spared;
        to read them keeps the reactor for much longer.
        """
        self._stale.update(dict.fromkeys(keys))
        self._hurrying |= anew
        if not self._working:
            self._working = True
            self._work = Deferred.fromCoroutine(self._apply_stale(anew=anew))
        while self._hurrying and self._pause is not None:
            (waiting, call), self._pause = self._pause, None
            call.cancel()
            waiting.callback(None)
        self._hurrying = False

    async def _apply_stale(self, *, anew: bool) -> None:
        try:
            while self._stale:
                key = next(iter(self._stale))
                del self._stale[key]
                try:
                    await self._apply_one(*key, anew=anew or self._hurrying)
                except Exception:  # noqa: BLE001  # the others have to be in force
                    self._log.failure(
                        "Maintenance {id} could not be applied because of a bug in hbtd.",
                        id=id_of(*key),
                    )
        finally:
            self._working = False

    async def _turn(self) -> None:
        """Let the reactor do other work, unless there is no time for that."""
        if not self._hurrying:
            waiting: Deferred[None] = Deferred()
            self._pause = waiting, self._clock.callLater(0, self._go_on)
            await waiting

    def _go_on(self) -> None:
        if self._pause is not None:
            (waiting, _), self._pause = self._pause, None
            waiting.callback(None)

    async def _apply_one(self, kind: str, name: str, *, anew: bool) -> None:
        key, text = (kind, name), self._settings.text(kind, name)
        wanted = None if text is None else parse(kind, name, text)
        if text is not None and wanted is None:
            self._log.error(
                "The maintenance {id} in the store can't be read, and is ignored: {text}",
                id=id_of(kind, name),
                text=text[:200],
            )
        entry = self.in_force.entries.get(id_of(kind, name))
        if text is None:
            self.over.pop(key, None)
        if wanted is not None and self.over.get(key) == wanted.given:
            wanted = None  # its end has come here already
        if wanted is None:
            if entry is not None:
                await self._end(entry, given_up=key in self.over and entry.maintenance.away)
            return
        self.over.pop(key, None)
        if entry is None:
            await self._begin(wanted, anew=anew)
        else:
            await self._change(entry, wanted, anew=anew)

    async def _begin(self, wanted: Maintenance, *, anew: bool) -> None:
        left = self._left(wanted, anew=anew)
        if left <= 0:
            self._note_over(wanted)
            return
        # Of a time long before a restart no heartbeat is under way.
        old = anew and self._wall() - wanted.at >= UNDER_WAY
        began = -inf if old else self._observed.now()
        entry = Entry(wanted, began, self._time(wanted) + left)
        self.in_force.begin(entry)
        self._wait_for(entry)
        async for some in self._components(wanted, self._unreadable(wanted)):
            self._tracker.spare(self.in_force.include(entry, some))
        self.notice(entry, "set")

    async def _change(self, entry: Entry, wanted: Maintenance, *, anew: bool) -> None:
        before, entry.maintenance = entry.maintenance, wanted
        if wanted.given != before.given:
            entry.ends = self._time(wanted) + self._left(wanted, anew=anew)
            self._wait_for(entry)
        if wanted._replace(nodeset=before.nodeset) != before:
            self.notice(entry, "changed")
        if wanted.nodeset == before.nodeset:
            return
        # The leader has removed those that are back.
        kept: set[str] = set()
        async for some in self._components(wanted, self._unreadable(wanted)):
            kept.update(some)
            self._tracker.spare(self.in_force.include(entry, some))
        async for some in self._components(before):
            gone = [xname for xname in some if xname not in kept]
            self._judge_anew(self.in_force.exclude(entry, gone))
        # A text that was made before it was known elsewhere who is back may have them still.
        if entry.left.isdisjoint(kept):
            self.with_returns.pop(wanted.id, None)
        else:
            self._note_returns(entry)

    async def _end(self, entry: Entry, *, given_up: bool) -> None:
        """End a maintenance; if `given_up`, its component is not back although it should be."""
        wanted = entry.maintenance
        del self.in_force.entries[wanted.id]
        self.with_returns.pop(wanted.id, None)
        self.notice(entry, "ended")
        async for some in self._components(wanted):
            free = self.in_force.exclude(entry, some)
            if given_up:
                self._tracker.give_up(free, self._observed.now(), _NOT_BACK)
            else:
                self._judge_anew(free)

    def _judge_anew(self, xnames: Collection[str]) -> None:
        # From now, and not from when the first ones were: these may have been heard since.
        params = self._params.current
        limits = params.warntime, params.errtime
        self._tracker.judge_anew(xnames, self._observed.now(), limits, _ENDED)

    async def _components(
        self, wanted: Maintenance, fault: Callable[[NodesetError], None] = lambda _: None
    ) -> AsyncIterator[list[str]]:
        async for some in components(wanted, self._turn, fault):
            yield some

    def _unreadable(self, wanted: Maintenance) -> Callable[[NodesetError], None]:
        """Return a function that logs why some components of a maintenance can't be read."""

        def log(error: NodesetError) -> None:
            self._log.error(
                "Some components of the maintenance {id} in the store can't be read, and are not in"
                " it: {error}",
                id=wanted.id,
                error=str(error),
            )

        return log

    # Ends

    def _time(self, wanted: Maintenance) -> float:
        """Return the present time of the clock by which the end of a maintenance is found."""
        return self._observed.now() if wanted.away else self._elapsed()

    def _left(self, wanted: Maintenance, *, anew: bool) -> float:
        """Return the seconds that a maintenance has left.

        If it was read anew from the store, it may have been there for any time. Otherwise it has
        just been written, by this replica or by another one, whose wall clock may be wrong.
        """
        granted = min(wanted.seconds, LONGEST)
        if not anew:
            return granted
        left = min(wanted.until - self._wall(), granted)
        if wanted.away and left > 0:
            # It may have come back while nobody could hear it.
            return max(left, self._params.current.warntime)
        return left

    def _wait_for(self, entry: Entry) -> None:
        ends = self._returns_due if entry.maintenance.away else self._ends
        heappush(ends, (entry.ends, entry.maintenance.id))
        if len(ends) > 2 * len(self.in_force.entries) + _STALE_ENDS:
            # Who is back early, or has its end moved, must not take memory until that was due.
            away = entry.maintenance.away
            kept = [e for e in self.in_force.entries.values() if e.maintenance.away is away]
            ends[:] = [(each.ends, each.maintenance.id) for each in kept]
            heapify(ends)
        self._set_timer()

    def _set_timer(self) -> None:
        """Wait for the next end."""
        self.stop()
        waits = [
            ends[0][0] - now
            for ends, now in (
                (self._ends, self._elapsed()),
                (self._returns_due, self._observed.now()),
            )
            if ends
        ]
        if waits:
            wait = max(min(*waits, _LONGEST_WAIT), _SHORTEST_WAIT)
            self._timer = self._clock.callLater(wait, self._look)

    def _look(self) -> None:
        """End what is over now."""
        for ends, now in (
            (self._ends, self._elapsed()),
            (self._returns_due, self._observed.now()),
        ):
            while ends and ends[0][0] <= now:
                time, id = heappop(ends)
                entry = self.in_force.entries.get(id)
                if entry is not None and entry.ends == time:
                    self._come_to_its_end(entry)
        self._timer = None
        self._set_timer()

    def _come_to_its_end(self, entry: Entry) -> None:
        wanted = entry.maintenance
        if self._leading() and not wanted.away:
            self._log.info(
                "Maintenance {id} has ended: {components} judged again, unless in another one.",
                id=wanted.id,
                components=counted(entry.number, "component"),
            )
        self._note_over(wanted)
        self._apply([(wanted.kind, wanted.name)], anew=False)

    def _note_over(self, wanted: Maintenance) -> None:
        self.over[wanted.kind, wanted.name] = wanted.given
        self._changed()

    # Returns

    def _is_return(self, xname: str, at: float, last_heard: float) -> bool:
        return self.in_force.is_return(xname, at, last_heard, self._patience)

    def _patience(self, xname: str) -> float:
        params = self._params.current
        return self._tracker.own_limits(xname).over(params.warntime, params.errtime)[0]

    def _returned(self, xname: str) -> bool:
        """End all maintenances that end with a return; return whether there is another one."""
        for entry in self.in_force.leave(xname):
            wanted = entry.maintenance
            if wanted.away:
                # It has no components left, so that nobody is judged when it is applied.
                self.in_force.entries.pop(wanted.id, None)
                self._note_over(wanted)
                self.notice(entry, "ended")
            else:
                self._note_returns(entry)
        return xname in self.in_force

    def _note_returns(self, entry: Entry) -> None:
        self.with_returns[entry.maintenance.id] = entry
        self._changed()
