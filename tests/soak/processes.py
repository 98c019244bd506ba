"""The processes of a soak, hbtd and agents, and the balancer between simulated nodes and hbtd."""

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.agent import PATH, AgentProcess
from tests.support.processes import CHECKOUT, HbtdProcess
from tests.support.running import reactor

_WRONG = re.compile(r"Traceback| (?:error|critical) +\[")
"""Lines of a log that are noted: of a bug, or of what an operator has to know."""


class Logged(HbtdProcess):
    """An hbtd that writes its log into a file; `wrong` is called with each line of an error."""

    def __init__(self, path: Path, wrong: Callable[[str], None]) -> None:
        super().__init__()
        self._log = path.open("ab")
        self._wrong = wrong
        self._line = ""
        self.pid = 0

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Write the output, and look for the URL and for errors in it."""
        self._log.write(data)
        self._log.flush()
        if not self.url.called:
            super().childDataReceived(childFD, data)
        *lines, self._line = (self._line + data.decode("utf-8", "replace")).split("\n")
        for line in lines:
            if _WRONG.search(line):
                self._wrong(line)

    def processEnded(self, reason: Failure) -> None:
        """Close the log, and fire the Deferreds."""
        self._log.close()
        super().processEnded(reason)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._running


def spawn_hbtd(options: Sequence[str], log: Path, wrong: Callable[[str], None]) -> Logged:
    """Run hbtd with options; its `url` fires when it serves."""
    process = Logged(log, wrong)
    process.url.addErrback(lambda failure: "")
    command = [sys.executable, "-m", "hbtd", *options]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONUNBUFFERED": "1",
    }
    started = reactor.spawnProcess(
        process, sys.executable, command, env=environment, path=str(CHECKOUT),
        childFDs={0: "w", 1: "r", 2: "r"},
    )  # fmt: skip
    process.pid = started.pid
    return process


def run_agent(options: Sequence[str]) -> AgentProcess:
    """Run hbtd-agent with options."""
    process = AgentProcess()
    command = [sys.executable, "-IS", str(PATH), *options]
    reactor.spawnProcess(
        process, sys.executable, command, env={}, childFDs={0: "w", 1: "r", 2: "r"}
    )
    return process


def resume(pid: int) -> None:
    """Have a process that is stopped go on."""
    os.kill(pid, signal.SIGCONT)


@implementer(IProtocolFactory)
class _Noting:
    """Has its protocols note at the balancer from which port comes what they handle."""

    def __init__(self, wrapped: Any, balancer: "Ports", port: int) -> None:
        self._wrapped, self._balancer, self._port = wrapped, balancer, port
        self.doStart, self.doStop = wrapped.doStart, wrapped.doStop

    def buildProtocol(self, addr: Any) -> Any:
        """Make a protocol."""
        protocol = self._wrapped.buildProtocol(addr)
        received = protocol.dataReceived

        def noted(data: bytes) -> None:
            self._balancer.speaking = self._port
            received(data)

        protocol.dataReceived = noted
        return protocol


@implementer(IStreamClientEndpoint)
class Ports:
    """A load balancer for a fleet: connects to the ports in use in turn."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.all = list(ports)
        self.down: set[int] = set()
        """The ports at which no process is ready."""
        self.speaking = 0
        """The port of the connection whose data is handled now."""
        self._turn = 0

    def choose(self) -> int:
        """Return the next port."""
        self._turn += 1
        up = [port for port in self.all if port not in self.down] or self.all
        return up[self._turn % len(up)]

    def connect(self, factory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Connect to the next port."""
        port = self.choose()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout=2)
        connected: Deferred[IProtocol] = endpoint.connect(_Noting(factory, self, port))
        return connected
