"""A process that sends a steady load of heartbeats."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support.processes import CHECKOUT
from tests.support.running import reactor
from tests.support.steady_load import Load


class Generator(ProcessProtocol):
    """A process of `tests.support.steady_load`."""

    def __init__(self, test: TestCase, port: int, load: Load) -> None:
        self._output = b""
        self._errors = b""
        self._counts: Deferred[Any] = Deferred()
        self._running = True
        self._ended: Deferred[Any] = Deferred()
        command: Sequence[str] = (
            *(sys.executable, "-m", "tests.support.steady_load"),
            *(str(port), json.dumps(load._asdict())),
        )
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        reactor.spawnProcess(self, sys.executable, command, env=environment)
        test.addCleanup(self.end)

    def stop(self, *names: str) -> None:
        """Send no more heartbeats of components."""
        assert self.transport is not None
        self.transport.write("".join(f"{name}\n" for name in names).encode())

    def resume(self, *names: str) -> None:
        """Send heartbeats of components again."""
        self.stop(*(f"+{name}" for name in names))

    def counts(self) -> Deferred[Any]:
        """Return a Deferred that fires with the counts since the last call."""
        assert self.transport is not None
        self._counts = Deferred()
        self.transport.write(b"?\n")
        return self._counts

    def outReceived(self, data: bytes) -> None:
        """Collect the counts."""
        self._output += data
        line, end, rest = self._output.partition(b"\n")
        if end:
            self._output = rest
            self._counts.callback(json.loads(line))

    def errReceived(self, data: bytes) -> None:
        """Collect what went wrong."""
        self._errors += data

    def processEnded(self, reason: Failure) -> None:
        """Fail if counts are expected."""
        self._running = False
        self._ended.callback(None)
        if not self._counts.called:
            self._counts.errback(AssertionError(self._errors.decode()[-2000:]))

    def end(self) -> Deferred[Any]:
        """End the process; return a Deferred that fires when it has ended."""
        ended: Deferred[Any] = self._ended
        if self._running:
            assert self.transport is not None
            self._counts.addErrback(lambda _: None)
            self.transport.signalProcess("KILL")
        return ended
