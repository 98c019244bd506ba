"""Compares HSM's table with the tracker from time to time, and tells HSM again what is wrong there.

The rules are in `difference.py`, `tellings.py` and `listeners.py`. Here they meet HSM, the store
and the clock.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.config.live_params import LiveParams
from hbtd.formats import xnames
from hbtd.formats.counts import counted
from hbtd.formats.nodesets import count_names
from hbtd.hsm.client import HSMClient, HSMUnavailable, TableMissing
from hbtd.hsm.difference import Decision, Difference, Look, confirmed, decide
from hbtd.hsm.listeners import Listeners
from hbtd.hsm.notifier import Notifier
from hbtd.hsm.standing import Standing, Told
from hbtd.hsm.tellings import MOST, NOTES, Tellings
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.store.uncommitted import Uncommitted
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Phase

_T = TypeVar("_T")

SECOND_LOOK: Final = 10.0
"""Seconds after the end of the first look at which the second one begins."""

_MISSING: Final = 4
"""How many times as long as usual it takes until an HSM without a table is asked again."""

_POLL: Final = 1.0
"""Seconds between two looks at who was heard, and at whether a comparison is due."""

_PORTION: Final = 2000
"""The most components handled before the reactor does other work: some milliseconds' worth."""

_TELL: Final = 500
"""The most components that are told again at a time."""

_MOST_PENDING: Final = 2000
"""While HSM has yet to be told of more components than this, none is told again."""


class ReconcileImpossible(Exception):
    """HSM's table can't be compared now; the message says why."""


class State(Enum):
    """What a reconciler does at the moment."""

    IDLE = "idle"
    FIRST_LOOK = "reading HSM's table"
    PAUSE = "waiting for the second look"
    SECOND_LOOK = "reading HSM's table again"
    TELLING = "telling HSM"


@dataclass
class Report:
    """What a comparison of HSM's table has found, and what was done about it."""

    number: int
    """The number of the comparison, from 1 on, since this process started."""
    at: float
    """When the first look began: the Unix time."""
    dry_run: bool = False
    """Whether nothing was to be told."""
    rows: int = 0
    """How many rows the second look has read."""
    told: Sequence[Difference] = ()
    """What HSM is told again, at once."""
    waiting: Sequence[Difference] = ()
    """What it is told once the component was heard twice since the first look."""
    held: Sequence[Difference] = ()
    """Deaths that it is told only if an operator asks for it: they are too many."""
    contested: Sequence[Difference] = ()
    """What it was told three times today, in vain."""
    unsettled: Sequence[Difference] = ()
    """What it is being told anyway."""
    unknown: Sequence[str] = ()
    """Components that beat, but are not in HSM's table."""

    @property
    def differences(self) -> int:
        """How many components HSM's table is wrong about."""
        groups = (self.told, self.waiting, self.held, self.contested, self.unsettled)
        return sum(map(len, groups))


