"""hbtd-agent: as a module, on a clock of its own, and as a process."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support.processes import CHECKOUT
from tests.support.running import reactor

PATH = CHECKOUT / "deploy" / "node" / "hbtd-agent"


def _load() -> ModuleType:
    """Load the program, whose name is not that of a module."""
    loader = SourceFileLoader("hbtd_agent", str(PATH))
    spec = importlib.util.spec_from_loader("hbtd_agent", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Compiled, it would leave a file beside itself.
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


agent: Any = _load()
"""The program as a module."""


def pythons() -> dict[str, str]:
    """Return the interpreters on this host that hbtd-agent is made for, by their version."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {f"3.{sys.version_info.minor}": sys.executable}
    for minor in range(6, 20):
        name = f"3.{minor}"
        own = sorted(versions.glob(f"{name}.*/bin/python"))
        path = shutil.which(f"python{name}") if not own else str(own[-1])
        # What is on the path may be a stand-in for a version that is not installed.
        if path and not subprocess.run([path, "-c", ""], capture_output=True).returncode:
            found.setdefault(name, path)
    return found


class SimulatedClock:
    """The time of a simulated node, which ends at a given time."""

    def __init__(self, start: float, end: float) -> None:
        self.now, self.end = start, end

    def time(self) -> float:
        """Return the time of day."""
        return self.now

    def monotonic(self) -> float:
        """Return the same, since some other moment."""
        return self.now - 1000.0

    def sleep(self, seconds: float) -> None:
        """Let time pass; stop the agent when its time is over."""
        assert seconds > 0
        self.now += seconds
        if self.now > self.end:
            raise agent.Stopped


class NoLog:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.failing = False
        self.lines: list[str] = []

    def say(self, priority: int, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)

    def works(self, text: str) -> None:
        """Keep a line."""
        self.failing = False
        self.lines.append(text)

    def failed(self, failure: Any) -> None:
        """Keep a line."""
        self.failing = True
        self.lines.append(str(failure))

    def notify(self, text: str) -> None:
        """Ignore it."""


class SimulatedHbtd:
    """An hbtd, or what is in its place, as one node finds it.

    `answers` gets the time of a request and returns the answer, or `None` to answer not at all.
    """

    def __init__(self, clock: SimulatedClock, answers: Callable[[float], Any]) -> None:
        self._clock, self._answers = clock, answers
        self.tried: list[float] = []
        self.taken: list[float] = []
        self.asked: list[float] = []
        self.warntime: Callable[[float], str] = lambda now: "10"
        self.credentials = self.addresses = self
        self.renewed = False

    def token(self) -> str:
        """Return no token."""
        return ""

    def look_up(self) -> None:
        """Need no look-up."""

    def request(self, data: bytes, patience: float) -> Any:
        """Answer a request."""
        if data.startswith(b"GET"):
            self.asked.append(self._clock.now)
            body = b'{"Warntime":"%s"}' % self.warntime(self._clock.now).encode()
            return agent.Answer(200, {}, body, True)
        self.tried.append(self._clock.now)
        end = self._clock.now + 1.5 * patience
        while (answer := self._answers(self._clock.now)) is None:
            self.renewed = True
            if self._clock.now >= end:
                raise agent.Failed("timeout", "timed out")
            self._clock.sleep(0.1)
        if isinstance(answer, Exception):
            raise answer
        if answer.status == 200:
            self.taken.append(self._clock.now)
        return answer


def answer(status: int, **fields: str) -> Any:
    """Return an answer without a body; `_` in the names of fields stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return agent.Answer(status, named, b"", True)


def simulate(
    xname: str,
    start: float,
    seconds: float,
    answers: Callable[[float], Any] = lambda now: answer(200),
    *,
    note: str = "",
    warntime: str | Callable[[float], str] = "10",
    period: float | None = None,
) -> SimulatedHbtd:
    """Run the agent of a node from a time of day on; return what it did to hbtd."""
    clock = SimulatedClock(start, start + seconds)
    hbtd = SimulatedHbtd(clock, answers)
    hbtd.warntime = (lambda now: warntime) if isinstance(warntime, str) else warntime
    target = agent.Target("https", "hbtd", 28500, "/hmi/v1")
    settings = agent.Settings(
        target, xname, "nid000001", "1", "OK", "system", "", "", "", period, {}
    )
    try:
        agent.Agent(settings, hbtd, NoLog(), note, clock).run()
    except agent.Stopped:
        return hbtd
    raise AssertionError("it has ended")


class AgentProcess(ProcessProtocol):
    """hbtd-agent as a process."""

    def __init__(self) -> None:
        self.said = ""
        self.ended: Deferred[int] = Deferred()
        self._running = True

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Collect its output."""
        self.said += data.decode("utf-8", "replace")

    def processEnded(self, reason: Failure) -> None:
        """Keep the exit status, which is negative after a signal."""
        self._running = False
        error: Any = reason.value
        killed = isinstance(error, ProcessTerminated) and error.signal is not None
        self.ended.callback(-error.signal if killed else error.exitCode)

    def stop(self) -> Deferred[int]:
        """Stop it as systemd does; the Deferred has its exit status."""
        self._signal(signal.SIGTERM)
        return self.ended

    def finish(self) -> Deferred[int] | None:
        """Kill it if it still runs."""
        if not self._running:
            return None
        self._signal(signal.SIGKILL)
        return self.ended

    def _signal(self, number: int) -> None:
        assert self.transport is not None
        os.kill(self.transport.pid, number)


def spawn_agent(
    test: TestCase,
    arguments: Sequence[str],
    environ: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> AgentProcess:
    """Run hbtd-agent with a Python, until the test ends at the latest."""
    process = AgentProcess()
    command = [python, "-IS", str(PATH), *arguments]
    reactor.spawnProcess(
        process, python, command, env=dict(environ or {}), childFDs={0: "w", 1: "r", 2: "r"}
    )
    test.addCleanup(process.finish)
    return process


class Scripted(Protocol):
    """A connection of a server that answers as a test says."""

    def __init__(self, answers: Callable[[bytes], bytes | None]) -> None:
        self._answers, self._data = answers, b""
        self.transport: Any = None

    def dataReceived(self, data: bytes) -> None:
        """Answer each request, the body included; an answer of `b""` closes the connection."""
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        size = int(length[1]) if length else 0
        if not found or len(rest) < size:
            return
        self._data = rest[size:]
        reply = self._answers(head + found + rest[:size])
        if reply == b"":
            self.transport.loseConnection()
        elif reply is not None:
            self.transport.write(reply)


class ScriptedServer(Factory):
    """A server that answers as a test says; it counts its connections and keeps the requests.

    `answers` gets a request and returns what is sent: `b""` closes the connection, `None` is
    silence.
    """

    noisy = False

    def __init__(self, test: TestCase, answers: Callable[[bytes], bytes | None]) -> None:
        self.answers = answers
        self.connections: list[Scripted] = []
        self.requests: list[bytes] = []
        port = reactor.listenTCP(0, self, interface="127.0.0.1")
        test.addCleanup(self._stop, port)
        self.port = port.getHost().port
        self.url = f"http://127.0.0.1:{self.port}"

    def buildProtocol(self, address: Any) -> Scripted:
        """Count a connection."""
        protocol = Scripted(self._answer)
        self.connections.append(protocol)
        return protocol

    def _answer(self, request: bytes) -> bytes | None:
        self.requests.append(request)
        return self.answers(request)

    def _stop(self, port: Any) -> Any:
        for each in self.connections:
            if each.transport is not None:
                each.transport.abortConnection()
        return port.stopListening()
