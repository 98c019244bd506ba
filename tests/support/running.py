"""hbtd and other services on real sockets of this host."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from treq.client import HTTPClient
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.server import Site

from hbtd.app.service import HbtdService
from hbtd.config.params import Params
from hbtd.net.tls import client_policy
from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.telemetry.kafka import Kafka

reactor: Any = _reactor
"""Twisted's reactor, whose type says less than it can do."""

NODE = "x1000c0s0b0n0"

_TURN = 0.1
"""The most seconds that one turn of the reactor uses up of a time limit."""

# librdkafka's broker can't tell kafka-python its version.
mock_kafka = partial(Kafka, api_version=(2, 3))


async def until(condition: Callable[[], object], within: float = 30.0) -> None:
    """Wait until a condition is true; fail after `within` seconds.

    Where the time is not what is tested, there is plenty of it: machines are slow and busy. Where
    it is, times in which the machine does not let this process work do not count.
    """
    left = within
    while not condition():
        if left < 0.0:
            raise AssertionError(f"not within {within} s")
        began = reactor.seconds()
        await deferLater(reactor, 0.01)
        left -= min(reactor.seconds() - began, _TURN)


class WebClient:
    """An HTTP client that trusts every certificate and is closed with its test."""

    def __init__(self, test: TestCase) -> None:
        pool = HTTPConnectionPool(reactor)
        self.treq = HTTPClient(Agent(reactor, client_policy("insecure"), pool=pool))
        test.addCleanup(pool.closeCachedConnections)

    async def request(self, method: str, url: str, body: Any = None) -> tuple[int, Any]:
        """Send a request, with a JSON body if given; return the status and the decoded answer."""
        arguments = {} if body is None else {"json": body}
        response = await self.treq.request(
            method, url, allow_redirects=False, timeout=20, reactor=reactor, **arguments
        )
        content = await response.content()
        return response.code, (await response.json()) if content else None


def heartbeat(name: str = NODE, timestamp: str = "2026-11-23T00:00:00Z") -> dict[str, str]:
    """Return the body of a heartbeat."""
    return {
        "Component": name,
        "Hostname": "nid000001",
        "NID": "1",
        "Status": "OK",
        "Timestamp": timestamp,
    }


@dataclass
class Hbtd:
    """An hbtd in this process, with a client."""

    service: HbtdService
    url: str
    client: WebClient

    async def beat(self, name: str = NODE, timestamp: str = "2026-11-23T00:00:00Z") -> int:
        """Send a heartbeat, and return the status."""
        status, _ = await self.client.request(
            "POST", f"{self.url}/hmi/v1/heartbeat", heartbeat(name, timestamp)
        )
        return status

    async def patch(self, **params: str) -> None:
        """Change parameters."""
        status, answer = await self.client.request("PATCH", f"{self.url}/hmi/v1/params", params)
        assert status == 200, answer


def start_hbtd(test: TestCase, **params: Any) -> Hbtd:
    """Start hbtd with the memory store on a free port, until the test ends."""
    settings = {"kv_url": "mem:", "port": 0, "nosm": True, "use_telemetry": False, **params}
    service = HbtdService(Params(**settings), reactor, connect_kafka=mock_kafka)
    service.startService()
    assert service.port is not None
    scheme = "https" if service.params.current.tls else "http"
    # A Unix socket has no port.
    url = f"{scheme}://localhost:{getattr(service.port.getHost(), 'port', '')}"

    def stop() -> Deferred[None] | None:
        return service.stopService() if service.running else None

    # The client's connections are closed first: cleanups run last in, first out.
    test.addCleanup(stop)
    return Hbtd(service, url, WebClient(test))


@dataclass
class RunningHSM:
    """A fake HSM on a port."""

    hsm: FakeHSM
    port: Any
    url: str


def start_hsm(
    test: TestCase, port: int = 0, on_update: Callable[[Update], None] | None = None
) -> RunningHSM:
    """Start a fake HSM, until the test ends."""
    hsm = FakeHSM(reactor, on_update)
    listening = reactor.listenTCP(port, Site(hsm.resource(), timeout=5), interface="127.0.0.1")
    test.addCleanup(hsm.stop)
    test.addCleanup(listening.stopListening)
    return RunningHSM(hsm, listening, f"http://127.0.0.1:{listening.getHost().port}/hsm/v1")
