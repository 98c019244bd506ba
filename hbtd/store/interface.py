"""The interface that all stores implement, and the exceptions that they raise."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from hbtd.store.past import (
    EVERYTHING,
    LogEntry,
    Noticed,
    Selection,
    SilencesThen,
    Span,
    StatesThen,
)
from hbtd.store.settings import Replacement, Setting
from hbtd.tracker.records import Identity, Record
from hbtd.tracker.silences import LongSilence
from hbtd.tracker.transitions import Judgement, Transition

__all__ = ["IStore", "LogEntry", "NotLeading", "StoreUnusable"]


class StoreUnusable(Exception):
    """Raised when the store can't carry out a call. The message says why; a retry may succeed."""


class NotLeading(StoreUnusable):
    """Raised by a call that only the leader may make, if this replica does not lead."""


class IStore(Interface):
    """The interface of stores: they keep judgements, the log of transitions, and records.

    A judgement is committed before it is sent to HSM, and marked as delivered once HSM has
    acknowledged it. After a crash, the next process sends the judgements that are not marked. Apart
    from the log, only the latest judgement on each component is kept: an alarm (`WARNED`, `DIED`)
    until the next judgement replaces it, any other judgement until it is delivered.

    Calls are carried out in the order in which they are made; a caller need not wait for one call
    to finish before making the next. All stores pass the tests in
    `tests/support/store_contract.py`, `store_records_contract.py` and `store_log_contract.py`.
    """

    durable = Attribute("Whether the contents of the store outlive the process (`bool`).")
    shared = Attribute("Whether several replicas use the store, one of which judges (`bool`).")
    gather = Attribute("Seconds between two calls of `checkpoint` by the checkpointer (`float`).")
    settings = Attribute(
        "The settings that are in the store, as far as they are known (`Settings`)."
    )

    def open() -> Deferred[None]:
        """Make the store ready for use.

        The Deferred fails with an exception, such as `StoreUnusable`, if that is not possible.
        """

    def close() -> Deferred[None]:
        """Close the store once all earlier calls are done; its contents stay."""

    def commit(judgements: Sequence[Judgement], records: Sequence[Record] = ()) -> Deferred[bool]:
        """Store judgements and records; the judgements are marked as not delivered.

        New judgements and records replace the stored ones of the same components. The judgement and
        the record of a component are committed together or not at all. Each judgement is also added
        to the log, in the same transaction. The log has the judgements in the order in which they
        are given, even if several are about one component. The stored record of a component that
        died is deleted, unless `records` has a record of that component.

        The Deferred fires once everything is stored safely. Its result is `True` if the caller is
        to send the judgements to HSM and Kafka, and `False` if another replica leads: then only
        that replica judges. The Deferred fails with `StoreUnusable` if anything could not be
        committed.
        """

    def log(after: int, most: int) -> Deferred[Sequence[LogEntry]]:
        """Return the first `most` entries of the log of transitions with numbers above `after`.

        The entries are in the order of their numbers. The Deferred fails with `StoreUnusable` if
        the log can't be read.
        """

    def history(
        span: Span, selection: Selection = EVERYTHING, most: int = 1000
    ) -> Deferred[Sequence[LogEntry]]:
        """Return at most `most` log entries that `span` and `selection` select.

        `span` says from which stretch of time the entries are, and whether the oldest or the newest
        comes first; `selection` says which components the entries are about.

        If the wall clock was set back, the log is not in the order of the entries' times; then
        entries with times in the span may be left out. The Deferred fails with `StoreUnusable` if
        the log can't be read.
        """

    def states_at(
        at: float, selection: Selection = EVERYTHING, after: str = "", most: int = sys.maxsize
    ) -> Deferred[StatesThen]:
        """Return the states that the selected components had at the Unix time `at`.

        The result has the first `most` of these components after the name `after`, in the order of
        their names, including components that were forgotten since. A component's state follows
        from its last log entry with a judgement made at `at` or before. If the log has no such
        entry, the state follows from the component's first later entry, which also has the state
        from before its judgement. The Deferred fails with `StoreUnusable` if the log can't be read.
        """

    def last_number() -> int:
        """Return the number of the last log entry known to this replica; 0 if there is none."""

    def cursor(reader: str) -> Deferred[int | None]:
        """Return the cursor of a reader of the log, or `None` if the reader has none yet.

        The cursor is the number of the last entry that the reader has passed on. The Deferred fails
        with `StoreUnusable` if the cursor can't be read.
        """

    def move_cursor(reader: str, number: int) -> Deferred[None]:
        """Set a reader's cursor to `number`, the number of the last entry that it has passed on.

        The Deferred fails with `StoreUnusable` if the cursor can't be stored, and with `NotLeading`
        if another replica leads.
        """

    def trim(before: float, most: int, told: int) -> Deferred[int]:
        """Delete old entries of the log; return the number of deleted entries.

        Entries of judgements made before the Unix time `before` are deleted. If more than `most`
        entries are left then, the oldest of them are deleted, too, until `most` entries are left.
        But entries with numbers above `told` always stay, and so does the last entry of each
        component.

        The Deferred fails with `StoreUnusable` if entries can't be deleted, and with `NotLeading`
        if another replica leads.
        """

    def checkpoint(records: Sequence[Record], starting: Sequence[Record] = ()) -> Deferred[None]:
        """Store records; they replace the stored records of the same components.

        `starting` are heartbeats of dead components that are not started yet. A store that is
        shared passes them on to other replicas, and no store keeps them.

        The Deferred fails with `StoreUnusable` if any record could not be stored.
        """

    def records(after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Record]]:
        """Return stored records, with the ages of their heartbeats in seconds.

        The records are those of the first `most` components after the name `after`, in the order of
        the components' names, so that all records can be read page by page.

        The ages are as of now if the store uses the wall clock, otherwise as of the last write to
        the store. The Deferred fails with `StoreUnusable` if the records can't be read.
        """

    def clear_records() -> Deferred[None]:
        """Delete the records of all components, but no judgements.

        The Deferred fails with `StoreUnusable` if the records can't be deleted.
        """

    def delivered(judgements: Sequence[Judgement], at: float = 0.0) -> Deferred[None]:
        """Mark judgements as delivered, because HSM has acknowledged them.

        `at` is the Unix time of the acknowledgement; 0 if it is not known. A judgement that is no
        longer the latest on its component is ignored. The Deferred fails with `StoreUnusable` if
        any judgement could not be marked.
        """

    def identities(after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Identity]]:
        """Return the stored host names and NIDs (node IDs) of living and dead components.

        The result has the identities of the first `most` components after the name `after`, in the
        order of the components' names. The Deferred fails with `StoreUnusable` if they can't be
        read.
        """

    def identify(identities: Sequence[Identity]) -> Deferred[None]:
        """Store host names and NIDs; they replace the stored ones of the same components.

        The store keeps an identity until its component is forgotten. The Deferred fails with
        `StoreUnusable` if any identity could not be stored.
        """

    def forget(xname: str) -> Deferred[None]:
        """Delete the judgement, the record and the identity of a component, but no log entries.

        The Deferred fails with `StoreUnusable` if any of the three can't be deleted.
        """

    def notes(kind: str) -> Deferred[dict[str, str]]:
        """Return the texts of all notes of a kind, by the notes' names.

        Notes are texts that parts of hbtd keep across restarts and changes of the leader. For
        example, a note has the times at which HSM was told of one component again because HSM's
        table was wrong about it. The Deferred fails with `StoreUnusable` if the notes can't be
        read.
        """

    def write_notes(kind: str, notes: Mapping[str, str | None]) -> Deferred[None]:
        """Write notes of a kind; delete the notes whose text is `None`.

        `notes` has the texts by name; notes with other names stay as they are. The Deferred fails
        with `StoreUnusable` if the notes can't be stored, and with `NotLeading` if another replica
        leads. Even when the Deferred fails, some of the notes may have been written.
        """

    def keep_silences(silences: Sequence[LongSilence], noticed: Noticed) -> Deferred[None]:
        """Add long silences, which have ended, to a table that has the latest 100,000 of them.

        A store that replicas share keeps this table in the memory of each replica, with what that
        one has noticed. `noticed` is what this process says of all that it has noticed so far; it
        replaces what it has said before, with the same `since`. The Deferred fails with
        `StoreUnusable` if any silence could not be stored; then none is.
        """

    def silences(
        since: float = -inf, least: float = 0.0, after: int = 0, most: int = 5000
    ) -> Deferred[SilencesThen]:
        """Return a portion of the long silences in the table, in the order of `keep_silences`.

        The portion has at most `most` silences that ended at the Unix time `since` or later and
        were at least `least` observed seconds long; it may have none although there are more.
        `after` is 0 for the first portion, and otherwise `SilencesThen.after` of the one before.
        The Deferred fails with `StoreUnusable` if the table can't be read.
        """

    def write_settings(settings: Sequence[Setting]) -> Deferred[None]:
        """Write settings; remove those whose text is `None`. The others stay as they are.

        Every replica may write settings, and each learns of those that others write. Once the
        Deferred has fired, they are in `settings`, whose listeners have been called. The Deferred
        fails with `StoreUnusable` if they can't be stored; even then, some may have been written.
        """

    def replace_settings(replacements: Sequence[Replacement]) -> Deferred[Sequence[bool]]:
        """Write, of these settings, those that still have the texts that they are expected to have.

        The result says of each whether it was written. If one was not, since somebody has changed
        or removed it meanwhile, `settings` has what it is now. For the rest, see `write_settings`.
        """

    def undelivered(
        share: Callable[[str, str], tuple[str, str]] | None = None,
    ) -> Deferred[list[Judgement]]:
        """Return the judgements that are not marked as delivered, in the order of their commits.

        A store that does not keep judgements in memory calls `share` with the component's name and
        the timestamp of each judgement, and puts the two strings that `share` returns into the
        result. These strings are equal to the arguments, but may be objects that are in memory
        already, so that a million strings are not in memory twice. The Deferred fails with
        `StoreUnusable` if the judgements can't be read.
        """

    def told() -> Deferred[dict[str, tuple[Transition, float]]]:
        """Return the alarms that HSM has acknowledged and that no later judgement has replaced.

        Alarms are the judgements `WARNED` and `DIED`. The result maps each component's name to the
        transition and to the Unix time of the acknowledgement. Alarms for which this time is not
        known are left out. The Deferred fails with `StoreUnusable` if the alarms can't be read.
        """

    def judgements(
        of: Collection[Transition] = tuple(Transition),
    ) -> Deferred[list[Judgement]]:
        """Return the stored judgements with transitions in `of`, in the order of their commits.

        At most one judgement is stored about each component: the latest one. The Deferred fails
        with `StoreUnusable` if the judgements can't be read.
        """

    def usable() -> bool:
        """Return whether the store can be used now."""

    def health() -> str:
        """Return a text, for operators and for `/health`, about the condition of the store."""
