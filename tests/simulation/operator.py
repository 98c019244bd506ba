"""Somebody who changes parameters with `PATCH /params`."""

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from tests.simulation.clock import WorldClock
from tests.simulation.network import Network
from tests.simulation.process import Process, ProcessReactor
from tests.simulation.rules import Rule
from tests.simulation.server import PORT

OPERATOR = "10.0.0.4"

_PATIENCE = 20.0
"""Seconds to wait for an answer."""


class Operator:
    """A client on a host of its own."""

    def __init__(
        self, clock: WorldClock, network: Network, fail: Callable[[Failure], None]
    ) -> None:
        self._process = Process(clock, lambda: 0.0, fail)
        self._reactor = ProcessReactor(self._process, network, OPERATOR)

    def patch(self, host: str, rule: Rule, ended: Callable[[bool], object]) -> None:
        """Ask hbtd on a host to go by a rule; call `ended` with whether it says that it does."""
        body = json.dumps(
            {
                "Warntime": str(rule.warntime),
                "Errtime": str(rule.errtime),
                "Interval": str(rule.interval),
            }
        )
        request = (
            f"PATCH /hmi/v1/params HTTP/1.1\r\nHost: hbtd\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        factory = _Factory(request.encode(), ended)
        self._reactor.connectTCP(host, PORT, factory, timeout=_PATIENCE)


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, request: bytes, ended: Callable[[bool], object]) -> None:
        self._request = request
        self._ended = ended

    def buildProtocol(self, addr: Any) -> "_Client":
        return _Client(self._request, self._ended)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._ended(False)


class _Client(Protocol):
    transport: Any

    def __init__(self, request: bytes, ended: Callable[[bool], object]) -> None:
        self._request = request
        self._ended = ended
        self._answer = b""

    def connectionMade(self) -> None:
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._answer += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        line = self._answer.partition(b"\r\n")[0]
        if line and b" 200 " not in line:
            raise AssertionError(f"a change of parameters was answered with {line!r}")
        self._ended(bool(line))
