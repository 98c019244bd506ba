"""The choice of the store, by `kv_url`."""

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
    """Return the store that a valid `kv_url` names; the caller has to open it.

    `etcd` is the client of etcd; it is `None` if and only if `kv_url` names another store.
    """
    if etcd is not None:
        return EtcdStore(etcd, time.time)
    if kv_url == "mem:":
        return MemoryStore()
    return SqliteStore(kv_url.removeprefix("sqlite:"), reactor, observed.now)
