"""Following etcd's changes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from hbtd.etcd.errors import UNKNOWN, Compacted, EtcdRefused, EtcdUnavailable, error_in, one_line
from hbtd.etcd.gateway import NOT_ETCD, Gateway, words
from hbtd.etcd.messages import Event, Message, encode_bytes, read_event, revision_of

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes that a message of etcd's may have.

It splits those larger than a request may be, 1.5 MiB unless told otherwise; base64 and JSON make
more of these.
"""


class Watch:
    """Tells of all changes of ranges of keys, in their order, from `start_revision` on.

    A range is a pair of keys, from the first up to, but without, the second; an empty second one
    means the first key alone. There is an order among the changes of a range only; watch one range
    around all for an order among all.

    `on_events(events, revision)` gets changes, of one range each time. No more will come for this
    range of `revision` or before; it is that of the last event, or, when etcd has split up a large
    transaction, the one before. `on_progress(revision)` is called when etcd says so of all ranges
    without there being changes, which takes it ten minutes by default. Both are called as long as
    `ended` has not fired; what they raise, `ended` fails with.

    `silence` is how many seconds of `clock` may pass without a message until the watch counts as
    broken. etcd says nothing when nothing changes, so see to it that something does.
    """

    def __init__(
        self,
        gateway: Gateway,
        clock: IReactorTime,
        ranges: Sequence[tuple[bytes, bytes]],
        start_revision: int,
        on_events: Callable[[list[Event], int], None],
        *,
        silence: float,
        on_progress: Callable[[int], None] = lambda revision: None,
    ) -> None:
        if start_revision < 1 or not ranges:
            raise ValueError("a watch takes ranges, and a revision to start from")
        self._clock = clock
        self._on_events = on_events
        self._on_progress = on_progress
        self._silence = silence
        # What each range has been told to the end, by the range's number in the stream.
        self._told = dict.fromkeys(range(1, len(ranges) + 1), start_revision - 1)
        creates = [
            _create(number, start, end, start_revision)
            for number, (start, end) in enumerate(ranges, 1)
        ]
        self.ended: Deferred[None] = Deferred.fromCoroutine(self._run(gateway, creates))
        """Fails when the watch has ended, and never fires otherwise.

        With `Compacted` when `start_revision` is older than what etcd keeps: read anew. With
        `EtcdUnavailable` when the connection fails or nothing came for too long: watch again from
        `revision + 1`. With `EtcdRefused` when etcd won't have it. Cancelling it ends the watch,
        and closes the connection.
        """

    @property
    def revision(self) -> int:
        """The revision up to which all changes of all ranges have been told."""
        return min(self._told.values())

    async def _run(self, gateway: Gateway, creates: list[Message]) -> None:
        response, endpoint = await gateway.open("/watch", creates, self._silence)
        stream = _Stream(self._clock, self._silence, self._received)
        response.deliverBody(stream)
        try:
            await stream.over
        except EtcdUnavailable as error:
            raise gateway.unavailable(endpoint, str(error), timed_out=error.timed_out) from error

    def _received(self, line: bytes) -> None:
        """Take in a message; what this raises ends the watch."""
        try:
            said = orjson.loads(line)
            failure: Exception | None = error_in(said)
            if failure is None:
                result = said["result"]
                failure = _cancellation(result)
                number = int(result.get("watch_id", 0))
                events = [read_event(each) for each in result.get("events", ())]
                revision = revision_of(result)
        except NOT_ETCD as error:
            garbage = one_line(line[:1000].decode("utf-8", "replace"))
            raise EtcdUnavailable(f"does not watch as etcd does: {garbage}") from error
        if failure is not None:
            raise failure
        if number not in self._told or result.get("created"):
            return
        if events:
            # Not the header's revision: that can be ahead of what is still to come.
            told = events[-1].mod_revision - bool(result.get("fragment"))
            self._told[number] = max(told, self._told[number])
            self._on_events(events, told)
        else:
            before = self.revision
            self._told[number] = max(revision, self._told[number])
            if self.revision > before:
                self._on_progress(self.revision)


def _create(number: int, start: bytes, end: bytes, revision: int) -> Message:
    create: Message = {
        "watch_id": str(number),
        "key": encode_bytes(start),
        "start_revision": str(revision),
        "progress_notify": True,
        "fragment": True,
    }
    if end:
        create["range_end"] = encode_bytes(end)
    return {"create_request": create}


def _cancellation(result: Any) -> Exception | None:
    """Find out why etcd won't go on watching a range; `None` if it will."""
    if not result.get("canceled"):
        return None
    compacted = int(result.get("compact_revision", 0))
    if compacted:
        return Compacted(compacted)
    return EtcdRefused(UNKNOWN, one_line(str(result.get("cancel_reason", "watch cancelled"))))


class _Stream(Protocol):
    """Splits a stream into its messages, one a line; the last line may lack its end."""

    def __init__(
        self, clock: IReactorTime, silence: float, received: Callable[[bytes], None]
    ) -> None:
        self.over: Deferred[None] = Deferred(lambda _: self._close())
        """Fails when the stream has ended, or with what taking in a message raised."""
        self._received = received
        self._pending = bytearray()
        self._silence = silence
        self._silent = clock.callLater(silence, self._broken)

    def _close(self) -> None:
        if self._silent.active():
            self._silent.cancel()
        if self.transport is not None:
            self.transport.loseConnection()

    def _fail(self, reason: Failure) -> None:
        if not self.over.called:
            self._close()
            self.over.errback(reason)

    def _broken(self) -> None:
        said = f"sends nothing for {self._silence} s"
        self._fail(Failure(EtcdUnavailable(said, timed_out=True)))

    def _lines(self, data: bytes) -> Iterator[bytes]:
        first, *others = data.split(b"\n")
        self._pending += first
        for other in others:
            yield bytes(self._pending)
            self._pending = bytearray(other)
        if len(self._pending) > MAX_MESSAGE:
            raise EtcdUnavailable(f"sends a message of more than {MAX_MESSAGE} bytes")

    def dataReceived(self, data: bytes) -> None:
        if self.over.called:
            return
        self._silent.reset(self._silence)
        try:
            for line in self._lines(data):
                if line and not self.over.called:
                    self._received(line)
        except Exception:  # noqa: BLE001  # whatever it is, it ends the watch and is told there
            self._fail(Failure())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._pending:
            self.dataReceived(b"\n")
        if reason.check(ResponseDone, PotentialDataLoss):
            said = "has ended the watch"
        else:
            assert reason.value is not None
            said = words(reason.value)
        self._fail(Failure(EtcdUnavailable(said)))
