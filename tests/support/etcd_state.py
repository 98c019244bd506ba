"""What an etcd does, in memory: keys with revisions, transactions, leases, locks and watches.

It answers the messages of etcd's JSON gateway as a real one does; `tests/support/etcd_contract.py`
says what both do.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

from twisted.internet.defer import Deferred

from hbtd.etcd.errors import NOT_FOUND, RESOURCE_EXHAUSTED, UNKNOWN, EtcdRefused
from hbtd.etcd.messages import Message, decode_bytes, encode_bytes

_INVALID, _OUT_OF_RANGE = 3, 11

_NO_LEASE = "etcdserver: requested lease not found"

_NO_SPACE = "etcdserver: mvcc: database space exceeded"

_LARGE = 2 * 1024 * 1024
"""The size in bytes from which on a watch's message is split."""

_REVISIONS = 1000
"""The most revisions in a watch's message."""


class Key(NamedTuple):
    """A key's value, and the revisions in which it was created and last changed."""

    value: bytes
    created: int
    changed: int
    lease: int
    version: int

    def message(self, key: bytes, *, keys_only: bool = False) -> Message:
        """Return the key as JSON, in which zeros and empty values are left out."""
        found: Message = {
            "key": encode_bytes(key),
            "create_revision": str(self.created),
            "mod_revision": str(self.changed),
            "version": str(self.version),
        }
        if self.value and not keys_only:
            found["value"] = encode_bytes(self.value)
        if self.lease:
            found["lease"] = str(self.lease)
        return found


class _Lease:
    def __init__(self, ttl: int, expires: float) -> None:
        self.ttl = ttl
        self.expires = expires


class _Waiting:
    """A client that waits for a lock."""

    def __init__(self, name: bytes, key: bytes, created: int) -> None:
        self.name = name
        self.key = key
        self.created = created
        self.locked: Deferred[Message] = Deferred()


class Watcher:
    """A range that is watched, and the next revision that its watcher is to be told of."""

    def __init__(self, create: Message) -> None:
        """Make it of the message that asks for the watch."""
        self.number = int(create.get("watch_id", 0))
        self.start = decode_bytes(create["key"])
        self.end = decode_bytes(create.get("range_end", ""))
        self.next = int(create.get("start_revision", 0))

    def has(self, key: bytes) -> bool:
        """Return whether a key is in the range."""
        if not self.end:
            return key == self.start
        return self.start <= key and (key < self.end or self.end == b"\0")


