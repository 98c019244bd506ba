"""Signs of life: the values of the replicas' presence keys in etcd."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

MOST_NAMED = 500
"""The most IP addresses, and the most components of each of two kinds, in a sign of life.

`Waiting.components` says what the two kinds are. If there are more, the sign of life says instead
that all components of a larger set count as waiting (`Waiting.heard_here`, `Waiting.everybody`).
"""

_FOR = b" for "
"""The text between the name of the replica and the names of those whose heartbeats wait there."""

_BLOCKS = b" blocks"
"""The mark of a replica that reads blocks, before `_WAITING` if both are there."""

_WAITING = b" waiting"
"""The mark of a replica at which heartbeats wait; the value ends with it."""

_LEADS = b" leads"
"""The mark of the replica that judges, behind its name; replicas that don't know it ignore it."""

_NEW = "new"
"""The word for all components that open a connection for each heartbeat."""

_HERE = "here"
"""The word for all components whose last heartbeat the replica took."""

_ALL = "all"
"""The word for all components."""


class Waiting(NamedTuple):
    """The components whose heartbeats a replica may have received, but not yet read or stored."""

    addresses: frozenset[str] = frozenset()
    """The IP addresses from which connections wait to be read at the replica."""
    components: frozenset[str] = frozenset()
    """The names of components whose heartbeats may be waiting at the replica, of two kinds.

    - Components whose last heartbeat the replica took, from an address that now has connections
      waiting at this or another replica.
    - Components whose heartbeats the replica took, and has yet to store.
    """
    fresh: bool = False
    """Whether all components that open a connection for each heartbeat count as waiting."""
    heard_here: bool = False
    """Whether all components whose last heartbeat the replica took count as waiting.

    If so, the components whose heartbeats may really be waiting are too many to name.
    """
    everybody: bool = False
    """Whether all components count as waiting, because too many may be waiting to name them."""

    def __bool__(self) -> bool:
        """Return whether any heartbeats may wait."""
        return any(tuple(self))


def waiting_at(
    addresses: Iterable[str | None],
    components: Iterable[str] | None,
    fresh: bool,
    unstored: Collection[str] = (),
) -> Waiting:
    """Return the components whose heartbeats wait at this replica, for its sign of life.

    - `addresses` are the IP addresses from which connections wait to be read here.
    - `components` are components whose last heartbeat this replica took, from an address that now
      has connections waiting at this or another replica. It is `None` if they are too many to name:
      then the result says that all components whose last heartbeat this replica took may wait.
    - `fresh` says whether components that open a connection for each heartbeat may wait.
    - `unstored` are the components whose heartbeats this replica took, but is late to store.

    If `addresses` or `unstored` has more than `MOST_NAMED` names, the result says instead that any
    component may wait.
    """
    named = frozenset(address for address in addresses if address is not None)
    if max(len(named), len(unstored)) > MOST_NAMED:
        return Waiting(everybody=True)
    return Waiting(named, frozenset(components or ()).union(unstored), fresh, components is None)


class SignOfLife(NamedTuple):
    """The content of a replica's presence key, for the other replicas and for operators."""

    name: bytes
    """The replica's host and port, for operators."""
    reads_blocks: bool
    """Whether the replica can read blocks, which are keys in etcd with the ages of many heartbeats.

    It is false for replicas of earlier releases.
    """
    waiting: Waiting = Waiting()
    """The components whose heartbeats may be waiting at the replica."""
    leads: bool = False
    """Whether the replica leads; always false for replicas of earlier releases."""

    def to_bytes(self) -> bytes:
        """Return the value of the presence key.

        The value ends with a mark if the replica reads blocks, and a further mark if heartbeats
        wait at the replica. Replicas of earlier releases look for these marks at the end.
        """
        waiting = self.waiting
        flags = {_NEW: waiting.fresh, _HERE: waiting.heard_here, _ALL: waiting.everybody}
        words = [word for word, applies in flags.items() if applies]
        names = " ".join([*words, *sorted(waiting.addresses), *sorted(waiting.components)])
        return b"".join(
            (
                self.name,
                _LEADS if self.leads else b"",
                _FOR + names.encode() if names else b"",
                _BLOCKS if self.reads_blocks else b"",
                _WAITING if waiting else b"",
            )
        )


def read_sign_of_life(value: bytes) -> SignOfLife:
    """Return the sign of life in the value of a presence key; any bytes are accepted.

    A replica of an earlier release says only that heartbeats wait, without names. Then all
    components whose last heartbeat that replica took count as waiting (`Waiting.heard_here`).
    """
    waits = value.endswith(_WAITING)
    rest = value.removesuffix(_WAITING)
    reads_blocks = rest.endswith(_BLOCKS)
    name, _, names = rest.removesuffix(_BLOCKS).partition(_FOR)
    leads = name.endswith(_LEADS)
    name = name.removesuffix(_LEADS)
    if not waits:
        return SignOfLife(name, reads_blocks, leads=leads)
    words = set(names.decode("utf-8", "replace").split()) or {_HERE}
    flags = words & {_NEW, _HERE, _ALL}
    addresses = frozenset(word for word in words if "." in word or ":" in word)
    waiting = Waiting(
        addresses,
        frozenset(words - flags - addresses),
        fresh=_NEW in flags,
        heard_here=_HERE in flags,
        everybody=_ALL in flags,
    )
    return SignOfLife(name, reads_blocks, waiting, leads)
