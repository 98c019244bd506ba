"""An etcd in memory, behind hbtd's real client, for stories on the clocks of a test.

Each client has a clock of its own, as a process has: while the clock does not advance, its process
stands still and gets no answer.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import NOT_FOUND, RESOURCE_EXHAUSTED, EtcdRefused, EtcdUnavailable
from hbtd.etcd.gateway import Gateway, Opened
from hbtd.etcd.messages import Delete, Message, Put, decode_bytes, encode_bytes
from tests.support.hsm_memory import USER_AGENT


@dataclass
class _Key:
    value: bytes
    created: int
    changed: int
    lease: int


@dataclass
class _Lease:
    ttl: int
    expires: float


class MemoryEtcd:
    """Keys with revisions, leases, locks and watches."""

    def __init__(self, seconds: Callable[[], float], latency: float = 0.002) -> None:
        """Make an empty etcd; `seconds` is its clock.

        A message takes `latency` seconds from a client to etcd, or back.
        """
        self.refused = ""
        """The path of the requests that are refused."""
        self._seconds = seconds
        self.latency = latency
        self.revision = 1
        self.keys: dict[bytes, _Key] = {}
        self.history: list[tuple[int, list[Message]]] = []
        """The changes, in the form of a watch's events, by revision."""
        self._leases: dict[int, _Lease] = {}
        self._last_lease = 0x1000
        self._watching: list[Callable[[], None]] = []
        self._held = b""
        self._waiting: list[tuple[bytes, bytes, Deferred[Message]]] = []

    def client(self, clock: Clock) -> EtcdClient:
        """Return the client of a process that has this clock."""
        return _MemoryClient(self, clock)

    def advance(self) -> None:
        """Let leases expire whose time has come."""
        for number, lease in list(self._leases.items()):
            if lease.expires <= self._seconds():
                self._end_lease(number)

    # What a test does to it

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self._change([Put(key, value).message])

    def put_as_replica(self, presence: bytes, key: bytes, value: bytes) -> None:
        """Set a key in a transaction with a sign of life, as a replica of this hbtd does."""
        lease = int(self._lease_grant({"TTL": "1"})["ID"])
        self._change([Put(presence, b"", lease).message, Put(key, value).message])

    def delete(self, key: bytes) -> None:
        """Delete a key."""
        self._change([Delete(key).message])

    def hold_lock(self, name: bytes) -> None:
        """Hold a lock, in which nobody was before."""
        self._change([Put(name + b"/0", b"").message])
        self._held = name + b"/0"

    def release_lock(self) -> None:
        """Let go of the lock."""
        if self._held in self.keys:
            self.delete(self._held)

    def records(self) -> dict[str, dict[str, str]]:
        """Return all records, by component."""
        found = {key.decode(): each.value for key, each in self.keys.items() if key[:1] == b"x"}
        return {name: orjson.loads(value) for name, value in found.items()}

    # Requests

    def answer(self, path: str, message: Message) -> Message | Deferred[Message]:
        """Return the answer to a request, or a Deferred of it."""
        if path == self.refused:
            raise EtcdRefused(RESOURCE_EXHAUSTED, "too many requests")
        handler = getattr(self, "_" + path.strip("/").replace("/", "_"))
        return cast("Message | Deferred[Message]", handler(message))

    def _header(self) -> Message:
        return {"header": {"revision": str(self.revision)}}

    def _kv_range(self, message: Message) -> Message:
        found = self._in_range(message)
        if message.get("sort_order") == "DESCEND":
            found.reverse()
        limit = int(message.get("limit", 0)) or len(found)
        shown = [] if message.get("count_only") else found[:limit]
        kvs = [
            {
                "key": encode_bytes(key),
                "value": "" if message.get("keys_only") else encode_bytes(self.keys[key].value),
                "create_revision": str(self.keys[key].created),
                "mod_revision": str(self.keys[key].changed),
                "lease": str(self.keys[key].lease),
            }
            for key in shown
        ]
        more = len(found) > limit
        return {**self._header(), "kvs": kvs, "more": more, "count": str(len(found))}

    def _kv_put(self, message: Message) -> Message:
        return self._change([{"request_put": message}])

    def _kv_txn(self, message: Message) -> Message:
        if not all(map(self._holds, message.get("compare", []))):
            return self._header()
        operations = message["success"]
        ranges = [each["request_range"] for each in operations if "request_range" in each]
        if not ranges:
            return {**self._change(operations), "succeeded": True}
        answers = [{"response_range": self._kv_range(each)} for each in ranges]
        return {**self._header(), "succeeded": True, "responses": answers}

    def _kv_compaction(self, message: Message) -> Message:
        return self._header()

    def _maintenance_status(self, message: Message) -> Message:
        return {**self._header(), "dbSize": "4096", "dbSizeQuota": str(2**31)}

    def _lease_grant(self, message: Message) -> Message:
        self._last_lease += 1
        ttl = int(message["TTL"])
        self._leases[self._last_lease] = _Lease(ttl, self._seconds() + ttl)
        return {**self._header(), "ID": str(self._last_lease), "TTL": str(ttl)}

    def _lease_keepalive(self, message: Message) -> Message:
        lease = self._leases.get(int(message["ID"]))
        if lease is None:
            return {"result": self._header()}
        lease.expires = self._seconds() + lease.ttl
        return {"result": {**self._header(), "TTL": str(lease.ttl)}}

    def _lease_revoke(self, message: Message) -> Message:
        if int(message["ID"]) not in self._leases:
            raise EtcdRefused(NOT_FOUND, "requested lease not found")
        self._end_lease(int(message["ID"]))
        return self._header()

    def _lock_lock(self, message: Message) -> Deferred[Message]:
        name, lease = decode_bytes(message["name"]), int(message["lease"])
        key = b"%s/%x" % (name, lease)
        put = {"key": encode_bytes(key), "value": "", "lease": str(lease)}
        self._change([{"request_put": put}])
        locked: Deferred[Message] = Deferred()
        self._waiting.append((name, key, locked))
        self._grant_locks()
        return locked

    # Changes

    def _change(self, operations: Sequence[Message]) -> Message:
        revision = self.revision + 1
        events: list[Message] = []
        for operation in operations:
            if (put := operation.get("request_put")) is not None:
                events.append(self._put(put, revision))
            else:
                for key in self._in_range(operation["request_delete_range"]):
                    events.append(self._delete(key, revision))
        if events or operations:
            self._happened(revision, events)
        return self._header()

    def _put(self, put: Message, revision: int) -> Message:
        key, lease = decode_bytes(put["key"]), int(put.get("lease", 0))
        if lease and lease not in self._leases:
            raise EtcdRefused(NOT_FOUND, "requested lease not found")
        known = self.keys.get(key)
        created = known.created if known is not None else revision
        self.keys[key] = _Key(decode_bytes(put["value"]), created, revision, lease)
        changed = {**put, "mod_revision": str(revision), "lease": str(lease)}
        return {"type": "PUT", "kv": changed}

    def _delete(self, key: bytes, revision: int) -> Message:
        del self.keys[key]
        return {"type": "DELETE", "kv": {"key": encode_bytes(key), "mod_revision": str(revision)}}

    def _end_lease(self, number: int) -> None:
        del self._leases[number]
        gone = [key for key, each in self.keys.items() if each.lease == number]
        if gone:
            revision = self.revision + 1
            self._happened(revision, [self._delete(key, revision) for key in gone])

    def _happened(self, revision: int, events: list[Message]) -> None:
        self.revision = revision
        self.history.append((revision, events))
        for look in list(self._watching):
            look()
        self._grant_locks()

    def _grant_locks(self) -> None:
        for waiting in list(self._waiting):
            name, key, locked = waiting
            if key not in self.keys:
                self._waiting.remove(waiting)
                locked.errback(EtcdRefused(NOT_FOUND, "lease not found"))
                continue
            rivals = [each for each in self.keys if each.startswith(name + b"/")]
            if key == min(rivals, key=lambda each: self.keys[each].created):
                self._waiting.remove(waiting)
                locked.callback({**self._header(), "key": encode_bytes(key)})

    def _holds(self, compare: Message) -> bool:
        known = self.keys.get(decode_bytes(compare["key"]))
        if compare["target"] == "CREATE":
            return (known.created if known is not None else 0) > int(compare["create_revision"])
        return (known.changed if known is not None else 0) == int(compare["mod_revision"])

    def _in_range(self, message: Message) -> list[bytes]:
        start = decode_bytes(message["key"])
        if not message.get("range_end"):
            return [start] if start in self.keys else []
        end = decode_bytes(message["range_end"])
        return sorted(key for key in self.keys if start <= key and (key < end or end == b"\0"))

    def watch(self, look: Callable[[], None]) -> Callable[[], None]:
        """Have `look` called after each change; return a function that ends that."""
        self._watching.append(look)
        return lambda: self._watching.remove(look)


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
                reply(Failure(error))
                return
            if isinstance(answer, Deferred):
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


