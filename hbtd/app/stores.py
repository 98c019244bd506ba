"""Makes the store that `kv_url` names."""

import os
from collections.abc import Callable
from typing import Any

from hbtd.app.hints import path_hint
from hbtd.config.live_params import LiveParams
from hbtd.etcd.client import EtcdClient
from hbtd.runtime.host import Host
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_blocks import Blocks
from hbtd.store.memory import MemoryStore
from hbtd.store.sqlite import SqliteStore
from hbtd.tracker.cohorts import Limits
from hbtd.tracker.observed import ObservedClock

StoreFactory = Callable[
    [LiveParams, Any, ObservedClock, EtcdClient | None, str, Host, Callable[[str], Limits]],
    MemoryStore | SqliteStore | EtcdStore,
]
"""The type of functions such as `make_store`: they return a store, which the caller has to open."""


def make_store(
    params: LiveParams,
    reactor: Any,
    observed: ObservedClock,
    etcd: EtcdClient | None,
    judge: str,
    host: Host,
    own_limits: Callable[[str], Limits],
) -> MemoryStore | SqliteStore | EtcdStore:
    """Return the store that `kv_url` names; the caller has to open it.

    `etcd` is the client of etcd; it is `None` if and only if `kv_url` names another store.
    `judge` is this replica's host and port, for the log of transitions; `host` has the clocks.
    `own_limits` returns the limits of its own that a component has, which is named by its xname.
    """
    if etcd is not None:
        blocks = Blocks(host.elapsed, lambda: params.current, own_limits)
        return EtcdStore(etcd, host.wall, blocks, judge)
    kv_url = params.current.kv_url
    if kv_url == "mem:":
        return MemoryStore(judge)
    return SqliteStore(kv_url.removeprefix("sqlite:"), reactor, observed.now, judge)


def describe_store(kv_url: str) -> str:
    """Return where the store that `kv_url` names keeps records, in words such as `in the file ...`.

    `kv_url` must be valid.
    """
    if kv_url == "mem:":
        return "only in memory, which a restart forgets"
    if kv_url.startswith("sqlite:"):
        return f"in the file {os.path.abspath(kv_url.removeprefix('sqlite:'))}"
    return f"in etcd at {kv_url.replace(',', ', ')}"


def store_hint(kv_url: str) -> str:
    """Return a hint on why the store named by `kv_url` could not be opened, or an empty text.

    Only files of SQLite have hints, because SQLite itself does not say why it can't open a file.
    """
    return path_hint(kv_url.removeprefix("sqlite:")) if kv_url.startswith("sqlite:") else ""
