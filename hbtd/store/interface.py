"""The interface of all stores."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement


class StoreUnusable(Exception):
    """The store can't carry out a call now; the message says why. A retry may succeed."""


class NotLeading(StoreUnusable):
    """Only the leader may do this, and this replica does not lead, or no longer."""


class IStore(Interface):
    """A store for what has to survive a crash: judgements, and the records of living components.

    A judgement is committed before it is sent, and marked as delivered once HSM has acknowledged
    it: after a crash, the next process can send those that are missing. Only the latest judgement
    of each component is kept. Alarms (`WARNED`, `DIED`) are kept for as long as they are true, the
    others until they are delivered.

    Calls are carried out in their order; a caller need not wait for one to make the next. All
    stores pass the tests in `tests/support/store_contract.py` and `store_records_contract.py`.
    """

    durable = Attribute("Whether its contents outlive the process (`bool`).")
    shared = Attribute("Whether several replicas use it, one of which judges (`bool`).")
    gather = Attribute("Seconds between two checkpoints (`float`).")

    def open() -> Deferred[None]:
        """Make the store ready for use; the Deferred may fail with `StoreUnusable`."""

    def close() -> Deferred[None]:
        """Release the store; what was committed stays."""

    def commit(judgements: Sequence[Judgement], records: Sequence[Record] = ()) -> Deferred[bool]:
        """Keep judgements, as not delivered, and records; both replace those of their components.

        The judgement and the record of a component are committed together or not at all. The record
        of a component that died is dropped, unless a new one is given.

        The Deferred fires once everything is safe, with whether the judgements are to be sent; they
        are not if judging is left to another replica. It fails with `StoreUnusable` if anything
        could not be committed.
        """

    def checkpoint(records: Sequence[Record]) -> Deferred[None]:
        """Keep records, which replace those of their components; fails with `StoreUnusable`."""

    def records() -> Deferred[list[Record]]:
        """Return all records, with their ages in seconds.

        The ages are as of now if the store goes by the wall clock, otherwise as of the last write.
        """

    def clear_records() -> Deferred[None]:
        """Drop all records, and keep the judgements."""

    def delivered(judgements: Sequence[Judgement]) -> Deferred[None]:
        """Mark judgements as acknowledged by HSM.

        A judgement that is no longer the latest of its component is ignored.
        """

    def forget(xname: str) -> Deferred[None]:
        """Drop the judgement and the record of a component."""

    def undelivered() -> Deferred[list[Judgement]]:
        """Return the judgements that HSM has not acknowledged, in the order of their commit."""

    def judgements() -> Deferred[list[Judgement]]:
        """Return all judgements, in the order of their commit."""

    def usable() -> bool:
        """Return whether the store can be used now."""

    def health() -> str:
        """Return a sentence for people about the condition of the store."""