class _MemoryStream:
    """The response with the changes of a range from a revision on."""

    def __init__(self, etcd: MemoryEtcd, clock: IReactorTime, create: Message) -> None:
        self._etcd = etcd
        self._clock = clock
        self._number = create["watch_id"]
        self._start = decode_bytes(create["key"])
        self._end = decode_bytes(create["range_end"])
        self._next = int(create["start_revision"])
        self._protocol: Protocol | None = None

    def deliverBody(self, protocol: Protocol) -> None:
        """Send the changes to a protocol from now on, beginning with those that were before."""
        self._protocol = protocol
        protocol.makeConnection(cast("Any", self))
        self._unwatch = self._etcd.watch(self._look)
        self._look()

    def loseConnection(self) -> None:
        """End the stream."""
        if self._protocol is not None:
            self._protocol = None
            self._unwatch()

    def _look(self) -> None:
        history = self._etcd.history
        first = bisect_left(history, self._next, key=lambda change: change[0])
        events = [
            event
            for _, changes in history[first:]
            for event in changes
            if self._start <= decode_bytes(event["kv"]["key"]) < self._end
        ]
        self._next = self._etcd.revision + 1
        if events:
            header = {"revision": str(self._etcd.revision)}
            result = {"header": header, "watch_id": self._number, "events": events}
            self._clock.callLater(
                self._etcd.latency, self._send, orjson.dumps({"result": result}) + b"\n"
            )

    def _send(self, data: bytes) -> None:
        if self._protocol is not None:
            self._protocol.dataReceived(data)

    def end(self) -> None:
        """End the stream as a server does that goes away."""
        protocol = self._protocol
        self.loseConnection()
        if protocol is not None:
            protocol.connectionLost(Failure(ResponseDone()))
