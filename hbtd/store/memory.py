"""The store `mem:`, which keeps everything in memory; all is lost when the process ends."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from hbtd.store.interface import IStore, LogEntry
from hbtd.store.memory_log import MemoryLog
from hbtd.store.memory_silences import MemorySilences
from hbtd.store.past import EVERYTHING, Noticed, Selection, SilencesThen, Span, StatesThen
from hbtd.store.settings import Replacement, Setting, Settings
from hbtd.tracker.records import Identity, Record
from hbtd.tracker.silences import LongSilence
from hbtd.tracker.transitions import Judgement, Transition


@implementer(IStore)
class MemoryStore:
    """Keeps judgements, records and the log of transitions in memory; see `IStore`.

    This store is not durable, so the checkpointer does not write records to it: they would be lost
    at the end of the process, like the contents of the tracker.
    """

    durable = False
    shared = False
    gather = 1.0

    def __init__(self, judge: str = "") -> None:
        """Make an empty store; `judge`, this replica's host and port, is put in each log entry."""
        self._judge = judge
        self._log = MemoryLog()
        self._records: dict[str, Record] = {}
        self._identities: dict[str, Identity] = {}
        self._notes: dict[str, dict[str, str]] = {}
        self._silences = MemorySilences()
        self.settings = Settings()
        """The settings that operators have made since the start."""
        self._judgements: dict[str, Judgement] = {}
        self._undelivered: dict[str, Judgement] = {}
        self._told: dict[str, tuple[Transition, float]] = {}
        self._open = False

    def open(self) -> Deferred[None]:
        """Open the store; the Deferred has fired already and never fails."""
        self._open = True
        return succeed(None)

    def close(self) -> Deferred[None]:
        """Close the store; if it is opened again, its contents are still there."""
        self._open = False
        return succeed(None)

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Store judgements and records, and add the judgements to the log of transitions.

        The judgements are marked as not delivered. The Deferred's result is always `True`: the
        caller is to send the judgements to HSM and Kafka.
        """
        for judgement in judgements:
            # Deleting the key first moves it to the end: the dicts are in the order of commits.
            self._judgements.pop(judgement.component, None)
            self._undelivered.pop(judgement.component, None)
            self._told.pop(judgement.component, None)
            self._judgements[judgement.component] = judgement
            self._undelivered[judgement.component] = judgement
            if judgement.transition is Transition.DIED:
                self._records.pop(judgement.component, None)
        self._log.append(judgements, self._judge)
        return self.checkpoint(records).addCallback(lambda _: True)

    def log(self, after: int, most: int) -> Deferred[Sequence[LogEntry]]:
        """Return the first `most` log entries with numbers above `after`, in order of number."""
        return succeed(self._log.read(after, most))

    def history(
        self, span: Span, selection: Selection = EVERYTHING, most: int = 1000
    ) -> Deferred[Sequence[LogEntry]]:
        """Return up to `most` log entries about the components in `selection`.

        `span` says from which stretch of time the entries are, and in which order to return them.
        """
        return succeed(self._log.history(span, selection, most))

    def states_at(
        self,
        at: float,
        selection: Selection = EVERYTHING,
        after: str = "",
        most: int = sys.maxsize,
    ) -> Deferred[StatesThen]:
        """Return the states that the selected components had at the Unix time `at`.

        The result has the states of the first `most` of these components after the name `after`, in
        the order of the names.
        """
        return succeed(self._log.states_at(at, selection, after, most))

    def last_number(self) -> int:
        """Return the number of the last entry of the log; 0 if there is none."""
        return self._log.last_number

    def entries(self) -> int:
        """Return the number of entries in the log."""
        return len(self._log)

    def cursor(self, reader: str) -> Deferred[int | None]:
        """Return the cursor of a reader of the log, or `None` if the reader has none yet.

        The cursor is the number of the last log entry that the reader has passed on.
        """
        return succeed(self._log.cursors.get(reader))

    def move_cursor(self, reader: str, number: int) -> Deferred[None]:
        """Set the cursor of a reader, which has passed on the log's entries up to `number`."""
        self._log.cursors[reader] = number
        return succeed(None)

    def trim(self, before: float, most: int, told: int) -> Deferred[int]:
        """Delete old entries of the log; return the number of deleted entries.

        Entries of judgements made before the Unix time `before` are deleted, and then the oldest of
        the other entries until `most` are left. Entries with numbers above `told`, and the last
        entry of each component, are never deleted.
        """
        return succeed(self._log.trim(before, most, told))

    def checkpoint(
        self, records: Sequence[Record], starting: Sequence[Record] = ()
    ) -> Deferred[None]:
        """Store records, which replace the stored records of the same components.

        `starting` is ignored, because there are no other replicas.
        """
        self._records.update((record.component, record) for record in records)
        return succeed(None)

    def records(self, after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Record]]:
        """Return the records of the first `most` components after the name `after`.

        The ages of the heartbeats are those that the records had when they were stored.
        """
        names = sorted(xname for xname in self._records if xname > after)
        return succeed([self._records[xname] for xname in names[:most]])

    def clear_records(self) -> Deferred[None]:
        """Delete the records of all components, but no judgements."""
        self._records.clear()
        return succeed(None)

    def delivered(self, judgements: Sequence[Judgement], at: float = 0.0) -> Deferred[None]:
        """Mark judgements as delivered, because HSM has acknowledged them.

        `at` is the Unix time of the acknowledgement; 0 if not known. A judgement that is no longer
        the latest about its component is ignored.
        """
        for judgement in judgements:
            if self._undelivered.get(judgement.component) == judgement:
                del self._undelivered[judgement.component]
                if not judgement.transition.alarming:
                    del self._judgements[judgement.component]
                elif at:
                    self._told[judgement.component] = judgement.transition, at
        return succeed(None)

    def forget(self, xname: str) -> Deferred[None]:
        """Delete the judgement, the record and the identity of a component."""
        self._judgements.pop(xname, None)
        self._undelivered.pop(xname, None)
        self._told.pop(xname, None)
        self._records.pop(xname, None)
        self._identities.pop(xname, None)
        return succeed(None)

    def identities(self, after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Identity]]:
        """Return the identities of the first `most` components after the name `after`."""
        names = sorted(xname for xname in self._identities if xname > after)
        return succeed([self._identities[xname] for xname in names[:most]])

    def identify(self, identities: Sequence[Identity]) -> Deferred[None]:
        """Store host names and NIDs, which replace the stored ones of the same components."""
        self._identities.update((each.component, each) for each in identities)
        return succeed(None)

    def notes(self, kind: str) -> Deferred[dict[str, str]]:
        """Return all notes of a kind, as a dict from names to texts.

        Notes are texts that parts of hbtd keep across restarts; see `IStore.notes`.
        """
        return succeed(dict(self._notes.get(kind, {})))

    def write_notes(self, kind: str, notes: Mapping[str, str | None]) -> Deferred[None]:
        """Write notes of a kind; `notes` maps names to texts, or to `None` to delete the note."""
        stored = self._notes.setdefault(kind, {})
        for name, text in notes.items():
            if text is None:
                stored.pop(name, None)
            else:
                stored[name] = text
        return succeed(None)

    def keep_silences(self, silences: Sequence[LongSilence], noticed: Noticed) -> Deferred[None]:
        """Add long silences to the table; see `IStore.keep_silences`."""
        self._silences.keep(silences, noticed)
        return succeed(None)

    def silences(
        self, since: float = -inf, least: float = 0.0, after: int = 0, most: int = 5000
    ) -> Deferred[SilencesThen]:
        """Return a portion of the long silences in the table; see `IStore.silences`."""
        return succeed(self._silences.read(since, least, after, most))

    def write_settings(self, settings: Sequence[Setting]) -> Deferred[None]:
        """Write settings; remove those whose text is `None`."""
        for setting in settings:
            self.settings.apply(setting, 0)
        return succeed(None)

    def replace_settings(self, replacements: Sequence[Replacement]) -> Deferred[Sequence[bool]]:
        """Write those settings that still have the texts that they are expected to have."""
        replaced: list[bool] = []
        for setting, before in replacements:
            replaced.append(self.settings.text(setting.kind, setting.name) == before)
            if replaced[-1]:
                self.settings.apply(setting, 0)
        return succeed(replaced)

    def undelivered(
        self, share: Callable[[str, str], tuple[str, str]] | None = None
    ) -> Deferred[list[Judgement]]:
        """Return the judgements that are not marked as delivered, in the order of their commits.

        `share` is not used, because the judgements are in memory already.
        """
        return succeed(list(self._undelivered.values()))

    def told(self) -> Deferred[dict[str, tuple[Transition, float]]]:
        """Return the alarms that HSM has acknowledged and that no later judgement has replaced.

        Alarms are the judgements `WARNED` and `DIED`. The result maps each component's name to the
        transition and to the Unix time of the acknowledgement. Alarms for which this time is not
        known are left out.
        """
        return succeed(dict(self._told))

    def judgements(
        self, of: Collection[Transition] = tuple(Transition)
    ) -> Deferred[list[Judgement]]:
        """Return the stored judgements whose transitions are in `of`, in the order of commits."""
        return succeed([each for each in self._judgements.values() if each.transition in of])

    def usable(self) -> bool:
        """Return whether the store is open."""
        return self._open

    def health(self) -> str:
        """Return a text for `/health` that says whether the store is open.

        It is the text that the original hbtd has for its own store.
        """
        return "Initialization key present: HBTD_OK" if self._open else "Not initialized"
