"""The client of etcd, made according to the parameters."""

from typing import Any

from treq.client import HTTPClient
from twisted.web.client import Agent

from hbtd.config.params import Params
from hbtd.etcd.client import EtcdClient
from hbtd.net.http_client import BoundedPool, PlainAgent
from hbtd.net.tls import client_policy, load_identity

_TIMEOUT = 3.0
"""The timeout of a call to etcd, in seconds."""

_CONNECTIONS = 8
"""The most connections kept open: for writes, watches, the lock, lease renewals and reads."""


def connect_etcd(params: Params, reactor: Any, user_agent: str) -> tuple[EtcdClient, BoundedPool]:
    """Return a client of the etcd that `kv_url` names, and the pool of its connections.

    The caller has to close the pool. Raise `TLSUnusable` if a file of `kv_ca`, `kv_cert` or
    `kv_key` can't be used.
    """
    pool = BoundedPool(reactor)
    # Not automatically: etcd may have carried out the request already.
    pool.retryAutomatically = False
    pool.maxPersistentPerHost = _CONNECTIONS
    identity = load_identity(params.kv_cert, params.kv_key) if params.kv_cert else None
    policy = client_policy(params.kv_ca or "system", identity)
    # An endpoint that does not answer must leave time to connect to the next one; but Linux repeats
    # a lost attempt to connect after a second only.
    agent = Agent(reactor, policy, connectTimeout=_TIMEOUT / 2, pool=pool)
    http = HTTPClient(PlainAgent(agent))
    return EtcdClient(http, reactor, params.kv_url.split(","), _TIMEOUT, user_agent), pool
