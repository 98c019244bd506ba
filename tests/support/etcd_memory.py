"""An etcd in memory, behind hbtd's real client, for stories on the clocks of a test.

Each client has a clock of its own, as a process has: while the clock does not advance, its process
stands still and gets no answer.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import RESOURCE_EXHAUSTED, EtcdRefused, EtcdUnavailable, error_in
from hbtd.etcd.gateway import Gateway, Opened
from hbtd.etcd.messages import Delete, Message, Put
from tests.support.etcd_state import EtcdState, Watcher
from tests.support.hsm_memory import USER_AGENT


class MemoryEtcd(EtcdState):
    """An etcd in memory, and what tests do to it."""

    def __init__(self, seconds: Callable[[], float], latency: float = 0.002) -> None:
        """Make an empty etcd; `seconds` is its clock.

        A message takes `latency` seconds from a client to etcd, or back.
        """
        super().__init__(seconds)
        self.refused = ""
        """The path of the requests that are refused."""
        self.latency = latency
        self.loses: Callable[[str], bool] = lambda path: False
        """Whether the answer to the next request to a path is lost, although that takes effect."""
        self._held = b""

    def client(self, clock: Clock) -> EtcdClient:
        """Return the client of a process that has this clock."""
        return _MemoryClient(self, clock)

    def answer(self, path: str, message: Message) -> Message | Deferred[Message]:
        """Return the answer to a request, or a Deferred of it."""
        if path == self.refused:
            raise EtcdRefused(RESOURCE_EXHAUSTED, "too many requests")
        return super().answer(path, message)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self.change([Put(key, value).message])

    def put_as_replica(self, presence: bytes, key: bytes, value: bytes) -> None:
        """Set a key in a transaction with a sign of life, as a replica of this hbtd does."""
        lease = int(self._lease_grant({"TTL": "1"})["ID"])
        self.change([Put(presence, b"", lease).message, Put(key, value).message])

    def delete(self, key: bytes) -> None:
        """Delete a key."""
        self.change([Delete(key).message])

    def hold_lock(self, name: bytes) -> None:
        """Hold a lock, in which nobody was before."""
        self.change([Put(name + b"/0", b"").message])
        self._held = name + b"/0"

    def release_lock(self) -> None:
        """Let go of the lock."""
        if self._held in self.keys:
            self.delete(self._held)

    def records(self) -> dict[str, dict[str, str]]:
        """Return all records, by component."""
        found = {key.decode(): each.value for key, each in self.keys.items() if key[:1] == b"x"}
        return {name: orjson.loads(value) for name, value in found.items()}


class _MemoryClient(EtcdClient):
    """hbtd's client on an etcd in memory."""

    def __init__(self, etcd: MemoryEtcd, clock: Clock) -> None:
        super().__init__(cast("Any", None), clock, ["http://etcd.example"], 3.0, USER_AGENT)
        self._gateway = cast("Gateway", _MemoryGateway(etcd, clock))


class _MemoryGateway:
    """Takes the place of the gateway."""

    def __init__(self, etcd: MemoryEtcd, clock: IReactorTime) -> None:
        self._etcd = etcd
        self._clock = clock

    def call(
        self, path: str, message: Message, read: Callable[[Any], Any], timeout: float | None = None
    ) -> Deferred[Any]:
        """Answer a request, after the time that this takes."""
        answered: Deferred[Any] = Deferred()
        limit = 3.0 if timeout is None else timeout

        def give(result: Any) -> None:
            if not answered.called:
                answered.callback(result)

        def reply(result: Any) -> None:
            self._clock.callLater(self._etcd.latency, give, result)

        def request() -> None:
            try:
                answer = self._etcd.answer(path, message)
            except EtcdRefused as error:
                reply(Failure(_as_read(error)))
                return
            if self._etcd.loses(path):
                reply(Failure(EtcdUnavailable("has closed the connection")))
            elif isinstance(answer, Deferred):
                answer.addBoth(reply)
            else:
                reply(answer)

        def expire() -> None:
            if not answered.called:
                answered.errback(EtcdUnavailable("does not answer", timed_out=True))

        expiring = self._clock.callLater(limit, expire)

        def done(result: Any) -> Any:
            if expiring.active():
                expiring.cancel()
            return result if isinstance(result, Failure) else read(result)

        self._clock.callLater(self._etcd.latency, request)
        return answered.addBoth(done)

    def open(self, path: str, messages: Sequence[Message], timeout: float) -> Deferred[Opened]:
        """Open the stream of a watch."""
        opened: Deferred[Opened] = Deferred()
        create = messages[0]["create_request"]
        stream = cast("Any", _MemoryStream(self._etcd, self._clock, create))

        def open_it() -> None:
            if not opened.called:
                opened.callback(Opened(stream, 0))

        self._clock.callLater(self._etcd.latency, open_it)
        return opened

    def unavailable(
        self, endpoint: int, reason: str, *, timed_out: bool = False
    ) -> EtcdUnavailable:
        """Return an error with this reason."""
        return EtcdUnavailable(reason, timed_out=timed_out)


def _as_read(error: EtcdRefused) -> Exception:
    """Return an error as the client reads it."""
    return error_in({"code": error.code, "message": error.message}) or error


class _MemoryStream:
    """The response with the changes of a range from a revision on."""

    def __init__(self, etcd: MemoryEtcd, clock: IReactorTime, create: Message) -> None:
        self._etcd = etcd
        self._clock = clock
        self._watcher = Watcher(create)
        self._protocol: Protocol | None = None

    def deliverBody(self, protocol: Protocol) -> None:
        """Send the changes to a protocol from now on, beginning with those that were before."""
        self._protocol = protocol
        protocol.makeConnection(cast("Any", self))
        self._unwatch = self._etcd.watch(self._look)
        self._look()

    def stopProducing(self) -> None:
        """End the stream."""
        if self._protocol is not None:
            self._protocol = None
            self._unwatch()

    def _look(self) -> None:
        messages, _ = self._etcd.news(self._watcher)
        for message in messages:
            self._clock.callLater(self._etcd.latency, self._send, orjson.dumps(message) + b"\n")

    def _send(self, data: bytes) -> None:
        if self._protocol is not None:
            self._protocol.dataReceived(data)

    def end(self) -> None:
        """End the stream as a server does that goes away."""
        protocol = self._protocol
        self.stopProducing()
        if protocol is not None:
            protocol.connectionLost(Failure(ResponseDone()))
