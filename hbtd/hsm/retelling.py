"""Sends judgements to HSM again where its table differs from the tracker.

The judgements are sent in portions, and only if they are still true. The store keeps how often HSM
was told again of each component.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.config.live_params import LiveParams
from hbtd.hsm.difference import Difference, Differences
from hbtd.hsm.notifier import Notifier
from hbtd.hsm.standing import Told
from hbtd.hsm.tellings import NOTES, Tellings
from hbtd.runtime.portions import in_portions
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement

TOLD_TO: Final = "told-again-to"
"""The kind of the store's note that says which HSM was told again; see `IStore.notes`.

The text of the note is a digest of the parameter `sm_url`.
"""

_POLL: Final = 1.0
"""Seconds between two looks at whether HSM has caught up."""

_TELL: Final = 100
"""The most components that are told again before the reactor does other work."""

_MOST_PENDING: Final = 2000
"""While HSM has yet to be told of more components than this, none is told again."""


class Retelling:
    """Sends judgements to HSM again, in portions, and only those that are still true.

    The store keeps how often HSM was told again of each component (see `Tellings`).
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        params: LiveParams,
        tracker: Tracker,
        store: IStore,
        notifier: Notifier,
        settled: Callable[[str], bool],
        allowed: Callable[[], bool],
    ) -> None:
        """Make an object whose counts are 0; `load` reads the counts that the store keeps.

        `wall` returns the Unix time in seconds. `settled` takes an xname, and returns whether HSM
        has acknowledged the component's latest judgement for good (no older update can undo the
        effect), and the judgement is beyond doubt. `allowed` returns whether HSM may be told
        anything at this moment.
        """
        self._clock = clock
        self._wall = wall
        self._params = params
        self._tracker = tracker
        self._store = store
        self._notifier = notifier
        self._settled = settled
        self._allowed = allowed
        self._round = 0
        self._works = 0
        # By component: the note of a telling that HSM has yet to acknowledge.
        self._begun: dict[str, str] = {}
        self.told_lately: set[str] = set()
        """The components of which HSM was told again since `begin_look` was called.

        Those of whom HSM had yet to acknowledge it then are among them.
        """
        self.tellings = Tellings()
        """How often HSM was told again of each component, by this process and by earlier ones."""
        self.count = 0
        """The number of times that HSM was told again of a component since this process started."""

    def begin_look(self) -> None:
        """Begin `told_lately` anew, because the rows that are read from now on may be outdated."""
        self.told_lately = set(self._begun)

    @property
    def busy(self) -> bool:
        """Whether HSM is being told: `tell` was called, and its Deferred has yet to fire."""
        return self._works > 0

    async def load(self, portion: int) -> None:
        """Read from the store how often HSM was told again of each component.

        Delete outdated counts: those made while another HSM was used, and those that
        `Tellings.outdated` describes. At most `portion` components are handled before the reactor
        does other work. Raise `StoreUnusable` if the store can't be used.
        """
        notes = await self._store.notes(NOTES)
        url = sha256(self._params.current.sm_url.encode()).hexdigest()[:16]
        before = (await self._store.notes(TOLD_TO)).get("sm_url")
        if before != url:
            # What one HSM was told says nothing of who writes another one's table.
            if before is not None:
                await self._delete(list(notes))
                notes = {}
            await self._store.write_notes(TOLD_TO, {"sm_url": url})
        tellings = Tellings()
        gone: list[str] = []
        async for some in in_portions(self._clock, list(notes), portion):
            tellings.read((name, notes[name]) for name in some)
            current = [(name, self._tracker.phase(name), self._since(name)) for name in some]
            gone += tellings.outdated(self._wall(), current)
        tellings.read(self._begun.items())
        self.tellings = tellings
        await self._delete(gone)
        await deferLater(self._clock, 0)

    async def _delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), _TELL):
            await self._store.write_notes(NOTES, dict.fromkeys(names[start : start + _TELL]))

    def _since(self, xname: str) -> float:
        component = self._tracker.component(xname)
        return 0.0 if component is None else component.since

    def begin(self) -> int:
        """Begin a new round of telling HSM again, which ends the previous round.

        Calls of `tell` made in the previous round tell HSM nothing more. Return the number of the
        new round.
        """
        self._round += 1
        return self._round

    def tell(self, differences: Differences) -> Deferred[bool]:
        """Tell HSM again of `differences`, in portions, as fast as HSM acknowledges updates.

        The Deferred fires when the last portion was passed to the notifier, when `begin` has ended
        the round, when HSM may not be told any more, or after an error, which is logged. It fires
        with whether some were left out that have not changed since. It never fails.
        """
        self._works += 1
        work = Deferred.fromCoroutine(self._tell(differences, self._round))
        return work.addErrback(self._not_told).addCallback(self._told)

    def _told(self, left_out: bool) -> bool:
        self._works -= 1
        return left_out

    async def _tell(self, differences: Differences, number: int) -> bool:
        left_out = False
        async for names in in_portions(self._clock, differences.components(), _TELL):
            while self._notifier.pending_count > _MOST_PENDING and self._goes_on(number):
                await deferLater(self._clock, _POLL)
            if not self._goes_on(number):
                return True
            due: list[Difference] = []
            for each in differences.of(names):
                if self._holds(each):
                    due.append(each)
                else:
                    left_out |= self._tracker.phase(each.component) is each.phase
            now = self._wall()
            for each in due:
                text = self.tellings.add(each.component, each.phase, each.since, now)
                self._begun[each.component] = text
                self.told_lately.add(each.component)
            self.count += len(due)
            self._notifier.tell_again([self._judgement(each) for each in due])
        return left_out

    async def note(self) -> None:
        """Write in the store of whom HSM has acknowledged that it was told again.

        A telling that a kill of hbtd prevents does not count. Raise `StoreUnusable` if the store
        can't be used; then `note` can be called again.
        """
        async for names in in_portions(self._clock, list(self._begun), _TELL):
            notes = {
                xname: self._begun[xname]
                for xname in names
                if xname in self._begun and self._notifier.standing(xname).told is Told.TOLD
            }
            if not notes:
                continue
            await self._store.write_notes(NOTES, notes)
            for xname, text in notes.items():
                if self._begun.get(xname) == text:
                    del self._begun[xname]

    def forget_begun(self) -> None:
        """Forget what `note` has yet to write: another replica leads."""
        self._begun.clear()

    def _goes_on(self, number: int) -> bool:
        return number == self._round and self._allowed() and not self._params.current.nosm

    def _holds(self, difference: Difference) -> bool:
        """Return whether nothing has changed since a difference was found."""
        xname = difference.component
        return self._tracker.phase(xname) is difference.phase and self._settled(xname)

    def _judgement(self, difference: Difference) -> Judgement:
        component = self._tracker.component(difference.component)
        timestamp = "" if component is None else component.timestamp
        return Judgement(
            difference.component,
            difference.transition,
            timestamp,
            difference.phase,
            f"HSM's table says {difference.said}",
            difference.since,
        )

    def _not_told(self, failure: Failure) -> bool:
        if failure.check(StoreUnusable, CancelledError) is None:
            self._log.failure(
                "Correcting HSM's table failed because of a bug in hbtd;"
                " hbtd tries again after the next comparison.",
                failure,
            )
            return False
        self._log.info(
            "hbtd corrects nothing more in HSM's table until the next comparison: {why}",
            why=failure.getErrorMessage() or "hbtd stops",
        )
        return failure.check(StoreUnusable) is not None
