"""The interface that all stores implement, and the exceptions that they raise."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from hbtd.store.past import EVERYTHING, LogEntry, Selection, Span, StatesThen
from hbtd.tracker.records import Identity, Record
from hbtd.tracker.transitions import Judgement, Transition

__all__ = ["IStore", "LogEntry", "NotLeading", "StoreUnusable"]


class StoreUnusable(Exception):
    """The store can't carry out a call now; the message says why. A retry may succeed."""


class NotLeading(StoreUnusable):
    """Raised by calls that only the leader may make, when this replica is not the leader."""


class IStore(Interface):
    """A store of all that must survive a crash: judgements, their log, and records of the living.

    A judgement is committed before it is sent, and marked as delivered once HSM has acknowledged
    it: after a crash, the next process sends the judgements that are not marked. Only the latest
    judgement on each component is kept: an alarm (`WARNED`, `DIED`) until the next judgement
    replaces it, any other judgement until it is delivered.

    Calls are carried out in the order in which they are made; a caller need not wait for one to
    finish before making the next. All stores pass the tests in `tests/support/store_contract.py`,
    `store_records_contract.py` and `store_log_contract.py`.
    """

    durable = Attribute("Whether the contents of the store outlive the process (`bool`).")
    shared = Attribute("Whether several replicas use the store, one of which judges (`bool`).")
    gather = Attribute("Seconds between two calls of `checkpoint` by the checkpointer (`float`).")

    def open() -> Deferred[None]:
        """Make the store ready for use.

        The Deferred fails with an exception, such as `StoreUnusable`, if that is not possible.
        """

    def close() -> Deferred[None]:
        """Release the store once earlier calls are done; its contents stay."""

    def commit(judgements: Sequence[Judgement], records: Sequence[Record] = ()) -> Deferred[bool]:
        """Store records, and judgements, which are marked as not delivered.

        They replace the stored judgements and records of the same components. The judgement and the
        record of a component are committed together or not at all. All judgements are also added to
        the log, in the same transaction and in the order in which they are given, even if several
        are about one component. The record of a component that died is deleted, unless `records`
        has a new one.

        The Deferred fires once everything is stored safely: with `True` if the caller is to send
        the judgements, with `False` if another replica judges instead. It fails with
        `StoreUnusable` if anything could not be committed.
        """

    def log(after: int, most: int) -> Deferred[Sequence[LogEntry]]:
        """Return entries of the log with numbers above `after`, in order; `most` of them at most.

        The Deferred fails with `StoreUnusable` if they can't be read.
        """

    def history(
        span: Span, selection: Selection = EVERYTHING, most: int = 1000
    ) -> Deferred[Sequence[LogEntry]]:
        """Return at most `most` log entries about selected components, in the order of `span`.

        `span` gives the times of the entries, and whether the oldest or the newest comes first.
        Only the part of the log between the entry with the earliest time in the span and the one
        with the latest is searched. If the wall clock was set back, entries outside of this part
        may have times in the span, too; they may be left out. The Deferred fails with
        `StoreUnusable` if the log can't be read.
        """

    def states_at(
        at: float, selection: Selection = EVERYTHING, after: str = "", most: int = sys.maxsize
    ) -> Deferred[StatesThen]:
        """Return the states that the selected components had at the Unix time `at`.

        These are the states of the first `most` components, by name, after the name `after`,
        including components that were forgotten since. A component's state is taken from its last
        entry in the log that was judged at `at` or before; if there is none, from its first later
        entry, which says what it was before. The Deferred fails with `StoreUnusable` if the log
        can't be read.
        """

    def last_number() -> int:
        """Return the number of the last entry of the log that this replica knows of; 0 if none."""

    def cursor(reader: str) -> Deferred[int | None]:
        """Return the cursor of a reader of the log, or `None` if the reader has none yet.

        The cursor is the number of the last entry that the reader has passed on. The Deferred fails
        with `StoreUnusable` if the cursor can't be read.
        """

    def move_cursor(reader: str, number: int) -> Deferred[None]:
        """Set the cursor of a reader that has passed on the log's entries up to `number`.

        The Deferred fails with `StoreUnusable` if the cursor can't be stored, and with `NotLeading`
        if another replica leads.
        """

    def trim(before: float, most: int, told: int) -> Deferred[int]:
        """Delete entries of the log; return how many.

        Entries that were judged before the Unix time `before` are deleted, and then the oldest ones
        until `most` are left; but none with a number above `told`, and never the last entry of a
        component. The Deferred fails with `StoreUnusable` if they can't be deleted, with
        `NotLeading` if another replica leads.
        """

    def checkpoint(records: Sequence[Record]) -> Deferred[None]:
        """Store records, which replace those of the same components.

        The Deferred fails with `StoreUnusable` if any could not be stored.
        """

    def records(after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Record]]:
        """Return stored records, with the ages of their heartbeats in seconds.

        The records are those of the first `most` components after the name `after`, in the order of
        the components' names, so that all records can be read page by page.

        The ages are as of now if the store uses the wall clock, otherwise as of the last write to
        the store. The Deferred fails with `StoreUnusable` if the records can't be read.
        """

    def clear_records() -> Deferred[None]:
        """Delete all records, but no judgements.

        The Deferred fails with `StoreUnusable` if that is not possible.
        """

    def delivered(judgements: Sequence[Judgement], at: float = 0.0) -> Deferred[None]:
        """Mark judgements as delivered: acknowledged by HSM at the Unix time `at`; 0 if unknown.

        A judgement that is no longer the latest of its component is ignored. The Deferred fails
        with `StoreUnusable` if any could not be marked.
        """

    def identities(after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Identity]]:
        """Return the stored host names and NIDs of living and dead components.

        The result is for the first `most` components after the name `after`, in the order of the
        components' names. The Deferred fails with `StoreUnusable` if they can't be read.
        """

    def identify(identities: Sequence[Identity]) -> Deferred[None]:
        """Store host names and NIDs, which replace those of the same components.

        The store keeps them until the component is forgotten. The Deferred fails with
        `StoreUnusable` if any could not be stored.
        """

    def forget(xname: str) -> Deferred[None]:
        """Delete the judgement, the record and the identity of a component.

        The Deferred fails with `StoreUnusable` if that is not possible.
        """

    def notes(kind: str) -> Deferred[dict[str, str]]:
        """Return all notes of a kind, by name.

        Notes are texts that parts of hbtd keep across restarts and changes of the leader, such as
        how often HSM was told of a component again. The Deferred fails with `StoreUnusable` if they
        can't be read.
        """

    def write_notes(kind: str, notes: Mapping[str, str | None]) -> Deferred[None]:
        """Write notes of a kind, by name; delete those that are `None`.

        Notes with other names stay as they are. The Deferred fails with `StoreUnusable` if the
        notes can't be stored, with `NotLeading` if another replica leads; some may have been stored
        then.
        """

    def undelivered(
        share: Callable[[str, str], tuple[str, str]] | None = None,
    ) -> Deferred[list[Judgement]]:
        """Return the judgements that are not marked as delivered, in the order of their commits.

        `share` is called with a component's name and a timestamp, and returns equal texts that are
        in memory already, if there are any. A store that does not keep judgements in memory uses
        these texts in the judgements, so that a million texts are not in memory twice.
        """

    def told() -> Deferred[dict[str, tuple[Transition, float]]]:
        """Return the alarms that HSM has acknowledged and that no later judgement has replaced.

        The result has, by component, the transition and the Unix time of the acknowledgement.
        Alarms are left out if that time is not known. The Deferred fails with `StoreUnusable` if
        they can't be read.
        """

    def judgements(
        of: Collection[Transition] = tuple(Transition),
    ) -> Deferred[list[Judgement]]:
        """Return the stored judgements with these transitions, in the order of their commits.

        There is one per component at most.
        """

    def usable() -> bool:
        """Return whether the store can be used now."""

    def health() -> str:
        """Return a text for operators and health checks about the condition of the store."""
