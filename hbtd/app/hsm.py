"""The client of HSM, made according to the parameters."""

import time
from collections.abc import Callable
from typing import Any

from treq.client import HTTPClient

from hbtd.config.live_params import LiveParams
from hbtd.hsm.client import HSMClient
from hbtd.hsm.fencing import FencedAgent
from hbtd.net.client_credentials import ClientCredentials, RenewedAgent
from hbtd.net.http_client import BoundedPool, PlainAgent, WholeBody


def connect_hsm(
    params: LiveParams,
    reactor: Any,
    user_agent: str,
    may_tell: Callable[[], bool],
    wall: Callable[[], float] = time.time,
) -> tuple[HSMClient, RenewedAgent]:
    """Return a client of HSM, and the agent that makes its connections.

    The caller has to close the agent's connections, and to have its credentials' file watched.
    `may_tell` is called immediately before each update, which is sent only if the result is true.
    `wall` returns Unix seconds. Raise `TLSUnusable` if the file of `sm_ca` can't be used.
    """
    credentials = ClientCredentials("HSM", "--sm_ca", params.current.sm_ca)
    agent = RenewedAgent(reactor, credentials, lambda: BoundedPool(reactor))
    http = HTTPClient(FencedAgent(PlainAgent(agent), may_tell), data_to_body_producer=WholeBody)
    return HSMClient(http, reactor, params, user_agent, wall), agent
