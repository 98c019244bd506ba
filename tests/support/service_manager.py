"""A stand-in for systemd that passes sockets, and collects what a service tells it."""

import socket
from collections.abc import Mapping

from twisted.trial.unittest import TestCase

from tests.support.processes import CHECKOUT, HbtdProcess, spawn
from tests.support.short_paths import short_folder

_START = """
import os, sys
count, *command = sys.argv[1:]
os.environ.update(LISTEN_FDS=count, LISTEN_PID=str(os.getpid()), WATCHDOG_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, *command])
"""


class ServiceManager:
    """The socket for messages, and the processes that send them."""

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
        while True:
            try:
                self._told.append(self._socket.recv(65536).decode())
            except BlockingIOError:
                return self._told

    def count(self, line: str) -> int:
        """Return how many messages have a line that begins so."""
        return sum(f"\n{message}".count(f"\n{line}") > 0 for message in self.told())
