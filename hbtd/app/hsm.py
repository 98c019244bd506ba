"""The client of HSM, made according to the parameters."""

import time
from collections.abc import Callable
from typing import Any

from treq.client import HTTPClient
from twisted.web.iweb import IAgent

from hbtd.config.live_params import LiveParams
from hbtd.hsm.client import HSMClient
from hbtd.hsm.fencing import FencedAgent
from hbtd.net.bearer import BearerAgent
from hbtd.net.client_credentials import ClientCredentials, RenewedAgent
from hbtd.net.http_client import BoundedPool, PlainAgent, WholeBody
from hbtd.net.own_secrets import SecretFile, read_bearer


def connect_hsm(
    params: LiveParams,
    reactor: Any,
    user_agent: str,
    may_tell: Callable[[], bool],
    wall: Callable[[], float] = time.time,
) -> tuple[HSMClient, RenewedAgent]:
    """Return a client of HSM, and the agent that makes its connections.

    The caller has to close the agent's connections, and to watch the files of the agent's
    credentials for changes. `may_tell` is called immediately before each update, which is sent only
    if the result is true. `wall` returns Unix seconds. Raise `TLSUnusable` if a file of `sm_ca`,
    `sm_cert` or `sm_key` can't be used, and `SecretUnusable` if the file of `sm_token` can't be
    used.
    """
    now = params.current
    credentials = ClientCredentials(
        "HSM", "--sm_ca", now.sm_ca, "--sm_cert", now.sm_cert, now.sm_key
    )
    agent = RenewedAgent(reactor, credentials, lambda: BoundedPool(reactor))
    plain: IAgent = PlainAgent(agent)
    conceal: Callable[[str], str] = str
    if now.sm_token:
        token = SecretFile(f"The contents of --sm_token={now.sm_token}", now.sm_token, read_bearer)
        credentials.also_watch(token.watched)
        plain, conceal = BearerAgent(plain, token), token.conceal
    http = HTTPClient(FencedAgent(plain, may_tell), data_to_body_producer=WholeBody)
    return HSMClient(http, reactor, params, user_agent, wall, conceal), agent
