"""Compares HSM's table with the tracker; where they differ, sends judgements to HSM again.

The rules are in `difference.py`, `tellings.py` and `listeners.py`; this module applies them to HSM,
the store and the clock.
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from enum import Enum
from typing import Final, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.hsm.client import HSMClient, HSMUnavailable, TableMissing
from hbtd.hsm.difference import (
    Decision,
    Difference,
    Differences,
    Look,
    confirmed,
    decide,
    hold_back,
)
from hbtd.hsm.listeners import Listeners
from hbtd.hsm.listening import ListeningTime
from hbtd.hsm.notifier import Notifier
from hbtd.hsm.report import Report
from hbtd.hsm.retelling import Retelling
from hbtd.hsm.second_signal import SecondSignal
from hbtd.hsm.standing import Standing, Told
from hbtd.hsm.table_reader import PORTION, TableReader
from hbtd.hsm.tellings import MOST
from hbtd.runtime.periodic import PeriodicService
from hbtd.runtime.portions import in_portions
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.store.uncommitted import Uncommitted
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase

_T = TypeVar("_T")

SECOND_LOOK: Final = 10.0
"""Seconds from the end of the first reading of HSM's table to the beginning of the second."""

_MISSING: Final = 4
"""How many times as long as usual it takes until an HSM without a table is asked again."""

_POLL: Final = 1.0
"""Seconds between two looks at who was heard, and at whether a comparison is due."""

_AGAIN: Final = 60.0
"""The fewest seconds until what an operator has approved is compared again after a failure."""

_FEW: Final = 1000
"""The most contested components of which each is looked at whenever their number is asked for."""


class ReconcileImpossible(Exception):
    """Raised when HSM's table can't be compared with the tracker now; the message says why."""


class State(Enum):
    """What a reconciler is doing at the moment."""

    IDLE = "idle"
    FIRST_LOOK = "reading HSM's table"
    PAUSE = "waiting for the second look"
    SECOND_LOOK = "reading HSM's table again"
    TELLING = "telling HSM"


