"""The store `mem:`, which lasts as long as the process."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from hbtd.store.interface import IStore
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Transition


@implementer(IStore)
class MemoryStore:
    """Keeps judgements and records in dicts; see `IStore`.

    It is not durable: the ledger does not copy into it the records that the tracker has anyway.
    """

    durable = False
    shared = False
    gather = 1.0

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._judgements: dict[str, Judgement] = {}
        self._undelivered: dict[str, Judgement] = {}
        self._open = False

    def open(self) -> Deferred[None]:
        """Become usable."""
        self._open = True
        return succeed(None)

    def close(self) -> Deferred[None]:
        """Stop being usable; what was committed is there when it is opened again."""
        self._open = False
        return succeed(None)

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Keep judgements as not delivered, and records."""
        for judgement in judgements:
            # Taken out first, so that it goes to the end: the order is that of the commits.
            self._judgements.pop(judgement.component, None)
            self._undelivered.pop(judgement.component, None)
            self._judgements[judgement.component] = judgement
            self._undelivered[judgement.component] = judgement
            if judgement.transition is Transition.DIED:
                self._records.pop(judgement.component, None)
        return self.checkpoint(records).addCallback(lambda _: True)

    def checkpoint(self, records: Sequence[Record]) -> Deferred[None]:
        """Keep records."""
        self._records.update((record.component, record) for record in records)
        return succeed(None)

    def records(self) -> Deferred[list[Record]]:
        """Return all records."""
        return succeed(list(self._records.values()))

    def clear_records(self) -> Deferred[None]:
        """Drop all records."""
        self._records.clear()
        return succeed(None)

    def delivered(self, judgements: Sequence[Judgement]) -> Deferred[None]:
        """Mark judgements as acknowledged by HSM."""
        for judgement in judgements:
            if self._undelivered.get(judgement.component) == judgement:
                del self._undelivered[judgement.component]
                if not judgement.transition.alarming:
                    del self._judgements[judgement.component]
        return succeed(None)

    def forget(self, xname: str) -> Deferred[None]:
        """Drop the judgement and the record of a component."""
        self._judgements.pop(xname, None)
        self._undelivered.pop(xname, None)
        self._records.pop(xname, None)
        return succeed(None)

    def undelivered(self) -> Deferred[list[Judgement]]:
        """Return the judgements that HSM has not acknowledged."""
        return succeed(list(self._undelivered.values()))

    def judgements(self) -> Deferred[list[Judgement]]:
        """Return all judgements."""
        return succeed(list(self._judgements.values()))

    def usable(self) -> bool:
        """Return whether it is open."""
        return self._open

    def health(self) -> str:
        """Return whether it is open, in the words that clients of the original hbtd look for."""
        return "Initialization key present: HBTD_OK" if self._open else "Not initialized"
