"""How etcd is reached, as the parameters have it."""

from typing import Any

from treq.client import HTTPClient
from twisted.web.client import Agent

from hbtd.config.params import Params
from hbtd.etcd.client import EtcdClient
from hbtd.net.http_client import BoundedPool, PlainAgent
from hbtd.net.tls import client_policy, load_identity

_TIMEOUT = 3.0
"""Seconds that a call may take."""

_CONNECTIONS = 8
"""Connections that are kept: of those who write, watch, stand for leader and look."""


def connect_etcd(params: Params, reactor: Any, user_agent: str) -> tuple[EtcdClient, BoundedPool]:
    """Make a client of the etcd that `kv_url` names; gives its connections, too, to be closed.

    Raises `TLSUnusable` when one of the files of `kv_ca`, `kv_cert` and `kv_key` can't be used.
    """
    pool = BoundedPool(reactor)
    # What is sent again may have been done already.
    pool.retryAutomatically = False
    pool.maxPersistentPerHost = _CONNECTIONS
    identity = load_identity(params.kv_cert, params.kv_key) if params.kv_cert else None
    policy = client_policy(params.kv_ca or "system", identity)
    # An endpoint that swallows attempts to connect must leave time for the next one.
    agent = Agent(reactor, policy, connectTimeout=_TIMEOUT / 2, pool=pool)
    http = HTTPClient(PlainAgent(agent))
    return EtcdClient(http, reactor, params.kv_url.split(","), _TIMEOUT, user_agent), pool
