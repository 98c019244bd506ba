"""Real servers as processes of the tests: started, killed, frozen and removed."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

HOST = "127.0.0.1"

# Reads its standard input until that ends, which it does with the process of the tests, whatever
# ended that; then ends the server, if it is one still, and removes its directory.
_WATCH = """
while read -r _; do :; done
grep -q "$3" "/proc/$1/cmdline" 2>/dev/null && kill -KILL "$1"
rm -rf -- "$2"
"""

_taken: set[int] = set()
"""Ports that were returned already, whether a server listens there or not."""


class ServerError(Exception):
    """A server could not be started, or does not run."""


def free_ports(count: int) -> list[int]:
    """Return free TCP ports outside of the kernel's range for clients.

    A port of that range could, while the server is stopped, become the source port of any
    connection; even of one to itself: a client that keeps trying a loopback port nobody listens on
    may be given that very port, is then connected to itself, and the server can't come back.
    """
    candidates = [port for port in range(20000, 32000) if port not in _taken]
    random.shuffle(candidates)
    found: list[int] = []
    for port in candidates:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        _taken.add(port)
        if len(found) == count:
            return found
    raise ServerError("no free ports")


class ServerProcess:
    """A server with a directory of its own.

    Its data outlive `stop()` and `kill()`. `close()` ends it and removes them; so does the end of
    this process, even by a signal. All methods block, and are to be called from one thread at a
    time.
    """

    def __init__(self, name: str, mark: str) -> None:
        """`mark` is a pattern that a command line of such a server matches."""
        self._server_name = name
        self._mark = mark
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._frozen = False

    @property
    def running(self) -> bool:
        """Whether its process lives, also if it is frozen."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The number of its process, `None` when it does not run."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def folder(self) -> Path | None:
        """The directory with its data, `None` before the first start."""
        return self._directory

    @property
    def log(self) -> str:
        """The output of its processes so far."""
        if self._directory is None:
            return ""
        with contextlib.suppress(FileNotFoundError):
            return (self._directory / "log").read_text(encoding="utf-8", errors="replace")
        return ""

    def stop(self, *, timeout: float = 30.0) -> None:
        """Stop it (SIGTERM), or kill it once the timeout has passed.

        Does nothing when it does not run.
        """
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            self.thaw()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._ended()

    def kill(self) -> None:
        """Kill it (SIGKILL), like a crash. Do nothing when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._ended()

    def freeze(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, without answers."""
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self._server_name} does not run")
        self._process.send_signal(signal.SIGSTOP)
        # Its threads may go on for a moment; without WEXITED this takes no exit status away.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        self._frozen = True

    def thaw(self) -> None:
        """Thaw it (SIGCONT). Do nothing when it is not frozen."""
        if self._process is not None and self._frozen:
            self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def close(self) -> None:
        """Kill it and remove its data; a later start begins without any."""
        atexit.unregister(self.close)
        self.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _make_directory(self) -> Path:
        """Make the server's directory, to be removed with it."""
        self._directory = Path(tempfile.mkdtemp(prefix=f"hbtd-{self._server_name}-"))
        atexit.register(self.close)
        return self._directory

    def _launch(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Run a command in the server's directory; a watchdog kills it when the tests end."""
        assert self._directory is not None
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._directory,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        what = [str(self._process.pid), str(self._directory), self._mark]
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "sh", *what], stdin=subprocess.PIPE, start_new_session=True
        )
        self._frozen = False

    def _ended(self) -> None:
        """Forget the process, which has ended, and its watchdog."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.kill()
            watch.wait()
            assert watch.stdin is not None
            watch.stdin.close()
        self._process = None
        self._frozen = False