class Reconciler(Service):
    """Compares HSM's table with the tracker; where they differ, sends judgements to HSM again.

    Only the leader makes comparisons: when it begins to lead, when HSM is ready again, every
    `sm_sync` seconds after that, and on request. The table is read twice, ten seconds apart; only
    differences that are found both times count. While `nosm` is set, differences are reported, but
    HSM is not told.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        observed: Callable[[], float],
        client: HSMClient,
        params: LiveParams,
        tracker: Tracker,
        uncommitted: Uncommitted,
        store: IStore,
        notifier: Notifier,
        leading: Callable[[], bool],
        second_signal: SecondSignal,
    ) -> None:
        """Make a reconciler that has yet to be started.

        `wall` returns the Unix time, `observed` the time of the observed clock in seconds, and
        `leading` whether this replica leads. `second_signal` is shown each row of HSM's table.
        """
        self._clock = clock
        self._wall = wall
        self._observed = observed
        self._params = params
        self._tracker = tracker
        self._uncommitted = uncommitted
        self._store = store
        self._notifier = notifier
        self._leading = leading
        self._polling = PeriodicService(
            clock, _POLL, self._poll, "the comparison of HSM's table", now=False
        )
        self._reader = TableReader(clock, client, tracker, second_signal)
        # Of the comparison in progress, and of the last one that was completed.
        self._counting: Listeners | None = None
        self._listeners = Listeners(self._last_heard)
        self._retelling = Retelling(
            clock,
            wall,
            params,
            tracker,
            store,
            notifier,
            self._certain,
            lambda: bool(self.running) and self._can(),
        )
        self._turn = DeferredLock()
        self._run: Deferred[Report] | None = None
        self._could = False
        self._due = 0.0
        # Which of the HSMs that have been used it is that is used now.
        self._hsm = 0
        # Whether an operator wants all deaths told, and that has yet to be done.
        self._approved = False
        self._listened = ListeningTime()
        self.second_signal = second_signal
        """What HSM's table says of who is silent or absent, which decides nothing."""
        # For how long this replica has to listen before it tells alarms that the last look found.
        self._needed: set[float] = set()
        self.state = State.IDLE
        """What the reconciler is doing at the moment."""
        self.last: Report | None = None
        """The result of the last completed comparison; `None` before the first one."""
        self.failure: str | None = None
        """Why the last comparison failed; `None` if it was completed, or if there was none."""
        self.begun = 0
        """The number of comparisons that have begun; also the `Report.number` of the latest one."""
        self.comparisons = 0
        """The number of comparisons that were completed."""
        self.failures = 0
        """The number of comparisons that failed."""
        params.on_change(self._params_changed)

    def startService(self) -> None:
        """Start comparing HSM's table with the tracker whenever a comparison is due."""
        super().startService()
        self._polling.startService()

    def stopService(self) -> Deferred[None]:
        """Stop, and cancel a comparison in progress; the Deferred fires when that is done."""
        super().stopService()
        self._forget_listeners()
        if self._run is not None:
            self._run.cancel()
        return self._polling.stopService()

    @property
    def told_count(self) -> int:
        """The number of times that HSM was told again of a component since this process started."""
        return self._retelling.count

    @property
    def contested(self) -> int:
        """The number of components that somebody else keeps changing in HSM's table.

        It is the number as of the last comparison, without those that have changed since.
        """
        return 0 if self.last is None else len(self._contested(self.last))

    @property
    def waiting(self) -> int:
        """The number of components that HSM is told of again once they have been heard twice."""
        return len(self._listeners)

    @property
    def leading(self) -> bool:
        """Whether this replica leads; only the leader compares HSM's table."""
        return self._leading()

    @property
    def every(self) -> int:
        """Seconds between two comparisons (`sm_sync`); 0 if they are made on request only."""
        return self._params.current.sm_sync

    @property
    def requested(self) -> bool:
        """Whether another comparison is to begin as soon as the current one has ended."""
        return bool(self._turn.waiting)

    def request(self, *, dry_run: bool = False) -> Deferred[Report]:
        """Compare HSM's table with the tracker now; where they differ, send judgements again.

        HSM is told of all deaths, however many they are. With `dry_run`, HSM is told nothing, and
        too many deaths are held, as if nobody had requested the comparison. A comparison in
        progress is completed first. The Deferred fires with the result after the table was read
        twice, just before HSM is told. It fails with `ReconcileImpossible` if the comparison can't
        be made.
        """
        return Deferred.fromCoroutine(self._requested(dry_run=dry_run))

    async def _requested(self, *, dry_run: bool) -> Report:
        if not self._leading():
            raise ReconcileImpossible("another replica leads")
        # What is held stays so, as the metrics and /health say, until somebody wants it told.
        return await self._turn.run(self._begin, approved=not dry_run, dry_run=dry_run)

    def standing(self, xname: str) -> Standing:
        """Return whether HSM was told of the latest transition of a tracked component.

        The result is the one of `Notifier.standing`, except that `told` is `Told.CONTESTED` for a
        component that somebody else keeps changing in HSM's table.
        """
        standing = self._notifier.standing(xname)
        difference = None if self.last is None else self.last.contested.get(xname)
        if standing.told is not Told.TOLD or difference is None or not self._lasts(difference):
            return standing
        return Standing(
            Told.CONTESTED,
            standing.at,
            f"its table says {difference.said} although it was told {MOST} times: somebody else"
            " writes it",
        )

    def _contested(self, report: Report) -> Collection[Difference]:
        """Return the contested differences, without those of components that have changed since.

        If they are many, return all: to look at each takes time, and some of them last.
        """
        found = report.contested
        return found if len(found) > _FEW else [each for each in found if self._lasts(each)]

    def _lasts(self, difference: Difference) -> bool:
        """Return whether a component is still in the phase in which a difference was found."""
        xname, since = difference.component, self._reader.since(difference.component)
        same = since == difference.since or not (since and difference.since)
        return self._tracker.phase(xname) is difference.phase and same

    def trouble(self) -> str | None:
        """Return a text about differences of the last comparison that HSM is not told of.

        These are the differences in `Report.contested` and in `Report.held`. Of each, the text says
        how many there are, names the first component, and says why HSM is not told. Return `None`
        if there are no such differences, or if there was no comparison.
        """
        return None if self.last is None else self.last.trouble(self._contested(self.last))

    def _can(self) -> bool:
        """Return whether HSM's table may be compared at this moment."""
        return self._leading() and (self._notifier.hsm_ready or self._params.current.nosm)

    def _params_changed(self, old: Params, new: Params) -> None:
        if (new.sm_url, new.nosm) != (old.sm_url, old.nosm):
            self._due = self._clock.seconds()
        if new.sm_url != old.sm_url:
            # What was found is true of the other HSM.
            self._hsm += 1
            self._approved = False
            self._forget_listeners()
            self._retelling.begin()
            self._retelling.forget_begun()
            self.last = None

    def _forget_listeners(self) -> None:
        self._counting, self._listeners = None, Listeners(self._last_heard)

    async def _poll(self) -> None:
        self._lacks()
        before, self._could = self._could, self._can()
        if not self._could:
            self._forget_listeners()
            if not self._leading():
                # Another replica compares, and knows better.
                self.last, self._approved = None, False
                self._retelling.forget_begun()
            return
        if not before:
            self._due = self._clock.seconds()
        await self._listen()
        with suppress(StoreUnusable):  # it is tried again with the next poll
            await self._retelling.note()
        every = self._params.current.sm_sync
        busy = self._turn.locked or self._retelling.busy
        if (every or self._approved) and not busy and self._clock.seconds() >= self._due:
            self._due = self._clock.seconds() + every
            due = self._turn.run(self._begin, approved=False, dry_run=False)
            due.addErrback(self._not_compared)

    def _begin(self, *, approved: bool, dry_run: bool) -> Deferred[Report]:
        """Compare HSM's table; the Deferred fails with `ReconcileImpossible` if that fails."""
        if not self.running:
            return fail(ReconcileImpossible("hbtd stops"))
        self._run = run = Deferred.fromCoroutine(self._compare(approved=approved, dry_run=dry_run))
        outcome: Deferred[Report] = Deferred()
        # Cancelling the run, at a stop, has to end it, whoever waits for its outcome.
        run.addBoth(self._ended).addCallbacks(outcome.callback, outcome.errback)
        return outcome

    def _not_compared(self, failure: Failure) -> None:
        if failure.check(ReconcileImpossible) is None:
            self._log.failure(
                "Comparing HSM's table failed because of a bug in hbtd;"
                " it is compared again after sm_sync seconds.",
                failure,
            )

    def _ended(self, result: _T) -> _T:
        self._run = None
        self.state = State.IDLE
        return result

    async def _compare(self, *, approved: bool, dry_run: bool) -> Report:
        self.begun += 1
        nosm = self._params.current.nosm
        report = Report(self.begun, self._wall(), dry_run=dry_run, nosm=nosm)
        hsm = self._hsm
        # A dry run counts nobody's heartbeats: those of the last comparison are waited for.
        counting = None if dry_run else Listeners(self._last_heard, self._listeners)
        self._counting = counting
        # Whoever has asked for this comparison is told if it fails, and may ask again.
        carried = self._approved and not approved and not dry_run
        approved |= carried
        if not dry_run:
            self._approved = False
        try:
            decision = await self._decide(report, counting, approved=approved)
            await self._turn_over()
            if not self._can() or hsm != self._hsm:
                raise HSMUnavailable("another replica leads now, or HSM is not ready any more")
            self.comparisons += 1
            self.last, self.failure = report, None
            self._note(report)
            if counting is not None:
                self.state = State.TELLING
                lacking = [self._lacks(), *map(self._lacks, self._needed)]
                left = [lacks for lacks in lacking if lacks > 0]
                self._approved = approved and len(left) > 0 and len(decision.unsettled) > 0
                if self._approved:
                    self._due = self._clock.seconds() + min(left)
                now = self._observed()
                counting.wait_for(decision.listen.copy(), lambda x: now + self._errtime(x))
                self._listeners = counting
                self._retelling.begin()
                # It is not waited for: whoever has asked is told what is about to happen.
                telling = self._retelling.tell(report.told)
                if approved:
                    telling.addCallback(self._told_approved, self.begun, hsm)
        except TableMissing as error:
            # It may be back one day; until then that is no news.
            self._due = self._clock.seconds() + _MISSING * self._params.current.sm_sync
            if carried:
                self._carry_on(hsm, max(self._due, self._clock.seconds() + _AGAIN))
            why = f"HSM's table can't be read, and is not compared: {error}"
            raise self._failed(why) from error
        except (HSMUnavailable, StoreUnusable) as error:
            if not self.running:
                raise ReconcileImpossible("hbtd stops") from error
            if carried:
                self._carry_on(hsm, max(self._due, self._clock.seconds() + _AGAIN))
            raise self._failed(f"HSM's table could not be compared: {error}") from error
        except CancelledError as error:
            raise ReconcileImpossible("hbtd stops") from error
        finally:
            self._counting = None
        return report

    def _told_approved(self, left_out: bool, number: int, hsm: int) -> None:
        """Compare again if not all was told that an operator has approved.

        HSM was not ready meanwhile, or this replica has to listen anew. `number` is that of the
        comparison; a later one knows better.
        """
        if left_out and number == self.begun and not self._params.current.nosm:
            self._carry_on(hsm, self._clock.seconds() + self._lacks())

    def _carry_on(self, hsm: int, due: float) -> None:
        """Let the next comparison, at `due`, be approved as the present one was.

        Do nothing if another replica leads by now, or another HSM is used than `hsm`.
        """
        if self._leading() and hsm == self._hsm:
            self._approved, self._due = True, due

    def _failed(self, why: str) -> ReconcileImpossible:
        self.failures += 1
        known, self.failure = why == self.failure, why
        if not known:
            self._log.warn("{why}", why=why)
        return ReconcileImpossible(why)

    async def _decide(
        self, report: Report, counting: Listeners | None, *, approved: bool
    ) -> Decision:
        """Look twice; fill in a report, and return what is to be done.

        `counting` begins to count heartbeats of the living after the first look.
        """
        self.state = State.FIRST_LOOK
        first = await self._reader.look()
        heard_at = self._observed()
        if counting is not None:
            async for names in self._portions(first.differences.components()):
                some = first.differences.of(names)
                living = [each.component for each in some if each.phase is Phase.HEALTHY]
                counting.count(living, heard_at)
        self.state = State.PAUSE
        await deferLater(self._clock, SECOND_LOOK)
        self.state = State.SECOND_LOOK
        # What is told from here on may be told too late for the rows that are read.
        self._retelling.begin_look()
        looked_at = self._wall()
        second = await self._reader.look()
        if not self._retelling.busy:
            await self._retelling.load(PORTION)
        decision = await self._classify(first, second)
        report.rows = second.rows
        report.unknown = await self._reader.unknown(first, second, looked_at)
        if not approved:
            decision = hold_back(decision)
        report.take(decision)
        # It takes some milliseconds to free what a look has found.
        del first
        await self._turn_over()
        return decision

    def _errtime(self, xname: str) -> float:
        errtime = self._params.current.errtime
        return self._tracker.own_limits(xname).over(errtime, errtime)[1]

    def _lacks(self, needed: float | None = None) -> float:
        """Return for how many seconds this replica has yet to listen before it tells alarms.

        Who leads anew, or was suspended, may not have heard yet who is back: another writer of
        HSM's table may know better. So it must have led for Errtime without a gap, or for `needed`
        seconds, the Errtime of a component's own.
        """
        return self._listened.lacks(
            self._clock.seconds(),
            self._observed(),
            self._leading(),
            self._params.current.errtime,
            needed,
        )

    async def _classify(self, first: Look, second: Look) -> Decision:
        """Return what is to be done about what both looks have shown, however many deaths.

        If this replica has yet to listen, HSM is not told again of the silent, and its table is
        compared again after that.
        """
        found = Decision(*(Differences() for _ in Decision._fields))
        self._needed.clear()
        async for names in self._portions(second.differences.components()):
            some = confirmed(first.differences, second.differences.of(names))
            part = decide(
                some,
                settled=lambda x: x not in self._retelling.told_lately and self._certain(x),
                tellings=self._retelling.tellings,
                now=self._wall(),
                approved=True,
            )
            for mine, more in zip(found, part, strict=True):
                mine.update(more)
            silent = (each.component for each in some if each.phase is not Phase.HEALTHY)
            lacking = {needed: self._lacks(needed) for needed in set(map(self._errtime, silent))}
            for needed, lacks in lacking.items():
                if lacks:
                    self._needed.add(needed)
                    self._due = min(self._due, self._clock.seconds() + lacks)
        return found

    def _portions(self, names: list[str]) -> AsyncIterator[list[str]]:
        """Return some names in portions, before each of which the reactor does other work."""
        return in_portions(self._clock, names, PORTION)

    def _turn_over(self) -> Deferred[None]:
        """Return a Deferred that fires when the reactor has done other work."""
        return deferLater(self._clock, 0)

    def _last_heard(self, xname: str) -> float | None:
        component = self._tracker.component(xname)
        return None if component is None else component.last_heard

    def _certain(self, xname: str) -> bool:
        """Return whether HSM has acknowledged the latest judgement on a component for good.

        The judgement must be beyond doubt, too: of the silent, it is so only after Errtime.
        """
        if xname in self._uncommitted:
            return False
        if self._tracker.phase(xname) is not Phase.HEALTHY and self._lacks(self._errtime(xname)):
            return False
        return self._notifier.standing(xname).told is Told.TOLD

    async def _listen(self) -> None:
        """Tell HSM of those who have been heard often enough by now."""
        heard = Differences()
        for listeners in (self._counting, self._listeners):
            if listeners is not None:
                async for portion in self._portions(listeners.counted()):
                    listeners.look(portion)
                    heard.update(listeners.take(portion, self._observed()))
        if heard:
            self._retelling.tell(heard)

    def _note(self, report: Report) -> None:
        """Log what was found, if anything was, in a line."""
        if said := report.described():
            if report.nosm:
                said = f"nosm is set, so HSM is told nothing; {said}"
            self._log.warn("HSM's table and hbtd disagree about components; {said}.", said=said)
        if names := report.described_unknown():
            self._log.info(
                "HSM's table lacks components that send heartbeats: {names}.", names=names
            )