class Reconciler(Service):
    """Compares HSM's table with the tracker, and tells HSM again what it has wrong.

    That is done by the leader: when it begins to lead, when HSM is ready again, every `sm_sync`
    seconds after that, and on request. Everything is looked at twice, ten seconds apart. With
    `nosm`, what was found is reported only.
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
    ) -> None:
        """Make a reconciler that has yet to be started.

        `wall` returns the Unix time, `observed` the observed time, and `leading` whether this
        replica leads.
        """
        self._clock = clock
        self._wall = wall
        self._observed = observed
        self._client = client
        self._params = params
        self._tracker = tracker
        self._uncommitted = uncommitted
        self._store = store
        self._notifier = notifier
        self._leading = leading
        self._polling = PeriodicService(
            clock, _POLL, self._poll, "the comparison of HSM's table", now=False
        )
        self._listeners = Listeners(self._last_heard)
        self._tellings = Tellings()
        self._turn = DeferredLock()
        self._run: Deferred[Report] | None = None
        self._could = False
        self._due = 0.0
        self._missing: str | None = None
        self._contested: dict[str, Difference] = {}
        self.state = State.IDLE
        """What is done at the moment."""
        self.last: Report | None = None
        """What the last comparison has found, `None` before the first one."""
        self.failure: str | None = None
        """Why the last comparison came to no end; `None` if it did."""
        self.begun = 0
        """The number of the last comparison that has begun; 0 before the first one."""
        self.comparisons = 0
        """How many comparisons came to an end."""
        self.failures = 0
        """How many did not."""
        self.told_count = 0
        """How many components HSM was told again of."""

    def startService(self) -> None:
        """Begin to compare HSM's table from time to time."""
        super().startService()
        self._polling.startService()

    def stopService(self) -> Deferred[None]:
        """Give up a comparison; the Deferred fires when there is none any more."""
        super().stopService()
        self._listeners.clear()
        if self._run is not None:
            self._run.cancel()
        return self._polling.stopService()

    @property
    def contested(self) -> int:
        """How many components were contested at the last comparison."""
        return len(self._contested)

    @property
    def waiting(self) -> int:
        """How many components HSM is told again of once they were heard twice."""
        return len(self._listeners)

    @property
    def leading(self) -> bool:
        """Whether this replica is the one that compares HSM's table."""
        return self._leading()

    @property
    def every(self) -> int:
        """Seconds between two comparisons; 0 for none but those that are requested."""
        return self._params.current.sm_sync

    @property
    def requested(self) -> bool:
        """Whether a comparison is to begin as soon as the present one has ended."""
        return bool(self._turn.waiting)

    def request(self, *, dry_run: bool = False) -> Deferred[Report]:
        """Compare HSM's table now, however many deaths it lacks; with `dry_run` tell nothing.

        The Deferred fires after the second look, when HSM is about to be told; a comparison that
        is going on comes to its end before. It fails with `ReconcileImpossible` if that can't be
        done.
        """
        return Deferred.fromCoroutine(self._requested(dry_run=dry_run))

    async def _requested(self, *, dry_run: bool) -> Report:
        if not self._leading():
            raise ReconcileImpossible("another replica leads")
        return await self._turn.run(self._begin, approved=True, dry_run=dry_run)

    def standing(self, xname: str) -> Standing:
        """Return whether HSM was told of the latest transition of a tracked component.

        That is what the notifier says; but a contested component is said to be contested.
        """
        standing = self._notifier.standing(xname)
        difference = self._contested.get(xname)
        if standing.told is not Told.TOLD or difference is None:
            return standing
        if self._tracker.phase(xname) is not difference.phase:
            return standing
        return Standing(
            Told.CONTESTED,
            standing.at,
            f"its table said {difference.said} again after it was told {MOST} times today: somebody"
            " else writes it",
        )

    def trouble(self) -> str | None:
        """Return what HSM has wrong for long, as of the last comparison; `None` if nothing."""
        if self.last is None:
            return None
        for group, why in (
            (self.last.contested, "somebody else writes them in HSM's table"),
            (self.last.held, "dead, and not told without `hbtctl reconcile`: they are too many"),
        ):
            if group:
                first = group[0]
                count = counted(len(group), "component")
                return f"{count}, first {first.component} ({first.said}): {why}"
        return None

    def _can(self) -> bool:
        """Return whether HSM's table may be compared at this moment."""
        return self._leading() and (self._notifier.hsm_ready or self._params.current.nosm)

    async def _poll(self) -> None:
        before, self._could = self._could, self._can()
        if not self._could:
            self._listeners.clear()
            if not self._leading():
                # Another replica compares, and knows better.
                self.last, self._contested = None, {}
            return
        if not before:
            self._due = self._clock.seconds()
        await self._listen()
        every = self._params.current.sm_sync
        if every and not self._turn.locked and self._clock.seconds() >= self._due:
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
            self._log.failure("Comparing HSM's table failed because of a bug in hbtd.", failure)

    def _ended(self, result: _T) -> _T:
        self._run = None
        self.state = State.IDLE
        return result

    async def _compare(self, *, approved: bool, dry_run: bool) -> Report:
        self.begun += 1
        report = Report(self.begun, self._wall(), dry_run=dry_run)
        try:
            decision = await self._decide(report, approved=approved)
            self.comparisons += 1
            self.last, self.failure, self._missing = report, None, None
            self._contested = {each.component: each for each in report.contested}
            self._note(report)
            if not dry_run:
                self.state = State.TELLING
                until = self._observed() + self._params.current.errtime
                self._listeners.wait_for(decision.listen, until)
                # It is not waited for: whoever has asked is told what is about to happen.
                self._tell(decision.tell).addErrback(self._not_told)
        except TableMissing as error:
            # It may be back one day; until then that is no news.
            self._due = self._clock.seconds() + _MISSING * self._params.current.sm_sync
            known, self._missing = self._missing, self._params.current.sm_url
            raise self._failed(
                f"HSM's table can't be read, and is not compared: {error}",
                known=known == self._missing,
            ) from error
        except (HSMUnavailable, StoreUnusable) as error:
            raise self._failed(f"HSM's table could not be compared: {error}") from error
        except CancelledError as error:
            raise ReconcileImpossible("hbtd stops") from error
        return report

    def _failed(self, why: str, *, known: bool = False) -> ReconcileImpossible:
        self.failures += 1
        self.failure = why
        if not known:
            self._log.warn("{why}", why=why)
        return ReconcileImpossible(why)

    async def _decide(self, report: Report, *, approved: bool) -> Decision:
        """Look twice; fill in a report, and return what is to be done."""
        self.state = State.FIRST_LOOK
        first = await self._look()
        living = [
            each.component for each in first.differences.values() if each.phase is Phase.HEALTHY
        ]
        self._listeners.count_from(living, self._observed())
        self.state = State.PAUSE
        await deferLater(self._clock, SECOND_LOOK)
        self.state = State.SECOND_LOOK
        second = await self._look()
        self._tellings = Tellings(await self._store.notes(NOTES))
        await self._drop_outdated()
        if not self._can():
            raise HSMUnavailable("another replica leads now, or HSM is not ready any more")
        now = self._wall()
        decision = decide(
            confirmed(first.differences, second.differences),
            settled=self._settled,
            tellings=self._tellings,
            now=now,
            approved=approved,
        )
        report.rows = second.rows
        report.told, report.waiting, report.held, report.contested, report.unsettled = decision
        report.unknown = await self._unknown(first, second)
        return decision

    async def _look(self) -> Look:
        """Read HSM's table, and compare it with the tracker."""
        types = await self._types()
        look = Look(self._tracker.phase, self._since)
        if types:
            await self._client.read_table(sorted(types), look.add)
        return look

    async def _types(self) -> Collection[str]:
        """Return the types of the tracked components."""
        types: set[str] = set()
        async for portion in self._portions(self._tracker.tracked()):
            types.update(map(xnames.type_of_valid, portion))
        return types - {""}

    async def _unknown(self, first: Look, second: Look) -> list[str]:
        """Return the healthy components that HSM's table had in neither look."""
        unknown: list[str] = []
        async for portion in self._portions(self._tracker.tracked()):
            missing = first.missing(second.missing(portion))
            unknown += [each for each in missing if self._tracker.phase(each) is Phase.HEALTHY]
        return unknown

    async def _portions(self, names: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        """Return some names in portions, between which the reactor does other work."""
        for start in range(0, len(names), _PORTION):
            yield names[start : start + _PORTION]
            await deferLater(self._clock, 0)

    def _since(self, xname: str) -> float:
        component = self._tracker.component(xname)
        return 0.0 if component is None else component.since

    def _last_heard(self, xname: str) -> float | None:
        component = self._tracker.component(xname)
        return None if component is None else component.last_heard

    def _settled(self, xname: str) -> bool:
        """Return whether HSM has acknowledged the latest judgement on a component for good."""
        if xname in self._uncommitted:
            return False
        return self._notifier.standing(xname).told is Told.TOLD

    async def _drop_outdated(self) -> None:
        """Delete the notes on tellings that don't count any more."""
        current = [
            (xname, self._tracker.phase(xname), self._since(xname))
            for xname in self._tellings.components()
        ]
        gone = self._tellings.outdated(self._wall(), current)
        if gone:
            await self._store.write_notes(NOTES, dict.fromkeys(gone))

    async def _listen(self) -> None:
        """Tell HSM of those who have been heard often enough by now."""
        async for portion in self._portions(self._listeners.counted()):
            self._listeners.look(portion)
        heard = self._listeners.take(self._observed())
        if heard:
            await self._tell(heard).addErrback(self._not_told)

    def _tell(self, differences: Sequence[Difference]) -> Deferred[None]:
        """Tell HSM again, in portions, and not faster than it takes that.

        The Deferred fails with `StoreUnusable` if it can't be noted how often it was told.
        """
        return Deferred.fromCoroutine(self._tell_portions(differences))

    async def _tell_portions(self, differences: Sequence[Difference]) -> None:
        for start in range(0, len(differences), _TELL):
            while self._notifier.pending_count > _MOST_PENDING and self._can():
                await deferLater(self._clock, _POLL)
            # Noted before it is told: a crash in between must not make one too many of it.
            due = [each for each in differences[start : start + _TELL] if self._holds(each)]
            if not due:
                continue
            now = self._wall()
            notes = {
                each.component: self._tellings.add(each.component, each.phase, each.since, now)
                for each in due
            }
            await self._store.write_notes(NOTES, notes)
            again = [self._judgement(each) for each in due if self._holds(each)]
            self.told_count += len(again)
            self._notifier.tell_again(again)

    def _holds(self, difference: Difference) -> bool:
        """Return whether HSM may still be told of a difference: nothing has changed meanwhile."""
        xname = difference.component
        return (
            bool(self.running)
            and self._can()
            and not self._params.current.nosm
            and self._tracker.phase(xname) is difference.phase
            and self._settled(xname)
        )

    def _judgement(self, difference: Difference) -> Judgement:
        component = self._tracker.component(difference.component)
        timestamp = "" if component is None else component.timestamp
        why = f"HSM's table says {difference.said}"
        return Judgement(
            difference.component,
            difference.transition,
            timestamp,
            difference.phase,
            why,
            difference.since,
        )

    def _not_told(self, failure: Failure) -> None:
        if failure.check(StoreUnusable, CancelledError) is None:
            self._log.failure("Telling HSM again failed because of a bug in hbtd.", failure)
            return
        self._log.info(
            "HSM is told again of what its table has wrong after the next comparison only: {why}",
            why=failure.getErrorMessage() or "hbtd stops",
        )

    def _note(self, report: Report) -> None:
        """Log what was found, if anything was, in a line."""
        said = [
            f"{what}: {_names(group)}"
            for what, group in (
                ("would be told again" if report.dry_run else "told again", report.told),
                ("told again once heard twice", report.waiting),
                ("more deaths than are told without `hbtctl reconcile`", report.held),
                ("contested, left alone", report.contested),
                ("being told anyway", report.unsettled),
            )
            if group
        ]
        if self._params.current.nosm and said:
            said.insert(0, "nosm is set, so HSM is told nothing")
        if said:
            self._log.warn("HSM's table is wrong; {said}.", said="; ".join(said))
        if report.unknown:
            self._log.info(
                "HSM does not know components that beat: {names}.",
                names=count_names(report.unknown),
            )


def _names(differences: Iterable[Difference]) -> str:
    return count_names([each.component for each in differences])
