"""Watches: streams in which etcd reports the changes of ranges of keys."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from hbtd.etcd.errors import (
    UNKNOWN,
    Compacted,
    EtcdRefused,
    EtcdUnavailable,
    TokenRefused,
    error_in,
    one_line,
)
from hbtd.etcd.gateway import NOT_ETCD, Gateway, describe
from hbtd.etcd.messages import Event, Message, encode_bytes, read_event, revision_of

MAX_MESSAGE = 16 * 1024 * 1024
"""The maximum size of a message from etcd, in bytes.

etcd splits messages that are larger than its limit for requests, by default 1.5 MiB. Each part is
encoded in base64 and JSON afterwards, which makes it longer.
"""


class Watch:
    """Reports all changes of ranges of keys, from a revision on.

    A range is a pair of keys and includes the first but not the second; if the second key is empty,
    the range is the first key alone. Changes are in order only within a range: to have the changes
    of several ranges in order, watch one range that contains them all.
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
        """Start to watch `ranges` from `start_revision` on.

        `on_events(events, revision)` is called with changes of one range. All changes of that range
        up to and including `revision` have then been reported. Usually, `revision` is that of the
        last event in `events`. It is one less if etcd has split the changes of a large transaction,
        and will report more changes of the same revision.

        `on_progress(revision)` is called when etcd reports, without a change, that all changes of
        all ranges up to `revision` have been reported; by default etcd does so every ten minutes.
        Neither function is called once the Deferred in the attribute `ended` has failed. If one of
        the functions raises an exception, `ended` fails with that exception.

        The watch counts as broken after `silence` seconds of `clock` without a message. etcd sends
        nothing while nothing changes, so the caller has to change a watched key at intervals
        of less than `silence` seconds.

        Raise `ValueError` if there are no ranges, or if `start_revision` is below 1.
        """
        if start_revision < 1 or not ranges:
            raise ValueError("a watch takes ranges, and a revision to start from")
        self._clock = clock
        self._on_events = on_events
        self._on_progress = on_progress
        self._silence = silence
        # The revision up to which each range is complete, by the range's number in the stream.
        self._complete = dict.fromkeys(range(1, len(ranges) + 1), start_revision - 1)
        creates = [
            _create(number, start, end, start_revision)
            for number, (start, end) in enumerate(ranges, 1)
        ]
        self.ended: Deferred[None] = Deferred.fromCoroutine(self._run(gateway, creates))
        """The end of the watch: a Deferred that only ever fails.

        The Deferred fails with `Compacted` if etcd no longer has `start_revision`: the caller has
        to read the keys again. It fails with `EtcdUnavailable` if the connection breaks, or if no
        message arrives for `silence` seconds: the caller can watch again from `revision + 1`. It
        fails with `EtcdRefused` if etcd refuses the watch. To end the watch and close its
        connection, cancel the Deferred.
        """

    @property
    def revision(self) -> int:
        """The revision up to which all changes of all ranges have been reported."""
        return min(self._complete.values())

    async def _run(self, gateway: Gateway, creates: list[Message]) -> None:
        response, endpoint, token = await gateway.open("/watch", creates, self._silence)
        stream = _Stream(self._clock, self._silence, self._received)
        response.deliverBody(stream)
        try:
            await stream.ended
        except EtcdUnavailable as error:
            if isinstance(error, TokenRefused):
                gateway.forget(token)
            raise gateway.unavailable(endpoint, str(error), timed_out=error.timed_out) from error
        except EtcdRefused:
            # etcd ends a watch with the same words if it does not know the token, and if the user
            # may not read the range.
            gateway.forget(token)
            raise

    def _received(self, line: bytes) -> None:
        """Read a message from etcd, and report its changes; an exception ends the watch."""
        try:
            message = orjson.loads(line)
            failure: Exception | None = error_in(message)
            if failure is None:
                result = message["result"]
                failure = _cancellation(result)
                number = int(result.get("watch_id", 0))
                events = [read_event(each) for each in result.get("events", ())]
                revision = revision_of(result)
        except NOT_ETCD as error:
            garbage = one_line(line[:1000].decode("utf-8", "replace"))
            raise EtcdUnavailable(f"does not watch as etcd does: {garbage}") from error
        if failure is not None:
            raise failure
        if number not in self._complete or result.get("created"):
            return
        if events:
            # The revision in the header can be later than that of events still to come.
            complete = events[-1].mod_revision - bool(result.get("fragment"))
            self._complete[number] = max(complete, self._complete[number])
            self._on_events(events, complete)
        else:
            before = self.revision
            self._complete[number] = max(revision, self._complete[number])
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
    """Return the reason why etcd has cancelled the watch on a range, or `None` if it has not."""
    if not result.get("canceled"):
        return None
    compacted = int(result.get("compact_revision", 0))
    if compacted:
        return Compacted(compacted)
    return EtcdRefused(UNKNOWN, one_line(str(result.get("cancel_reason", "watch cancelled"))))


class _Stream(Protocol):
    """The protocol that splits a watch's response into messages, one per line.

    The last line may have no line end.
    """

    transport: Any

    def __init__(
        self, clock: IReactorTime, silence: float, received: Callable[[bytes], None]
    ) -> None:
        self.ended: Deferred[None] = Deferred(lambda _: self._close())
        """A Deferred that fails when the stream ends, or with an exception of `received`."""
        self._received = received
        self._pending = bytearray()
        self._silence = silence
        self._silent = clock.callLater(silence, self._fell_silent)

    def _close(self) -> None:
        if self._silent.active():
            self._silent.cancel()
        if self.transport is not None:
            # Not loseConnection: over TLS, that waits for the answer of an etcd that may hang.
            self.transport.stopProducing()

    def _fail(self, reason: Failure) -> None:
        if not self.ended.called:
            self._close()
            self.ended.errback(reason)

    def _fell_silent(self) -> None:
        reason = f"sends nothing for {self._silence} s"
        self._fail(Failure(EtcdUnavailable(reason, timed_out=True)))

    def _lines(self, data: bytes) -> Iterator[bytes]:
        first, *others = data.split(b"\n")
        self._pending += first
        for other in others:
            yield bytes(self._pending)
            self._pending = bytearray(other)
        if len(self._pending) > MAX_MESSAGE:
            raise EtcdUnavailable(f"sends a message of more than {MAX_MESSAGE} bytes")

    def dataReceived(self, data: bytes) -> None:
        if self.ended.called:
            return
        self._silent.reset(self._silence)
        try:
            for line in self._lines(data):
                if line and not self.ended.called:
                    self._received(line)
        except Exception:  # noqa: BLE001  # `ended` reports it
            self._fail(Failure())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._pending:
            self.dataReceived(b"\n")
        if reason.check(ResponseDone, PotentialDataLoss):
            description = "has ended the watch"
        else:
            assert reason.value is not None
            description = describe(reason.value)
        self._fail(Failure(EtcdUnavailable(description)))
