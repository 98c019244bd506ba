"""The Kafka publisher: a service that sends the entries of the log of transitions to Kafka."""

from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from kafka.errors import KafkaError
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.config.value_types import TelemetryAddress
from hbtd.formats.counts import counted
from hbtd.runtime.backoff import Backoff
from hbtd.runtime.deadline import bounded
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.store.trimming import MAX_WAITING
from hbtd.telemetry.background import Background
from hbtd.telemetry.backlog import Backlog
from hbtd.telemetry.contact import Contact
from hbtd.telemetry.log_reader import KAFKA, LogReader
from hbtd.telemetry.sender import FIRST_PAUSE, LONGEST_PAUSE, RENEWAL, KafkaFactory, Sender
from hbtd.tracker.transitions import Judgement

_LAST_SAVE = 1.0
"""Seconds within which the cursor has to be stored when the publisher stops."""


class Publisher(Service):
    """Publishes the log of transitions to Kafka, in order, and each transition at least once.

    While this replica leads, a `LogReader` reads the entries after Kafka's cursor into a `Backlog`,
    and a `Sender` in a thread of its own sends the entries in the backlog to Kafka. The cursor
    passes an entry only when Kafka has acknowledged it, so that no entry is trimmed from the log
    before it is sent (docs/protocol.md, "Kafka").

    Changes of `Use_telemetry` and `Telemetry_host` take effect at once. If the thread can't be
    started, the publisher tries again after a pause.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        store: IStore,
        params: LiveParams,
        connect: KafkaFactory,
        jitter: Callable[[], float],
        may_send: Callable[[], bool] = lambda: True,
        background: Background = Background(),  # noqa: B008  # it has no state
        renewal: float = RENEWAL,
    ) -> None:
        """Make a publisher, which connects to Kafka when it is started.

        `reactor` provides `IReactorFromThreads` and `IReactorTime`. `background` makes the
        publisher's thread. Three functions are called in this thread: `connect` connects to Kafka,
        `jitter` returns a random number from 0 to 1, and `may_send` returns whether this replica
        leads at this moment. The thread connects to Kafka again when no message has been
        acknowledged for `renewal` seconds.
        """
        self._reactor = reactor
        self._store = store
        self._params = params
        self._jitter = jitter
        self._background = background
        self._thread: Thread | None = None
        self._starting = Backoff(FIRST_PAUSE, LONGEST_PAUSE, jitter)
        self._start_again: IDelayedCall | None = None
        self._thread_ended: Deferred[None] = Deferred()
        self._address: TelemetryAddress | None = None
        self._leading = False
        self._reader: LogReader | None = None
        self._dropped_before = 0
        # While this replica leads without a reader: up to which number Kafka has been told.
        self._told: int | None = None
        self._looked = True
        self._backlog = Backlog(background.make_condition)
        self._contact = Contact(background.monotonic)
        self._sender = Sender(
            self._backlog,
            self._contact,
            connect,
            jitter,
            self._progressed,
            may_send,
            background.monotonic,
            renewal,
        )
        params.on_change(self._params_changed)

    def renew(self) -> None:
        """Make the thread connect to Kafka again, with hbtd's changed credentials for Kafka."""
        self._sender.renew()

    @property
    def connected(self) -> bool:
        """Whether Kafka accepts messages."""
        return self._contact.connected

    @property
    def published_count(self) -> int:
        """The number of messages that Kafka has acknowledged."""
        return self._backlog.published_count

    @property
    def refused_count(self) -> int:
        """The number of messages dropped because Kafka refused them while it accepted others."""
        return self._backlog.refused_count

    @property
    def dropped_count(self) -> int:
        """The number of messages dropped because more than 100,000 waited for Kafka."""
        return self._dropped_before + (self._reader.dropped_count if self._reader else 0)

    @property
    def pending_count(self) -> int:
        """The number of messages that wait for Kafka; 0 if this replica does not lead.

        Messages that wait while telemetry is off are sent once it is on again.
        """
        if self._reader is not None:
            return self._reader.pending
        if self._told is None:
            return 0
        return min(max(self._store.last_number() - self._told, 0), MAX_WAITING)

    def health(self) -> str:
        """Return the text about Kafka in `/health` (docs/protocol.md, "Probes and health")."""
        return self._contact.health()

    @property
    def reason(self) -> str | None:
        """A phrase that says why no messages are published; `None` while Kafka accepts messages.

        The reason may also be that telemetry is off, or that `telemetry_host` is not set.
        """
        return self._why_off() if self._address is None else self._contact.reason

    def _why_off(self) -> str:
        given = bool(self._params.current.telemetry_host)
        return "use_telemetry is off" if given else "no telemetry_host is given"

    def tell(self, judgements: Sequence[Judgement] = ()) -> None:
        """Publish new entries of the log soon, because `judgements` were committed to the log."""
        if self._reader is not None:
            self._reader.committed()
        elif not self._looked:
            self._look_up_cursor()

    def lead(self, undelivered: Sequence[Judgement], since: int) -> None:
        """Begin to publish the log, because this replica has become the leader.

        `undelivered` are the judgements that HSM has not acknowledged, according to the store; they
        are published only if the store has no cursor of Kafka yet. `since` is the number of the
        last log entry at the time when `undelivered` was read from the store.
        """
        self._leading = True
        self._stop_reading()
        self._start_reading(undelivered, since)
        if self._reader is None:
            self._look_up_cursor()

    def _look_up_cursor(self) -> None:
        """Read Kafka's cursor from the store, to count what has yet to be sent to Kafka.

        This is for the time in which there is no `LogReader`, which otherwise reads the cursor and
        counts. If reading fails, it is tried again after the next commit.
        """
        self._looked = True
        Deferred.fromCoroutine(self._look_up())

    async def _look_up(self) -> None:
        try:
            told = await self._store.cursor(KAFKA)
        except StoreUnusable:
            self._looked = False
            return
        if self._leading and self._reader is None:
            self._told = told

    def follow(self) -> None:
        """Stop publishing, and empty the backlog, because this replica no longer leads.

        The new leader publishes the log's entries from Kafka's cursor on.
        """
        self._leading = False
        self._told, self._looked = None, True
        self._stop_reading()

    def _start_reading(self, undelivered: Sequence[Judgement], since: int) -> None:
        if self.running and self._leading and self._address is not None:
            self._reader = LogReader(
                self._reactor, self._store, self._backlog, undelivered, since, self._jitter
            )
            self._reader.start()

    def _stop_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.stop()
            self._dropped_before += reader.dropped_count
            self._backlog.clear()

    def startService(self) -> None:
        """Start the service: publish if `use_telemetry` is on and `telemetry_host` is set."""
        super().startService()
        self._use(self._params.current.telemetry_address)

    def stopService(self) -> Deferred[None]:
        """Publish the waiting messages, for at most `sm_timeout` seconds; then stop the service.

        Wait until the thread has ended or `sm_timeout` seconds have passed; then store Kafka's
        cursor, which may take a second at most. The Deferred fires after that. Messages that were
        not published stay in the log.
        """
        super().stopService()
        if self._start_again is not None:
            self._start_again.cancel()
            self._start_again = None
        return Deferred.fromCoroutine(self._stop(self._params.current.sm_timeout))

    async def _stop(self, timeout: float) -> None:
        if self._thread is not None:
            self._backlog.stop(self._background.monotonic() + timeout)
            # The thread may be in a call that blocks for longer; then it ends with the process.
            ended = self._thread_ended.addTimeout(timeout, self._reactor)
            await ended.addErrback(lambda failure: failure.trap(TimeoutError))
        reader = self._reader
        if reader is None:
            return
        reader.stop()
        waiting, unlogged = reader.pending, reader.unlogged
        await self._save(reader)
        if waiting:
            self._log.warn(
                "{messages} not published to Kafka before hbtd stopped; {kept}.",
                messages=counted(waiting, "message was", "messages were"),
                kept=_what_becomes_of(waiting, unlogged if self._store.durable else waiting),
            )
        self._stop_reading()

    async def _save(self, reader: LogReader) -> None:
        """Store Kafka's cursor for the last time before the reader is dropped.

        If that fails, or takes more than a second, log that some messages may be sent twice.
        """
        try:
            await bounded(self._reactor, _LAST_SAVE, reader.save())
        except Exception as error:  # noqa: BLE001  # nothing is lost
            self._log.warn(
                "Kafka's cursor in the log of transitions could not be stored; after the next start"
                " some messages may be sent twice: {error}",
                error=str(error) or repr(error),
            )

    def _params_changed(self, old: Params, new: Params) -> None:
        if self.running and self._address != new.telemetry_address:
            self._use(new.telemetry_address)

    def _use(self, address: TelemetryAddress | None) -> None:
        """Publish to `address` from now on, including the messages that wait already.

        If `address` is `None`, publish nothing; what waits stays in the log.
        """
        if address is None:
            self._log.info("No messages are published to Kafka: {why}.", why=self._why_off())
        with self._backlog.changed:
            self._address = address
            self._backlog.send_to(address)
            self._contact.use(address)
        if address is None:
            self._switch_off()
            return
        if self._reader is None:
            self._start_reading([], self._store.last_number())
        if self._thread is None and self._start_again is None:
            self._start_thread()

    def _switch_off(self) -> None:
        reader = self._reader
        if reader is not None:
            self._told = reader.told
            # The store carries calls out in their order: the next reader finds the new cursor.
            Deferred.fromCoroutine(self._save(reader))
            self._stop_reading()

    def _start_thread(self) -> None:
        """Start the thread; if that is not possible now, try again after a pause."""
        self._start_again = None
        if self._address is None:
            return
        thread = self._background.make_thread(self._run)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            with self._backlog.changed:
                self._contact.fail(KafkaError(f"no thread can be started: {error}"))
            self._start_again = self._reactor.callLater(self._starting.next(), self._start_thread)
        else:
            self._thread = thread

    def _run(self) -> None:
        """Run the `Sender` until it stops: the main function of the publisher's thread."""
        try:
            self._sender.run()
        finally:
            self._reactor.callFromThread(self._thread_ended.callback, None)

    def _progressed(self) -> None:
        """Notify the reader, from the publisher's thread, that entries have left the backlog."""
        self._reactor.callFromThread(self._on_progress)

    def _on_progress(self) -> None:
        if self._reader is not None:
            self._reader.progressed()


def _what_becomes_of(waiting: int, lost: int) -> str:
    """Return a clause for the log about messages that were not published before hbtd stops.

    `waiting` is the number of these messages, `lost` that of those among them that are lost.
    """
    if lost == waiting:
        return "it is lost" if waiting == 1 else "they are lost"
    if not lost:
        return f"{'it is' if waiting == 1 else 'they are'} published after the next start"
    return (
        f"{counted(lost, 'of them is', 'of them are')} lost, from before hbtd noted how far Kafka"
        " has been told; the others are published after the next start"
    )
