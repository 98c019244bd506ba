"""The client of HSM, made according to the parameters."""

from collections.abc import Callable
from typing import Any

from treq.client import HTTPClient
from twisted.web.client import Agent

from hbtd.config.live_params import LiveParams
from hbtd.hsm.client import HSMClient
from hbtd.hsm.fencing import FencedAgent
from hbtd.net.http_client import BoundedPool, PlainAgent
from hbtd.net.tls import client_policy


def connect_hsm(
    params: LiveParams, reactor: Any, user_agent: str, may_tell: Callable[[], bool]
) -> tuple[HSMClient, BoundedPool]:
    """Return a client of HSM, and its connection pool.

    The caller has to close the pool. `may_tell` is called immediately before each update, which is
    sent only if the result is true. Raise `TLSUnusable` if the file of `sm_ca` can't be used.
    """
    pool = BoundedPool(reactor)
    agent = PlainAgent(Agent(reactor, client_policy(params.current.sm_ca), pool=pool))
    http = HTTPClient(FencedAgent(agent, may_tell))
    return HSMClient(http, reactor, params, user_agent), pool
