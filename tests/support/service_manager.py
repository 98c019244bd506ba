"""A stand-in for systemd that passes sockets, and collects what a service tells it."""

import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.support.processes import CHECKOUT, HbtdProcess, spawn
from tests.support.short_paths import short_folder

reactor: Any = _reactor

_START = """
import os, sys
count, *command = sys.argv[1:]
os.environ.update(LISTEN_FDS=count, LISTEN_PID=str(os.getpid()), WATCHDOG_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, *command])
"""


@implementer(IReadDescriptor)
class ServiceManager:
    """The socket for messages, and the processes that send them.

    Messages are read as they arrive, as systemd does: a few would fill the socket's queue.
    """

    def __init__(self, test: TestCase, watchdog: float | None = None) -> None:
        """Listen until the test ends; `watchdog` is the number of seconds that processes get."""
        self._test = test
        address = str(short_folder(test) / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        test.addCleanup(self._socket.close)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self._environ = {"NOTIFY_SOCKET": address}
        if watchdog is not None:
            self._environ["WATCHDOG_USEC"] = str(round(watchdog * 1e6))
        self._told: list[str] = []
        reactor.addReader(self)
        test.addCleanup(reactor.removeReader, self)

    def start(
        self,
        *arguments: str,
        passed: socket.socket | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> HbtdProcess:
        """Run `python arguments...`, with a socket that is passed to it if one is given."""
        descriptors = [] if passed is None else [passed.fileno()]
        return spawn(
            self._test,
            ["-c", _START, str(len(descriptors)), *arguments],
            {**self._environ, **(environ or {})},
            CHECKOUT,
            passed=descriptors,
        )

    def told(self) -> list[str]:
        """Return what has been told so far, message after message."""
        self.doRead()
        return self._told

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """Return what log lines about this begin with."""
        return "service manager"

    def doRead(self) -> None:
        """Read all messages that have arrived."""
        while True:
            try:
                self._told.append(self._socket.recv(65536).decode())
            except BlockingIOError:
                return

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: a socket for messages has no connection."""

    def count(self, line: str) -> int:
        """Return how many messages have a line that begins so."""
        return sum(f"\n{message}".count(f"\n{line}") > 0 for message in self.told())
