"""Checks that HSM, etcd, Kafka and the issuer of JWTs can be reached.

hbtd starts without them, so a failure to reach one is only a warning. The requests are made with
hbtd's own clients and credentials, and change nothing.
"""

import random
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThreadPool

from hbtd import __version__
from hbtd.access.jwks import FetchedKeys, describe_fetch_failure
from hbtd.app.check.findings import Findings
from hbtd.app.etcd import connect_etcd
from hbtd.app.hsm import connect_hsm
from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.config.value_types import TelemetryAddress
from hbtd.net.client_credentials import ClientCredentials, RenewedAgent
from hbtd.net.http_client import BoundedPool, PlainAgent, describe_failure, root_cause
from hbtd.net.own_secrets import SecretUnusable
from hbtd.net.tls import TLSUnusable
from hbtd.runtime.deadline import bounded
from hbtd.telemetry.kafka import check_connection
from hbtd.telemetry.security import KafkaSecurity

_PATIENCE = 5.0
"""Seconds that each neighbour has to answer."""

_USER_AGENT = f"hbtd/{__version__} (check)"
_KEY = b"hbtd/check"


class Neighbours:
    """Checks that the neighbours answer; requests to all of them are sent at the same time."""

    def __init__(self, params: Params, reactor: Any, findings: Findings) -> None:
        self._params = params
        self._reactor = reactor
        self._findings = findings

    async def check(self) -> None:
        """Send a request to each neighbour that the parameters name; report whether it answers."""
        params = self._params
        asked: list[Deferred[None]] = []
        if params.nosm:
            self._findings.fine("HSM is not contacted: --nosm")
        else:
            asked.append(self._ask("--sm_url", params.sm_url, self._hsm()))
        if params.kv_url.startswith(("http://", "https://")):
            for url in params.kv_url.split(","):
                asked.append(self._ask("--kv_url", url, self._etcd(url)))
        if params.telemetry_address is not None:
            address = params.telemetry_address
            asked.append(self._ask("--telemetry_host", params.telemetry_host, self._kafka(address)))
        url = params.node_rules.jwks_url
        if url:
            asked.append(self._ask("--node_access", url, self._issuer(url)))
        await gatherResults(asked)

    async def _answer(self, option: str, where: str, question: Coroutine[Any, Any, None]) -> None:
        try:
            await bounded(self._reactor, _PATIENCE, question)
        except (TLSUnusable, SecretUnusable):
            return  # an error already, with the files
        except Exception as error:  # noqa: BLE001  # whatever it is, hbtd would start
            reason = str(error) or type(error).__name__
            why = reason if where in reason else f"{where}: {reason}"
            self._findings.warning(f"{option}: {why}; hbtd starts without it")
        else:
            self._findings.fine(f"{option}: {where} answers")

    def _ask(self, option: str, where: str, question: Coroutine[Any, Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._answer(option, where, question))

    async def _hsm(self) -> None:
        live = LiveParams(replace(self._params, sm_timeout=min(self._params.sm_timeout, 4)))
        client, agent = connect_hsm(live, self._reactor, _USER_AGENT, lambda: False)
        try:
            await client.ready()
        finally:
            await agent.closeCachedConnections()

    async def _etcd(self, url: str) -> None:
        params = replace(self._params, kv_url=url)
        client, agent = connect_etcd(params, self._reactor, _USER_AGENT)
        try:
            await client.get(_KEY)
        finally:
            await agent.closeCachedConnections()

    async def _kafka(self, address: TelemetryAddress) -> None:
        settings = KafkaSecurity(self._params).settings()
        if not settings:
            await self._reach(address)
            return
        await deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), check_connection, address, settings
        )

    async def _reach(self, address: TelemetryAddress) -> None:
        endpoint = HostnameEndpoint(self._reactor, address.host, address.port, timeout=_PATIENCE)
        try:
            protocol: Any = await endpoint.connect(Factory.forProtocol(Protocol))
        except Exception as error:
            raise ConnectionError(describe_failure(root_cause(error), "")) from error
        protocol.transport.abortConnection()

    async def _issuer(self, url: str) -> None:
        credentials = ClientCredentials("the issuer of JWTs' keys", "--jwt_ca", self._params.jwt_ca)
        agent = RenewedAgent(
            self._reactor, credentials, lambda: BoundedPool(self._reactor, persistent=False)
        )
        keys = FetchedKeys(url, HTTPClient(PlainAgent(agent)), self._reactor, random.random)
        try:
            await keys.fetch()
        except Exception as error:
            raise ConnectionError(describe_fetch_failure(error)) from error
        finally:
            await agent.closeCachedConnections()
