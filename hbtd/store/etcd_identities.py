"""The host names and NIDs of components in etcd, in one key for up to 16 slots of a chassis.

A node sends its host name and NID with every heartbeat, but they hardly ever change. So they are
not in the records, which are written often and which the original hbtd reads, too. The identities
of many components share a key, which is written only when one of these identities has changed.
"""

import re
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

import orjson

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.messages import Compare, KeyValue, Put
from hbtd.store.etcd_format import InvalidValue, read_object
from hbtd.store.etcd_mirror import EtcdMirror
from hbtd.store.etcd_steps import batches
from hbtd.store.etcd_writer import EtcdWriter
from hbtd.store.interface import StoreUnusable
from hbtd.tracker.records import Identity

IDENTITY: Final = b"hbtd/identity/"
"""The prefix of all keys that store identities; `identity_key` returns the whole key."""

_END: Final = IDENTITY[:-1] + b"0"

_PLACE: Final = re.compile("x[0-9]+[a-z][0-9]+(?:[a-z]([0-9]+))?")
_SLOTS: Final = 16
"""The number of slots of a chassis whose nodes share a key: some kilobytes."""

_MOST_BYTES: Final = 32 * 1024
"""The most bytes in a value. Identities that don't fit are not stored."""

_AT_ONCE: Final = 16
"""The most keys in a transaction."""

_PAGE: Final = 100
"""The most keys in an answer."""

_ATTEMPTS: Final = 5
"""How often a transaction is tried if other replicas write the same keys meanwhile."""

_T = TypeVar("_T")
_Names = dict[str, tuple[str, str]]


def identity_key(xname: str) -> bytes:
    """Return the key that stores the identity of a component; several components share a key."""
    place = _PLACE.match(xname)
    if place is None:
        return IDENTITY + b"other/%d" % (sum(xname.encode()) % _SLOTS)
    slot = int(place[1] or 0) // _SLOTS
    end = place.start(1) - 1 if place[1] else place.end()
    return IDENTITY + f"{xname[:end]}/{slot}".encode()


def identities_value(names: _Names) -> bytes:
    """Return the value that stores `names`: the host name and NID of each component, by xname."""
    return orjson.dumps(dict(sorted(names.items())))


def read_identities(_: bytes, value: bytes) -> list[Identity]:
    """Return the identities in a key's value; raise `InvalidValue` if the value is invalid."""
    found: list[Identity] = []
    for xname, names in read_object(value).items():
        match names:
            case [str(hostname), str(nid), *_]:
                found.append(Identity(xname, hostname, nid))
            case _:
                raise InvalidValue("it holds no identities: they are lists of two texts")
    return found


class InTurn(Protocol):
    """The type of a function that runs a coroutine function after the store's earlier calls."""

    def __call__(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> Coroutine[Any, Any, _T]:
        """Run `work` once all earlier calls of the store have ended; return its result."""
        ...


class EtcdIdentities:
    """Reads and writes the identities of components in etcd.

    Every replica writes the identities of the components that it hears. As several replicas may
    write the same key, a replica reads the key first, and writes it only if the key has not changed
    meanwhile.
    """

    def __init__(
        self, client: EtcdClient, mirror: EtcdMirror, writer: EtcdWriter, in_turn: InTurn
    ) -> None:
        """Make the object that reads and writes identities.

        `in_turn` runs a coroutine function once all earlier calls of the store have ended.
        """
        self._client = client
        self._mirror = mirror
        self._writer = writer
        self._in_turn = in_turn

    async def read(self, after: str = "", most: int = sys.maxsize) -> Sequence[Identity]:
        """Return the identities of the first `most` components after the name `after`."""

        async def work() -> Sequence[Identity]:
            found: list[Identity] = []
            async for page in self._client.pages(IDENTITY, _END, size=_PAGE):
                for item in page.items:
                    found += self._mirror.read(read_identities, item.key, item.value) or ()
            found.sort()
            return [each for each in found if each.component > after][:most]

        return await self._in_turn(work)

    async def write(self, identities: Sequence[Identity]) -> None:
        """Store identities; they replace the stored ones of the same components.

        Raise `StoreUnusable` if other replicas keep writing the same keys.
        """
        changes: dict[bytes, dict[str, tuple[str, str] | None]] = {}
        for xname, hostname, nid in identities:
            changes.setdefault(identity_key(xname), {})[xname] = hostname, nid
        await self._in_turn(lambda: self._change(changes))

    async def remove(self, xname: str) -> None:
        """Delete the identity of a component; only functions that `in_turn` runs may call this."""
        await self._change({identity_key(xname): {xname: None}})

    async def _change(self, changes: dict[bytes, dict[str, tuple[str, str] | None]]) -> None:
        for keys in batches(sorted(changes), _AT_ONCE):
            for _ in range(_ATTEMPTS):
                if await self._try(keys, changes):
                    break
            else:
                raise StoreUnusable("other replicas keep writing the same identities")

    async def _try(
        self, keys: Sequence[bytes], changes: dict[bytes, dict[str, tuple[str, str] | None]]
    ) -> bool:
        """Apply `changes` to the values of `keys`: read the values, and write those that differ.

        `changes` has, by key and xname, the new host name and NID, or `None` to delete them.
        A value that would become too large is not written. Return whether this succeeded: `False`,
        with nothing written, if another replica has written one of the keys since it was read.
        """
        stored: dict[bytes, KeyValue] = {}
        async for page in self._client.pages(keys[0], keys[-1] + b"\0", size=_PAGE):
            stored.update((item.key, item) for item in page.items)
        compares: list[Compare] = []
        puts: list[Put] = []
        for key in keys:
            item = stored.get(key)
            before = {} if item is None else self._names(item)
            after = {xname: names for xname, names in {**before, **changes[key]}.items() if names}
            value = identities_value(after)
            if after != before and (len(value) <= _MOST_BYTES or len(after) < len(before)):
                revision = 0 if item is None else item.mod_revision
                compares.append(Compare.mod_revision(key, revision))
                puts.append(Put(key, value))
        return not puts or await self._writer.write_if(compares, puts)

    def _names(self, item: KeyValue) -> _Names:
        known = self._mirror.read(read_identities, item.key, item.value) or ()
        return {xname: (hostname, nid) for xname, hostname, nid in known}
