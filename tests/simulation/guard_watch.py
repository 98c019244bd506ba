"""Somebody who asks hbtd what its guard knows, again and again, with `GET /guard`."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from tests.simulation.clock import WorldClock
from tests.simulation.network import Network
from tests.simulation.process import Process, ProcessReactor
from tests.simulation.server import EPOCH, PORT, Server

WATCHER = "10.0.0.5"

_EVERY = 4.0
"""Seconds between two questions; hbtd keeps its statements for a minute."""

_REQUEST = b"GET /hmi/v1/guard HTTP/1.1\r\nHost: hbtd\r\nConnection: close\r\n\r\n"


class Statement(NamedTuple):
    """What hbtd says of a disruption; times are those of the world."""

    number: int
    what: str
    """`disrupted` or `ended`."""
    domain: str
    kind: str
    at: float
    """When it was said."""
    began: float
    """When it was found that the domain is disrupted."""
    reason: str
    """Why it has ended."""
    includes: tuple[str, ...]
    """The domains whose disruptions are part of this one."""


class Watcher:
    """A client on a host of its own that collects the statements of all processes of hbtd."""

    def __init__(
        self,
        clock: WorldClock,
        network: Network,
        servers: Sequence[Server],
        stated: Callable[[Statement], object],
        fail: Callable[[Failure], None],
    ) -> None:
        """Begin to ask; `stated` is called with each statement when it is seen first."""
        self.known: dict[int, Statement] = {}
        """All statements, by number."""
        self.contradictions: list[str] = []
        """What was said in different ways under the same number."""
        self.last: dict[str, Any] = {}
        """The last answer of a leader."""
        self.answered = 0
        """How many questions were answered."""
        self._clock = clock
        self._servers = servers
        self._stated = stated
        self._reactor = ProcessReactor(Process(clock, lambda: 0.0, fail), network, WATCHER)
        clock.after(_EVERY, self._ask)

    def _ask(self) -> None:
        self._clock.after(_EVERY, self._ask)
        for server in self._servers:
            if server.hears:
                self._reactor.connectTCP(server.host, PORT, _Factory(self._take), timeout=_EVERY)

    def _take(self, body: bytes) -> None:
        answer = json.loads(body)
        self.answered += 1
        if answer["Leading"]:
            self.last = answer
        for each in reversed(answer["Statements"]):
            statement = Statement(
                each["Number"],
                each["What"],
                each["Domain"],
                each["Kind"],
                _time(each["At"]),
                _time(each["Began"]),
                each["Reason"] or "",
                tuple(each["Includes"] or ()),
            )
            known = self.known.setdefault(statement.number, statement)
            if known is statement:
                self._stated(statement)
            elif known != statement:
                self.contradictions.append(f"{known} is also {statement}")


def _time(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() - EPOCH


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take

    def buildProtocol(self, addr: Any) -> "_Client":
        return _Client(self._take)


class _Client(Protocol):
    transport: Any

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self._answer = b""

    def connectionMade(self) -> None:
        self.transport.write(_REQUEST)

    def dataReceived(self, data: bytes) -> None:
        self._answer += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        head, _, body = self._answer.partition(b"\r\n\r\n")
        length = [
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        if b" 200 " in head.partition(b"\r\n")[0] and length == [len(body)]:
            self._take(body)