class EtcdState:
    """An etcd's keys, history, leases and locks."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """Make an empty etcd; `seconds` is the clock of its leases."""
        self._seconds = seconds
        self.full = False
        """Whether there is no space for writes."""
        self._watching: list[Callable[[], None]] = []
        self._last_lease = 0x1000
        self.lose_data()

    def lose_data(self) -> None:
        """Forget everything."""
        self.revision = 1
        self.keys: dict[bytes, Key] = {}
        self.history: list[tuple[int, list[Message]]] = []
        """The changes, in the form of a watch's events, by revision."""
        self._compacted = 0
        self._versions: dict[bytes, list[tuple[int, Key | None]]] = {}
        self._sorted: list[bytes] = []
        self._leases: dict[int, _Lease] = {}
        self._waiting: list[_Waiting] = []

    def advance(self) -> None:
        """Let leases expire whose time has come."""
        now = self._seconds()
        for number, lease in list(self._leases.items()):
            if lease.expires <= now:
                self._end_lease(number)

    def extend_leases(self) -> None:
        """Let all leases begin anew, as a member does that has just been elected."""
        for lease in self._leases.values():
            lease.expires = self._seconds() + lease.ttl

    def leave(self) -> None:
        """Forget all connections, as the next process does of a member that was killed."""
        self._watching.clear()
        self._waiting.clear()

    def holder(self, name: bytes) -> bytes | None:
        """Return the key that stands for holding a lock, `None` if nobody holds it."""
        rivals = self._in_range(name + b"/", name + b"0")
        return min(rivals, key=lambda key: self.keys[key].created, default=None)

    # Requests

    def answer(self, path: str, message: Message) -> Message | Deferred[Message]:
        """Return the answer to a request, or a Deferred of it; raise `EtcdRefused`."""
        handler = getattr(self, "_" + path.strip("/").replace("/", "_"))
        return cast("Message | Deferred[Message]", handler(message))

    def header(self) -> Message:
        """Return what each answer begins with."""
        return {"header": {"member_id": "1", "revision": str(self.revision)}}

    def _need_space(self) -> None:
        if self.full:
            raise EtcdRefused(RESOURCE_EXHAUSTED, _NO_SPACE)

    def _kv_range(self, message: Message) -> Message:
        start, end = decode_bytes(message["key"]), decode_bytes(message.get("range_end", ""))
        revision = int(message.get("revision", 0))
        found: Sequence[tuple[bytes, Key]]
        if revision:
            found = list(self._as_of(revision, start, end))
        else:
            found = [(key, self.keys[key]) for key in self._in_range(start, end)]
        if message.get("sort_order") == "DESCEND":
            found = found[::-1]
        limit = int(message.get("limit", 0)) or len(found)
        shown = [] if message.get("count_only") else found[:limit]
        keys_only = bool(message.get("keys_only"))
        kvs = [each.message(key, keys_only=keys_only) for key, each in shown]
        answer = {**self.header(), "kvs": kvs, "count": str(len(found))}
        return {**answer, "more": True} if len(found) > limit else answer

    def _as_of(self, revision: int, start: bytes, end: bytes) -> Iterator[tuple[bytes, Key]]:
        self._check_revision(revision)
        for key in sorted(self._versions):
            if not _within(key, start, end):
                continue
            versions = self._versions[key]
            number = bisect_right(versions, revision, key=lambda version: version[0])
            found = versions[number - 1][1] if number else None
            if found is not None:
                yield key, found

    def _check_revision(self, revision: int) -> None:
        if revision < self._compacted:
            raise EtcdRefused(
                _OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"
            )
        if revision > self.revision:
            raise EtcdRefused(
                _OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"
            )

    def _kv_put(self, message: Message) -> Message:
        self._need_space()
        return self.change([{"request_put": message}])

    def _kv_txn(self, message: Message) -> Message:
        branches = (message.get(each, []) for each in ("success", "failure"))
        if any("request_put" in each for branch in branches for each in branch):
            self._need_space()
        holds = all(map(self._holds, message.get("compare", [])))
        operations = message.get("success" if holds else "failure", [])
        _check_duplicates(operations)
        ranges = [each["request_range"] for each in operations if "request_range" in each]
        answer = self.change([each for each in operations if "request_range" not in each])
        if ranges:
            found = [{"response_range": self._kv_range(each)} for each in ranges]
            answer = {**answer, "responses": found}
        return {**answer, "succeeded": True} if holds else answer

    def _kv_compaction(self, message: Message) -> Message:
        revision = int(message["revision"])
        self._check_revision(revision if revision != self._compacted else revision - 1)
        self._compacted = revision
        for key, versions in list(self._versions.items()):
            number = bisect_right(versions, revision, key=lambda version: version[0])
            if number and versions[number - 1][1] is not None:
                number -= 1
            del versions[:number]
            if not versions:
                del self._versions[key]
        del self.history[: bisect_left(self.history, revision, key=lambda each: each[0])]
        return self.header()

    def _maintenance_status(self, message: Message) -> Message:
        answer = {**self.header(), "dbSize": "4096", "dbSizeQuota": str(2**31)}
        return {**answer, "errors": ["memberID:1 alarm:NOSPACE "]} if self.full else answer

    def _lease_grant(self, message: Message) -> Message:
        self._need_space()
        self._last_lease += 1
        ttl = int(message["TTL"])
        self._leases[self._last_lease] = _Lease(ttl, self._seconds() + ttl)
        return {**self.header(), "ID": str(self._last_lease), "TTL": str(ttl)}

    def _lease_keepalive(self, message: Message) -> Message:
        lease = self._leases.get(int(message["ID"]))
        if lease is None:
            return {"result": self.header()}
        lease.expires = self._seconds() + lease.ttl
        return {"result": {**self.header(), "TTL": str(lease.ttl)}}

    def _lease_revoke(self, message: Message) -> Message:
        if int(message["ID"]) not in self._leases:
            raise EtcdRefused(NOT_FOUND, _NO_LEASE)
        self._end_lease(int(message["ID"]))
        return self.header()

    def _lock_lock(self, message: Message) -> Deferred[Message]:
        name, lease = decode_bytes(message["name"]), int(message["lease"])
        key = b"%s/%x" % (name, lease)
        if lease not in self._leases:
            raise EtcdRefused(UNKNOWN, _NO_LEASE)
        if self.full:
            raise EtcdRefused(UNKNOWN, _NO_SPACE)
        if key not in self.keys:
            self.change([{"request_put": {"key": encode_bytes(key), "lease": str(lease)}}])
        waiting = _Waiting(name, key, self.keys[key].created)
        waiting.locked = Deferred(lambda _: self._abandon(waiting))
        self._waiting.append(waiting)
        self._grant_locks()
        return waiting.locked

    # Changes

    def change(self, operations: Sequence[Message]) -> Message:
        """Carry out operations in one revision, if they change anything; return an answer."""
        revision = self.revision + 1
        events: list[Message] = []
        for operation in operations:
            if (put := operation.get("request_put")) is not None:
                if not put["key"]:
                    raise EtcdRefused(_INVALID, "etcdserver: key is not provided")
                lease = int(put.get("lease", 0))
                if lease and lease not in self._leases:
                    raise EtcdRefused(NOT_FOUND, _NO_LEASE)
        for operation in operations:
            if (put := operation.get("request_put")) is not None:
                events.append(self._put(put, revision))
            else:
                gone = operation["request_delete_range"]
                end = decode_bytes(gone.get("range_end", ""))
                for key in self._in_range(decode_bytes(gone["key"]), end):
                    events.append(self._delete(key, revision))
        if events:
            self._happened(revision, events)
        return self.header()

    def _put(self, put: Message, revision: int) -> Message:
        key, lease = decode_bytes(put["key"]), int(put.get("lease", 0))
        known = self.keys.get(key)
        if known is None:
            insort(self._sorted, key)
        value = decode_bytes(put.get("value", ""))
        made = self.keys[key] = Key(
            value,
            revision if known is None else known.created,
            revision,
            lease,
            1 if known is None else known.version + 1,
        )
        self._versions.setdefault(key, []).append((revision, made))
        return {"kv": made.message(key)}

    def _delete(self, key: bytes, revision: int) -> Message:
        del self.keys[key]
        del self._sorted[bisect_left(self._sorted, key)]
        self._versions[key].append((revision, None))
        return {"type": "DELETE", "kv": {"key": encode_bytes(key), "mod_revision": str(revision)}}

    def _end_lease(self, number: int) -> None:
        del self._leases[number]
        gone = [key for key in self._sorted if self.keys[key].lease == number]
        if gone:
            revision = self.revision + 1
            self._happened(revision, [self._delete(key, revision) for key in gone])

    def _happened(self, revision: int, events: list[Message]) -> None:
        self.revision = revision
        self.history.append((revision, events))
        for look in list(self._watching):
            look()
        self._grant_locks()

    def _abandon(self, waiting: _Waiting) -> None:
        """Let a client no longer wait for a lock."""
        self._waiting.remove(waiting)
        if waiting.key in self.keys:
            self.change([{"request_delete_range": {"key": encode_bytes(waiting.key)}}])

    def _grant_locks(self) -> None:
        for waiting in list(self._waiting):
            if waiting not in self._waiting:
                continue
            rivals = self._in_range(waiting.name + b"/", waiting.name + b"0")
            if any(self.keys[each].created < waiting.created for each in rivals):
                continue
            self._waiting.remove(waiting)
            if waiting.key in self.keys:
                waiting.locked.callback({**self.header(), "key": encode_bytes(waiting.key)})
            else:
                waiting.locked.errback(EtcdRefused(UNKNOWN, "mutex: session is expired"))

    def _holds(self, compare: Message) -> bool:
        known = self.keys.get(decode_bytes(compare["key"]))
        if compare["target"] == "CREATE":
            return (known.created if known is not None else 0) > int(compare["create_revision"])
        return (known.changed if known is not None else 0) == int(compare["mod_revision"])

    def _in_range(self, start: bytes, end: bytes) -> list[bytes]:
        if not end:
            return [start] if start in self.keys else []
        first = bisect_left(self._sorted, start)
        last = len(self._sorted) if end == b"\0" else bisect_left(self._sorted, end)
        return self._sorted[first:last]

    # Watches

    def watch(self, look: Callable[[], None]) -> Callable[[], None]:
        """Have `look` called after each change; return a function that ends that."""
        self._watching.append(look)
        return lambda: self._watching.remove(look)

    def created(self, watcher: Watcher) -> tuple[Message, bool]:
        """Return the answer to a watcher, and whether it will get more than that."""
        answer = {**self.header(), "watch_id": str(watcher.number), "created": True}
        if watcher.end not in (b"", b"\0") and watcher.end <= watcher.start:
            reason = {"canceled": True, "cancel_reason": "mvcc: watcher range is empty"}
            return {"result": {**answer, **reason, "watch_id": "-1"}}, False
        watcher.next = watcher.next or self.revision + 1
        return {"result": answer}, True

    def news(self, watcher: Watcher) -> tuple[list[Message], bool]:
        """Return all messages that a watcher has yet to get, and whether it may get more later."""
        number = {"watch_id": str(watcher.number)}
        if watcher.next < self._compacted:
            why = {"canceled": True, "compact_revision": str(self._compacted)}
            return [{"result": {"header": {}, **number, **why}}], False
        messages: list[Message] = []
        first = bisect_left(self.history, watcher.next, key=lambda each: each[0])
        # After a loss of data a watcher waits until the revisions have come as far again.
        watcher.next = max(watcher.next, self.revision + 1)
        for batch in _batches(self.history[first:]):
            events = [each for each in batch if watcher.has(decode_bytes(each["kv"]["key"]))]
            parts = list(_fragments(events))
            for i, part in enumerate(parts):
                result = {**self.header(), **number, "events": part}
                if i < len(parts) - 1:
                    result["fragment"] = True
                messages.append({"result": result})
        return messages, True


