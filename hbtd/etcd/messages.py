"""The types of etcd's messages, and their JSON.

On the wire, keys and values are base64 and 64-bit numbers are strings; here they are `bytes` and
`int`.
"""

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Message = dict[str, Any]
"""A message as a JSON object."""


class KeyValue(NamedTuple):
    """A key with its value, and the revisions that created it and last changed it."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int
    """The lease on which the key is, 0 for none: the key is deleted when it ends."""


class Event(NamedTuple):
    """A change of a key: `value` is its new value, `None` if it was deleted."""

    key: bytes
    value: bytes | None
    mod_revision: int
    lease: int


class Page(NamedTuple):
    """Some of the keys of a range in their order, as of `revision`."""

    items: list[KeyValue]
    revision: int
    more: bool
    """Whether the range has more keys after these."""


class TxnResult(NamedTuple):
    """The outcome of a transaction."""

    succeeded: bool
    """Whether all compares held, so that the operations were carried out."""

    revision: int
    """The store's revision afterwards, which is the `mod_revision` of the keys that were put."""


@dataclass(frozen=True)
class Compare:
    """A condition of a transaction; its class methods make the kinds there are.

    The revisions of a key that does not exist are 0.
    """

    message: Message

    @classmethod
    def exists(cls, key: bytes) -> "Compare":
        """Return the condition that the key exists."""
        return cls._of(key, "CREATE", "GREATER", {"create_revision": "0"})

    @classmethod
    def mod_revision(cls, key: bytes, revision: int) -> "Compare":
        """Return the condition that the key was last changed at this revision."""
        return cls._of(key, "MOD", "EQUAL", {"mod_revision": str(revision)})

    @classmethod
    def _of(cls, key: bytes, target: str, relation: str, operand: Message) -> "Compare":
        return cls({"key": encode_bytes(key), "target": target, "result": relation, **operand})


@dataclass(frozen=True)
class Put:
    """The operation that sets a key, on a lease unless that is 0."""

    key: bytes
    value: bytes
    lease: int = 0

    @property
    def message(self) -> Message:
        """The operation as a transaction has it."""
        return {"request_put": put_message(self.key, self.value, self.lease)}


@dataclass(frozen=True)
class Delete:
    """The operation that deletes a key, or, with `end`, the keys up to but excluding that."""

    key: bytes
    end: bytes = b""

    @property
    def message(self) -> Message:
        """The operation as a transaction has it."""
        return {"request_delete_range": range_message(self.key, self.end)}


Operation = Put | Delete


def encode_bytes(data: bytes) -> str:
    """Return bytes as base64."""
    return b2a_base64(data, newline=False).decode("ascii")


def decode_bytes(text: str) -> bytes:
    """Return the bytes that base64 stands for; raise `ValueError` or `TypeError`."""
    return a2b_base64(text)


def put_message(key: bytes, value: bytes, lease: int) -> Message:
    """Return the message that sets a key."""
    return {"key": encode_bytes(key), "value": encode_bytes(value), "lease": str(lease)}


def range_message(key: bytes, end: bytes, limit: int = 0, revision: int = 0) -> Message:
    """Return the message that reads or deletes a range.

    An empty `end` stands for the one key; 0 for no limit, or the present revision.
    """
    message: Message = {"key": encode_bytes(key)}
    if end:
        message["range_end"] = encode_bytes(end)
    if limit:
        message["limit"] = str(limit)
    if revision:
        message["revision"] = str(revision)
    return message


# The functions below read answers, in which etcd leaves out whatever is zero, empty or false. They
# raise ValueError, LookupError, TypeError or AttributeError for what is no answer of etcd's.


def revision_of(message: Mapping[str, Any]) -> int:
    """Return the store's revision, which is in an answer's header; 0 if the header has none.

    All of etcd's answers have a header, so an answer without one is not etcd's: `LookupError`.
    """
    return int(message["header"].get("revision", 0))


def read_key_value(message: Mapping[str, Any]) -> KeyValue:
    """Return a key with its value."""
    return KeyValue(
        decode_bytes(message["key"]),
        decode_bytes(message.get("value", "")),
        int(message["create_revision"]),
        int(message["mod_revision"]),
        int(message.get("lease", 0)),
    )


def read_key_values(message: Mapping[str, Any]) -> list[KeyValue]:
    """Return the keys in the answer to a range."""
    return [read_key_value(each) for each in message.get("kvs", ())]


def read_event(message: Mapping[str, Any]) -> Event:
    """Return a change of a key."""
    changed = message["kv"]
    deleted = message.get("type", "PUT") == "DELETE"
    return Event(
        decode_bytes(changed["key"]),
        None if deleted else decode_bytes(changed.get("value", "")),
        int(changed["mod_revision"]),
        int(changed.get("lease", 0)),
    )


def read_txn(message: Mapping[str, Any]) -> TxnResult:
    """Return the outcome of a transaction."""
    return TxnResult(bool(message.get("succeeded", False)), revision_of(message))
