"""Which store keeps hbtd's state, as `kv_url` says."""

import time
from typing import Any

from hbtd.etcd.client import EtcdClient
from hbtd.store.etcd import EtcdStore
from hbtd.store.memory import MemoryStore
from hbtd.store.sqlite import SqliteStore
from hbtd.tracker.observed import ObservedClock


def make_store(
    kv_url: str, reactor: Any, observed: ObservedClock, etcd: EtcdClient | None
) -> MemoryStore | SqliteStore | EtcdStore:
    """Return the store that a valid `kv_url` names; it still has to be opened.

    `etcd` is the client for a URL of etcd's, and `None` for any other.
    """
    if etcd is not None:
        return EtcdStore(etcd, time.time)
    if kv_url == "mem:":
        return MemoryStore()
    return SqliteStore(kv_url.removeprefix("sqlite:"), reactor, observed.now)
