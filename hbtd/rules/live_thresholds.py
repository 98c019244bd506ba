"""The thresholds in force: this replica's copy of those in the store, applied to the tracker."""

from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.rules.thresholds import (
    NO_THRESHOLDS,
    PORTION,
    Thresholds,
    ThresholdsRefused,
    build,
    doubts,
    read,
)
from hbtd.runtime.portions import in_portions
from hbtd.store.interface import IStore
from hbtd.store.settings import Setting
from hbtd.tracker.tracker import Tracker

KIND: Final = "thresholds"
"""The kind of the setting whose text is the table, `Thresholds.text`."""

NAME: Final = "all"
"""The name of that setting; there are no others of its kind."""

_HOLD: Final = 5.0
"""The most seconds for which sweeps wait for changes to be in force, in any twice as long."""


class LiveThresholds:
    """The thresholds in force on this replica, which follow those in the store.

    After a change, components whose times differ are judged as if they had been heard just now;
    that takes several portions of work if they are many. Meanwhile no sweep should begin (see
    `settle`): it would judge some by the times before.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        observed: Callable[[], float],
        tracker: Tracker,
        store: IStore,
        params: LiveParams,
    ) -> None:
        """Make the object; from now on it follows the settings of `store`.

        `observed` returns the observed time in seconds.
        """
        self._clock = clock
        self._observed = observed
        self._tracker = tracker
        self._store = store
        self._params = params
        self.current = NO_THRESHOLDS
        """The table in force."""
        self._text = ""
        # The text of a table that was set here, and the table.
        self._made: tuple[str, Thresholds] | None = None
        self._working = False
        self._waiting: list[Deferred[None]] = []
        # Sweeps wait until then at most, in seconds of the reactor's clock.
        self._hold_until = -inf
        store.settings.on_change(KIND, lambda names, anew: self._changed())
        params.on_change(self._params_changed)

    def times(self, xname: str) -> tuple[int, int]:
        """Return the warntime and the errtime of a component, tracked or not, in whole seconds."""
        params = self._params.current
        warntime, errtime = self.current.of(xname).over(params.warntime, params.errtime)
        return int(warntime), int(errtime)

    def put(self, made: Thresholds) -> Deferred[None]:
        """Replace the table in the store by `made`, for all replicas.

        The Deferred fires when the new table is in force on this replica, and must not be
        cancelled. It fails with `StoreUnusable` if the table can't be stored; the new table may be
        in force later even so, if only the answer of the store was lost.
        """
        return Deferred.fromCoroutine(self._put(made))

    async def _put(self, made: Thresholds) -> None:
        text = made.text
        self._made = text, made
        try:
            await self._store.write_settings([Setting(KIND, NAME, text or None)])
        finally:
            self._made = None
        await self._in_force()

    async def count(self, turn: Callable[[], Awaitable[None]]) -> list[int]:
        """Return, for each row of the table, the number of tracked components to which it applies.

        `turn` is awaited between portions of the work.
        """
        table, names = self.current, self._tracker.tracked()
        counts = [0] * len(table.rows)
        for start in range(0, len(names), PORTION):
            if start:
                await turn()
            for row in map(table.row_of, names[start : start + PORTION]):
                if row is not None:
                    counts[row] += 1
        return counts

    async def settle(self) -> bool:
        """Wait while a change comes into force, but no longer than is good; return whether so.

        If changes follow one another without end, the result is `False` at least half of the time,
        though some components may still be judged by the times before.
        """
        left = self._hold_until - self._clock.seconds()
        if not self._working or left <= 0:
            return False
        waiting = self._in_force()
        timer = self._clock.callLater(left, waiting.cancel)
        await waiting.addErrback(lambda _: None)
        if timer.active():
            timer.cancel()
        return True

    def _in_force(self) -> Deferred[None]:
        """Return a Deferred that fires when no change is coming into force."""
        waiting: Deferred[None] = Deferred()
        if self._working:
            self._waiting.append(waiting)
        else:
            waiting.callback(None)
        return waiting

    def _stored(self) -> str:
        return self._store.settings.text(KIND, NAME) or ""

    def _changed(self) -> None:
        if self._working or self._stored() == self._text:
            return  # who is at work looks again at the end
        self._working = True
        now = self._clock.seconds()
        if now >= self._hold_until + _HOLD:
            self._hold_until = now + _HOLD
        Deferred.fromCoroutine(self._follow())

    async def _follow(self) -> None:
        try:
            while (text := self._stored()) != self._text:
                self._text = text
                await self._apply(text)
        except Exception:  # noqa: BLE001  # judging has to go on
            self._log.failure(
                "A change of thresholds failed because of a bug in hbtd, and may be in force in"
                " part; set them again, or restart hbtd."
            )
        finally:
            self._working = False
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                if not each.called:
                    each.callback(None)

    async def _apply(self, text: str) -> None:
        """Put the table with this text in force, and judge those anew whose times differ."""
        here = self._made is not None and self._made[0] == text
        try:
            made = self._made[1] if self._made is not None and here else await self._build(text)
        except ThresholdsRefused as error:
            self._log.error(
                "The thresholds in the store can't be used, so those before stay in force:"
                " {error}.",
                error=str(error),
            )
            return
        before, self.current = self.current, made
        self._tracker.set_limits(made.of)
        async for names in in_portions(self._clock, self._tracker.tracked(), PORTION):
            params = self._params.current
            changed = [xname for xname in names if before.of(xname) != made.of(xname)]
            # From now, and not from when the first ones were: these may have been heard since.
            limits = params.warntime, params.errtime
            self._tracker.apply_limits(changed, self._observed(), limits)
        if not here:
            self._log.info("Thresholds in force: {rows}.", rows=made.described())
        self._advise()

    async def _build(self, text: str) -> Thresholds:
        """Return the table with a text; raise `ThresholdsRefused` if it can't be used."""
        building = build(read(text))
        while True:
            try:
                next(building)
            except StopIteration as end:
                made: Thresholds = end.value
                return made
            if len(self._tracker):  # at the start they have to be in force at once
                await deferLater(self._clock, 0)

    def _params_changed(self, old: Params, new: Params) -> None:
        if (new.warntime, new.errtime) != (old.warntime, old.errtime):
            self._advise()

    def _advise(self) -> None:
        """Log warnings about rows by which components die without being warned about."""
        params = self._params.current
        for doubt in doubts(self.current.rows, params.warntime, params.errtime):
            self._log.warn("{doubt}.", doubt=doubt)
