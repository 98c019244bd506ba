"""The types of etcd's messages, and their JSON.

On the wire, keys and values are base64 and 64-bit numbers are strings; here they are `bytes` and
`int`.
"""

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Message = dict[str, Any]
"""A message to or from etcd, as a JSON object."""


class KeyValue(NamedTuple):
    """A key with its value, and the revisions in which the key was created and last changed."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int
    """The ID of the lease that the key is attached to, or 0; the key is deleted with its lease."""


class Event(NamedTuple):
    """A change of a key in revision `mod_revision`.

    `value` is the new value, or `None` if the key was deleted. `lease` is the ID of the lease that
    the key is attached to, or 0.
    """

    key: bytes
    value: bytes | None
    mod_revision: int
    lease: int


class Page(NamedTuple):
    """A part of the keys of a range, in sorted order, with their values as of `revision`."""

    items: list[KeyValue]
    revision: int
    more: bool
    """Whether the range has more keys after those in `items`."""


class DatabaseSize(NamedTuple):
    """The size of etcd's database, in bytes, at the member of the cluster that answered."""

    size: int
    """The size of the database's file, to which the quota applies."""
    in_use: int
    """The part of the file that is in use; the rest of it is free."""
    quota: int
    """The limit of `size`, or 0 if it is not known."""
    full: bool = False
    """Whether the cluster has raised the alarm NOSPACE, and so accepts no writes."""


class TxnResult(NamedTuple):
    """The outcome of a transaction: whether it was carried out, and etcd's revision afterwards."""

    succeeded: bool
    """Whether all compares held, so that the operations were carried out."""

    revision: int
    """etcd's revision afterwards: the `mod_revision` of the keys that the transaction put."""


@dataclass(frozen=True)
class Compare:
    """A condition of a transaction, made by one of the class methods."""

    message: Message

    @classmethod
    def exists(cls, key: bytes) -> "Compare":
        """Return the condition that the key exists."""
        return cls._of(key, "CREATE", "GREATER", {"create_revision": "0"})

    @classmethod
    def mod_revision(cls, key: bytes, revision: int) -> "Compare":
        """Return the condition that the key was last changed in `revision`.

        The revision 0 stands for a key that does not exist.
        """
        return cls._of(key, "MOD", "EQUAL", {"mod_revision": str(revision)})

    @classmethod
    def _of(cls, key: bytes, target: str, relation: str, operand: Message) -> "Compare":
        return cls({"key": encode_bytes(key), "target": target, "result": relation, **operand})


@dataclass(frozen=True)
class Put:
    """The operation that sets a key, and attaches it to a lease unless `lease` is 0."""

    key: bytes
    value: bytes
    lease: int = 0

    @property
    def message(self) -> Message:
        """The operation as JSON, for use in a transaction."""
        return {"request_put": put_message(self.key, self.value, self.lease)}


@dataclass(frozen=True)
class Delete:
    """The operation that deletes a key, or a range of keys from `key` up to but excluding `end`."""

    key: bytes
    end: bytes = b""

    @property
    def message(self) -> Message:
        """The operation as JSON, for use in a transaction."""
        return {"request_delete_range": range_message(self.key, self.end)}


Operation = Put | Delete


def encode_bytes(data: bytes) -> str:
    """Return bytes as base64."""
    return b2a_base64(data, newline=False).decode("ascii")


def decode_bytes(text: str) -> bytes:
    """Return the bytes that a base64 text stands for.

    Raise `ValueError` if the text is not base64, and `TypeError` if `text` is not a string.
    """
    return a2b_base64(text)


def put_message(key: bytes, value: bytes, lease: int) -> Message:
    """Return the message that sets a key, and attaches it to a lease unless `lease` is 0."""
    return {"key": encode_bytes(key), "value": encode_bytes(value), "lease": str(lease)}


def range_message(key: bytes, end: bytes, limit: int = 0, revision: int = 0) -> Message:
    """Return the message of a request about the keys from `key` up to but excluding `end`.

    The message is the same for reading and for deleting the keys. If `end` is empty, the request is
    about `key` alone. `limit` and `revision` are for reading only: `limit` 0 stands for no limit,
    `revision` 0 for the current revision.
    """
    message: Message = {"key": encode_bytes(key)}
    if end:
        message["range_end"] = encode_bytes(end)
    if limit:
        message["limit"] = str(limit)
    if revision:
        message["revision"] = str(revision)
    return message


def last_key_message(start: bytes, end: bytes, revision: int = 0) -> Message:
    """Return the message that reads the last key from `start` up to but excluding `end`.

    The answer has the key without its value. `revision` 0 stands for the current revision.
    """
    order = {"sort_target": "KEY", "sort_order": "DESCEND", "keys_only": True}
    return range_message(start, end, 1, revision) | order


# The functions below read answers, in which etcd leaves out fields that are zero, empty or false.
# They raise ValueError, LookupError, TypeError or AttributeError if the answer is not etcd's.


def revision_of(message: Mapping[str, Any]) -> int:
    """Return etcd's revision from the header of an answer, or 0 if the header contains none.

    Raise `LookupError` if the answer has no header, and so is not etcd's.
    """
    return int(message["header"].get("revision", 0))


def read_key_value(message: Mapping[str, Any]) -> KeyValue:
    """Return a key with its value and revisions, read from a message of etcd."""
    return KeyValue(
        decode_bytes(message["key"]),
        decode_bytes(message.get("value", "")),
        int(message["create_revision"]),
        int(message["mod_revision"]),
        int(message.get("lease", 0)),
    )


def read_key_values(message: Mapping[str, Any]) -> list[KeyValue]:
    """Return the keys, with their values, in the answer to a range request."""
    return [read_key_value(each) for each in message.get("kvs", ())]


def read_event(message: Mapping[str, Any]) -> Event:
    """Return the change of a key that a message of a watch reports."""
    changed = message["kv"]
    deleted = message.get("type", "PUT") == "DELETE"
    return Event(
        decode_bytes(changed["key"]),
        None if deleted else decode_bytes(changed.get("value", "")),
        int(changed["mod_revision"]),
        int(changed.get("lease", 0)),
    )


def count_message(start: bytes, end: bytes) -> Message:
    """Return the message that asks how many keys a range has."""
    return range_message(start, end) | {"count_only": True}


def read_count(message: Mapping[str, Any]) -> int:
    """Return how many keys a range has, from etcd's answer to the message of `count_message`."""
    revision_of(message)
    return int(message.get("count", 0))


def read_size(message: Mapping[str, Any]) -> DatabaseSize:
    """Return the size of the database, from etcd's answer about the status of a cluster member.

    Only etcd 3.6 and later report the quota; with an earlier etcd, the quota is 0.
    """
    size = int(message["dbSize"])
    in_use = int(message.get("dbSizeInUse", size))
    full = any("NOSPACE" in str(each) for each in message.get("errors", ()))
    return DatabaseSize(size, in_use, int(message.get("dbSizeQuota", 0)), full)


def read_txn(message: Mapping[str, Any]) -> TxnResult:
    """Return the outcome of a transaction, from etcd's answer to it."""
    return TxnResult(bool(message.get("succeeded", False)), revision_of(message))