def _within(key: bytes, start: bytes, end: bytes) -> bool:
    return key == start if not end else start <= key and (key < end or end == b"\0")


def _batches(history: Sequence[tuple[int, list[Message]]]) -> Iterator[list[Message]]:
    for start in range(0, len(history), _REVISIONS):
        yield [event for _, events in history[start : start + _REVISIONS] for event in events]


def _fragments(events: Iterable[Any]) -> Iterator[list[Message]]:
    part: list[Message] = []
    size = 0
    for event in events:
        part.append(event)
        size += 60 + len(event["kv"].get("value", "")) * 3 // 4
        if size >= _LARGE:
            yield part
            part, size = [], 0
    if part:
        yield part


def _check_duplicates(operations: Sequence[Message]) -> None:
    """Raise `EtcdRefused` if a key is changed twice."""
    puts = [
        decode_bytes(each["request_put"]["key"]) for each in operations if "request_put" in each
    ]
    gone = [
        (decode_bytes(each["key"]), decode_bytes(each.get("range_end", "")))
        for each in (one.get("request_delete_range") for one in operations)
        if each is not None
    ]
    if len(set(puts)) < len(puts) or any(_within(key, *each) for key in puts for each in gone):
        raise EtcdRefused(_INVALID, "etcdserver: duplicate key given in txn request")
