"""The client of etcd, made according to the parameters."""

from typing import Any

from treq.client import HTTPClient

from hbtd.config.params import Params
from hbtd.etcd.client import EtcdClient
from hbtd.net.client_credentials import ClientCredentials, RenewedAgent
from hbtd.net.http_client import BoundedPool, PlainAgent, WholeBody
from hbtd.net.own_secrets import Login, SecretFile, read_login

_TIMEOUT = 3.0
"""The timeout of a call to etcd, in seconds."""

_CONNECTIONS = 8
"""The most connections kept open: for writes, watches, the lock, lease renewals and reads."""


def connect_etcd(params: Params, reactor: Any, user_agent: str) -> tuple[EtcdClient, RenewedAgent]:
    """Return a client of the etcd that `kv_url` names, and the agent that makes its connections.

    The caller has to close the agent's connections, and to watch the files of the agent's
    credentials for changes. Raise `TLSUnusable` if a file of `kv_ca`, `kv_cert` or `kv_key` can't
    be used, and `SecretUnusable` if the file of `kv_login` can't be used.
    """
    credentials = ClientCredentials(
        "etcd",
        "--kv_ca",
        params.kv_ca or "system",
        "--kv_cert",
        params.kv_cert,
        params.kv_key,
    )

    login: SecretFile[Login] | None = None
    if params.kv_login:
        login = SecretFile(
            f"The user and password in --kv_login={params.kv_login}", params.kv_login, read_login
        )
        credentials.also_watch(login.watched)

    def make_pool() -> BoundedPool:
        pool = BoundedPool(reactor)
        # Not automatically: etcd may have carried out the request already.
        pool.retryAutomatically = False
        pool.maxPersistentPerHost = _CONNECTIONS
        return pool

    # An endpoint that does not answer must leave time to connect to the next one; but Linux repeats
    # a lost attempt to connect after a second only.
    agent = RenewedAgent(reactor, credentials, make_pool, connect_timeout=_TIMEOUT / 2)
    http = HTTPClient(PlainAgent(agent), data_to_body_producer=WholeBody)
    return EtcdClient(http, reactor, params.kv_url.split(","), _TIMEOUT, user_agent, login), agent
