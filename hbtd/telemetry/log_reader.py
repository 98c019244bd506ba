"""Reads the log of transitions into the backlog for Kafka, and moves Kafka's cursor."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.runtime.backoff import Backoff
from hbtd.runtime.outage import Outage
from hbtd.runtime.wakeup import Wakeup
from hbtd.store.interface import IStore, LogEntry, NotLeading
from hbtd.store.trimming import MAX_WAITING
from hbtd.telemetry.backlog import Backlog
from hbtd.telemetry.refusals import Complaints
from hbtd.tracker.transitions import Judgement

KAFKA = "kafka"
"""The name of Kafka's cursor in the store.

The cursor is the number of the log entry up to which Kafka has been told of all entries.
"""

_PORTION = 500
"""The most entries that are read from the log in one call of the store."""

_SAVE_EVERY = 1.0
"""Seconds between two writes of the cursor: what Kafka may be told twice after a kill."""

_RETRY = (0.75, 1.5)
"""The shortest and the longest pause, in seconds, before a failed call is tried again."""

_DROPPED = "{messages} dropped, oldest first, because more than 100,000 waited for Kafka."


class LogReader:
    """Reads the log of transitions for Kafka while this replica leads and telemetry is on.

    Reading begins after Kafka's cursor in the store. If the store has no such cursor, because the
    store was written by an earlier version of hbtd, reading begins at the end of the log. Then, the
    judgements that HSM has not acknowledged are put into the backlog first, because Kafka may not
    have been told of them, either.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: IStore,
        backlog: Backlog,
        undelivered: Sequence[Judgement],
        since: int,
        jitter: Callable[[], float],
    ) -> None:
        """Make a reader that has yet to be started.

        `undelivered` are the judgements that HSM had yet to acknowledge when they were read from
        the store, and `since` is the number that the log's last entry had at that time. `jitter`
        returns a random number from 0 to 1, which varies the pauses after failures.
        """
        self._clock = clock
        self._store = store
        self._backlog = backlog
        self._undelivered = undelivered
        self._begin = since
        self._read_to = since
        # The last number of the log when reading found nothing further: there may be gaps.
        self._exhausted_at: int | None = None
        self._dropped_to = 0
        self._stored: int | None = None
        self._saved_at: float | None = None
        self._joined = False
        self._stopped = False
        self._wakeup = Wakeup(clock)
        self._backoff = Backoff(*_RETRY, jitter)
        self._outage = Outage(self._outage_began, self._outage_ended, clock.seconds)
        self._complaints = Complaints(clock.seconds, _DROPPED)
        self.dropped_count = 0
        """The number of entries dropped because more than 100,000 waited for Kafka."""
        backlog.begin(since)
        backlog.put((), more=True)

    def start(self) -> None:
        """Start reading the log."""
        Deferred.fromCoroutine(self._run()).addErrback(self._ended)

    def stop(self) -> None:
        """Stop reading the log; ignore the results of store operations in progress."""
        self._stopped = True
        self._wakeup.interrupt()

    async def save(self) -> None:
        """Store Kafka's cursor: the number of the log entry up to which Kafka has been told.

        Do nothing if the stored cursor is up to date. Raise `StoreUnusable` if the store can't be
        used, and `NotLeading` if another replica leads.
        """
        if not self._joined:
            return
        number = max(self._backlog.done, self._begin)
        if self._stored is None or number > self._stored:
            self._saved_at = self._clock.seconds()
            await self._store.move_cursor(KAFKA, number)
            self._stored = number

    def committed(self) -> None:
        """Continue to read the log soon, because entries have been added to it."""
        self._exhausted_at = None
        if self._joined and self._more():
            self._backlog.more = True
        self._wakeup.notify()

    def progressed(self) -> None:
        """Wake this reader, because entries have left the backlog.

        The reader then reads further entries of the log into the backlog, and stores Kafka's
        cursor.
        """
        self._wakeup.notify()

    @property
    def pending(self) -> int:
        """The number of entries that Kafka has yet to be told of, in the backlog and in the log."""
        if not self._joined:
            return len(self._undelivered)
        unread = self._store.last_number() - self._read_to if self._more() else 0
        return self._backlog.pending + max(unread, 0)

    @property
    def unlogged(self) -> int:
        """The number of judgements in the backlog that this reader did not read from the log.

        These are the judgements `undelivered` (see `__init__`), which are put into the backlog if
        the store has no cursor of Kafka. They are only in memory.
        """
        return self._backlog.pending_up_to(self._begin) if self._joined else 0

    @property
    def told(self) -> int | None:
        """The number of the log entry up to which Kafka has been told; `None` if not known yet."""
        return max(self._backlog.done, self._begin) if self._joined else None

    async def _run(self) -> None:
        while not self._stopped:
            try:
                if not self._joined:
                    await self._join()
                await self._read()
                # Once this reader is stopped, what is not in the backlog may never have been sent.
                if not self._stopped and self._save_due() == 0.0:
                    await self.save()
            except NotLeading:
                await self._wakeup.pause(self._backoff.next())  # this replica is about to follow
            except Exception as error:  # noqa: BLE001  # it is tried again
                self._failed(error)
                await self._wakeup.pause(self._backoff.next())
            else:
                self._backoff.reset()
                self._outage.recover()
                if not (self._stopped or self._has_work()):
                    await self._wakeup.wait(self._save_due())

    async def _join(self) -> None:
        """Find the place in the log at which to begin: Kafka's cursor or, without one, the end."""
        cursor = await self._store.cursor(KAFKA)
        if self._stopped:
            return
        # Once HSM knows of them, nobody else may keep a million judgements.
        undelivered, self._undelivered = self._undelivered, ()
        if cursor is None:
            first = [LogEntry(self._begin, each, "") for each in undelivered[-MAX_WAITING:]]
            self._count_dropped(len(undelivered) - len(first))
            self._backlog.put(first, more=True)
        else:
            # A log that ends before its cursor is another one, as after the loss of etcd's data.
            self._begin = self._read_to = min(cursor, self._store.last_number())
            self._stored = None if cursor > self._begin else cursor
            self._backlog.begin(self._begin)
            self._backlog.more = True
        self._joined = True

    def _more(self) -> bool:
        """Return whether the log may have entries that were not read yet."""
        last = self._store.last_number()
        return last > self._read_to and last != self._exhausted_at

    def _has_work(self) -> bool:
        if self._save_due() == 0.0 or self._store.last_number() - MAX_WAITING > self._skipped():
            return True
        return self._more() and self._backlog.room >= _PORTION

    def _skipped(self) -> int:
        return max(self._dropped_to, self._begin)

    def _save_due(self) -> float | None:
        """Return in how many seconds the cursor is to be moved, `None` if it need not be."""
        number = max(self._backlog.done, self._begin)
        if self._stored is not None and number <= self._stored:
            return None
        if self._saved_at is None:
            return 0.0
        return max(self._saved_at + _SAVE_EVERY - self._clock.seconds(), 0.0)

    async def _read(self) -> None:
        """Read entries from the log into the backlog, until that is full or the log has no more."""
        while not self._stopped:
            self._drop()
            if not self._more():
                self._backlog.put((), more=False)
                return
            if self._backlog.room < _PORTION:
                return
            last = self._store.last_number()
            entries = await self._store.log(self._read_to, _PORTION)
            if self._stopped:
                return
            if entries:
                self._read_to = entries[-1].number
            if len(entries) < _PORTION:
                self._exhausted_at = last
            self._backlog.put(entries, self._more())

    def _drop(self) -> None:
        """If more than 100,000 entries wait for Kafka, pass over the oldest until 100,000 wait.

        Entries that are passed over stay in the log, but are never published.
        """
        bound = self._store.last_number() - MAX_WAITING
        if bound <= self._skipped():
            return
        count = self._backlog.skip(bound) + max(bound - self._read_to, 0)
        self._dropped_to = bound
        self._read_to = max(self._read_to, bound)
        self._count_dropped(count)

    def _count_dropped(self, count: int) -> None:
        if count:
            self.dropped_count += count
            self._complaints.add(count, "too many")

    def _failed(self, error: Exception) -> None:
        self._outage.fail(str(error) or repr(error))

    def _outage_began(self, reason: str) -> None:
        self._log.warn(
            "The log of transitions in the store can't be used; no further messages are sent to"
            " Kafka until it can be used again: {error}",
            error=reason,
        )

    def _outage_ended(self) -> None:
        self._log.info(
            "The log of transitions in the store can be used again; the messages that waited are"
            " sent to Kafka."
        )

    def _ended(self, failure: Any) -> None:
        self._log.failure(
            "Reading the log of transitions has ended because of a bug in hbtd; no messages are"
            " sent to Kafka until hbtd is restarted.",
            failure,
        )
