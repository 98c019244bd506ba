"""hbtd as a process of its own."""

import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support.running import reactor

CHECKOUT = Path(__file__).resolve().parent.parent.parent

_SERVES = re.compile(r'hbtd \S+ serves ([^\s"]+)')


class HbtdProcess(ProcessProtocol):
    """A process that serves hbtd, its output, and its exit status."""

    def __init__(self) -> None:
        self.said = ""
        """Its output, on both standard streams."""
        self.url: Deferred[str] = Deferred()
        """Fires with its URL, or fails when the process ends before it serves."""
        self.ended: Deferred[int] = Deferred()
        """Fires with the exit status, which is negative after a signal."""
        self._running = True

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Collect the output, and look for the URL in it."""
        self.said += data.decode("utf-8", "replace")
        serves = _SERVES.search(self.said)
        if serves and not self.url.called and "\n" in self.said[serves.end() :]:
            # Listening on all addresses; the certificate is for this name.
            self.url.callback(re.sub(r"//\[::\]|//0\.0\.0\.0", "//localhost", serves[1]))

    def processEnded(self, reason: Failure) -> None:
        """Fire the Deferreds."""
        self._running = False
        error = reason.value
        assert isinstance(error, ProcessDone | ProcessTerminated)
        status = error.exitCode if error.signal is None else -error.signal
        if not self.url.called:
            self.url.errback(AssertionError(f"ended with {status}: {self.said}"))
        self.ended.callback(status)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.transport is not None
        os.kill(self.transport.pid, number)

    def finish(self) -> Deferred[object] | None:
        """Kill it if it still runs; the Deferred fires when it has ended."""
        if not self._running:
            return None
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        return self.ended.addBoth(lambda status: status)


def spawn(
    test: TestCase,
    arguments: Sequence[str],
    environ: Mapping[str, str] | None = None,
    cwd: Path = CHECKOUT,
    stderr: int | None = None,
    passed: Sequence[int] = (),
) -> HbtdProcess:
    """Run `python arguments...`, until the test ends at the latest.

    Its standard error is collected, unless `stderr` is another file descriptor for it. The file
    descriptors `passed` are its third and following ones.
    """
    process = HbtdProcess()
    process.url.addErrback(lambda failure: failure)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONUNBUFFERED": "1",
        # `make coverage` measures it too.
        **{name: os.environ[name] for name in os.environ if name.startswith("COVERAGE_")},
        **(environ or {}),
    }
    reactor.spawnProcess(
        process,
        sys.executable,
        [sys.executable, *arguments],
        env=environment,
        path=str(cwd),
        childFDs={
            0: "w",
            1: "r",
            2: "r" if stderr is None else stderr,
            **dict(enumerate(passed, 3)),
        },
    )
    test.addCleanup(process.finish)
    return process


MEMORY = ("--kv_url=mem:", "--port=0", "--nosm", "--use_telemetry=no")
"""Options for an hbtd that needs no other service."""
