"""hbtd in processes that have imported its modules already, which takes a fifth of the time.

One process for each worker of trial imports them; for each run it makes a copy of itself. This is
for what ends by itself. What happens before hbtd's own modules are imported, such as signals and
sockets of systemd's, takes a process of `tests.support.processes`.
"""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent.parent

_LONGEST = 1_000_000
"""The most bytes of a request or an answer."""


def run_prepared(
    arguments: Sequence[object], environ: Mapping[str, str], timeout: float = 60
) -> tuple[int, str]:
    """Run `hbtd arguments...`, which has to end by itself; return its status and what it says.

    Its working directory is `/`. A run that takes longer than `timeout` is killed.
    """
    return _source().run([str(each) for each in arguments], environ, timeout)


class _Source:
    """The process that makes copies of itself, as seen by the tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environ = {name: each for name, each in os.environ.items() if name.startswith("COVERAGE_")}
        # It ends when the connection does.
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), **environ},
            cwd="/",
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def run(
        self, arguments: Sequence[str], environ: Mapping[str, str], timeout: float
    ) -> tuple[int, str]:
        with self._lock:
            reader, writer = os.pipe()
            request = json.dumps({"arguments": arguments, "environ": dict(environ)})
            socket.send_fds(self._control, [request.encode()], [writer])
            os.close(writer)
            pid = self._answer()
            killer = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
            killer.start()
            with open(reader, encoding="utf-8", errors="replace") as file:
                said = file.read()
            status = self._answer()
            killer.cancel()
            return status, said

    def _answer(self) -> int:
        answer = self._control.recv(_LONGEST)
        if not answer:
            raise AssertionError(f"the process of prepared runs ended: {self._process.wait()}")
        return int(answer)


@functools.cache
def _source() -> _Source:
    return _Source()


def _serve(control: socket.socket) -> None:
    """Make a copy of this process for each request; return in each copy, and at the end."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, _LONGEST, 1)
        if not data:
            return
        pid = os.fork()
        if not pid:
            control.close()
            _run(json.loads(data), *descriptors)
            return
        os.close(descriptors[0])
        control.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        control.send(str(os.waitstatus_to_exitcode(status)).encode())


def _run(request: Mapping[str, Any], writer: int) -> None:
    """Be an hbtd."""
    from hbtd.cli import main

    for stream in 1, 2:
        os.dup2(writer, stream)
    os.close(writer)
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = ["hbtd", *request["arguments"]]
    main()


def _import() -> None:
    """Import what hbtd does; it imports the reactor first."""
    from hbtd.runtime.reactor import install

    install()
    import twisted.scripts.twistd  # noqa: F401

    import hbtd.app.process
    import hbtd.tap  # noqa: F401


if __name__ == "__main__":
    # The folder of this file, which has modules with the names of others.
    del sys.path[0]
    _import()
    source = os.getpid()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    if os.getpid() == source:
        # At once: figures of coverage would come while those of the tests are combined.
        signal.raise_signal(signal.SIGKILL)
