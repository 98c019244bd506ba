"""etcd's messages: keys and values are bytes here and base64 on the wire, numbers are strings."""

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Message = dict[str, Any]
"""A message as JSON has it."""


class KeyValue(NamedTuple):
    """A key with its value, and the revisions that made the key and last changed it."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int
    """The lease with which the key goes; 0: none."""


class Event(NamedTuple):
    """A change of a key: `value` is what it was set to, `None` if it was deleted."""

    key: bytes
    value: bytes | None
    mod_revision: int
    lease: int


class Page(NamedTuple):
    """Some of a range's keys in their order, as they were at `revision`."""

    items: list[KeyValue]
    revision: int
    more: bool
    """Whether the range has more keys after these."""


class TxnResult(NamedTuple):
    """What came of a transaction."""

    succeeded: bool
    """Whether all compares held, so that the operations were done."""

    revision: int
    """The store's revision thereafter; of the keys that were put, the `mod_revision`."""


@dataclass(frozen=True)
class Compare:
    """A condition of a transaction; made by the methods below.

    To a key that does not exist, etcd gives the revisions 0.
    """

    message: Message

    @classmethod
    def exists(cls, key: bytes) -> "Compare":
        """Demand that the key exists."""
        return cls._of(key, "CREATE", "GREATER", {"create_revision": "0"})

    @classmethod
    def mod_revision(cls, key: bytes, revision: int) -> "Compare":
        """Demand that the key was last changed at this revision."""
        return cls._of(key, "MOD", "EQUAL", {"mod_revision": str(revision)})

    @classmethod
    def _of(cls, key: bytes, target: str, relation: str, operand: Message) -> "Compare":
        return cls({"key": encode_bytes(key), "target": target, "result": relation, **operand})


@dataclass(frozen=True)
class Put:
    """Set a key, on a lease if that is not 0."""

    key: bytes
    value: bytes
    lease: int = 0

    @property
    def message(self) -> Message:
        """What a transaction takes for this."""
        return {"request_put": put_message(self.key, self.value, self.lease)}


@dataclass(frozen=True)
class Delete:
    """Delete a key, or all keys from it up to, but without, `end`."""

    key: bytes
    end: bytes = b""

    @property
    def message(self) -> Message:
        """What a transaction takes for this."""
        return {"request_delete_range": range_message(self.key, self.end)}


Operation = Put | Delete


def encode_bytes(data: bytes) -> str:
    """Write bytes as etcd's JSON has them."""
    return b2a_base64(data, newline=False).decode("ascii")


def decode_bytes(text: str) -> bytes:
    """Read bytes as etcd's JSON has them; raises `ValueError` or `TypeError`."""
    return a2b_base64(text)


def put_message(key: bytes, value: bytes, lease: int) -> Message:
    """Write a put."""
    return {"key": encode_bytes(key), "value": encode_bytes(value), "lease": str(lease)}


def range_message(key: bytes, end: bytes, limit: int = 0, revision: int = 0) -> Message:
    """Write a range, be it to read or to delete."""
    message: Message = {"key": encode_bytes(key)}
    if end:
        message["range_end"] = encode_bytes(end)
    if limit:
        message["limit"] = str(limit)
    if revision:
        message["revision"] = str(revision)
    return message


# What follows reads what etcd says, where all that is zero, empty or false is left out. It raises
# ValueError, LookupError, TypeError or AttributeError when that is something else altogether.


def revision_of(message: Mapping[str, Any]) -> int:
    """Read the store's revision from an answer's header; 0 if the header has none.

    All of etcd's answers have a header: one without is somebody else's, and not an empty one.
    """
    return int(message["header"].get("revision", 0))


def read_key_value(message: Mapping[str, Any]) -> KeyValue:
    """Read a key with its value."""
    return KeyValue(
        decode_bytes(message["key"]),
        decode_bytes(message.get("value", "")),
        int(message["create_revision"]),
        int(message["mod_revision"]),
        int(message.get("lease", 0)),
    )


def read_key_values(message: Mapping[str, Any]) -> list[KeyValue]:
    """Read what a range found."""
    return [read_key_value(each) for each in message.get("kvs", ())]


def read_event(message: Mapping[str, Any]) -> Event:
    """Read a change."""
    changed = message["kv"]
    deleted = message.get("type", "PUT") == "DELETE"
    return Event(
        decode_bytes(changed["key"]),
        None if deleted else decode_bytes(changed.get("value", "")),
        int(changed["mod_revision"]),
        int(changed.get("lease", 0)),
    )


def read_txn(message: Mapping[str, Any]) -> TxnResult:
    """Read what came of a transaction."""
    return TxnResult(bool(message.get("succeeded", False)), revision_of(message))
