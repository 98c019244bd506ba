"""Real servers of others as processes of the tests: started, killed, frozen, cleaned up."""

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
"""Ports that were given out, even if nobody listens there yet."""


class ServerError(Exception):
    """A server could not be started, or does not run."""


def free_ports(count: int) -> list[int]:
    """Find TCP ports nobody listens on, outside the range the kernel gives to clients.

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
        """Whether its process lives, be it frozen."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What its process has printed so far, over all its starts."""
        if self._directory is None:
            return ""
        with contextlib.suppress(FileNotFoundError):
            return (self._directory / "log").read_text(encoding="utf-8", errors="replace")
        return ""

    def stop(self, *, timeout: float = 30.0) -> None:
        """End it in good order (SIGTERM), or by force once the timeout has passed.

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
        """End it at once (SIGKILL), as a crash would. Does nothing when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._ended()

    def freeze(self) -> None:
        """Stop its process (SIGSTOP): connections stay open, and nobody answers."""
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self._server_name} does not run")
        self._process.send_signal(signal.SIGSTOP)
        # Its threads may go on for a moment; without WEXITED this takes no exit status away.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen one go on (SIGCONT). Does nothing when it is not frozen."""
        if self._process is not None and self._frozen:
            self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def close(self) -> None:
        """End it and remove its data; a later start begins with none."""
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
        """Run a command in the server's directory, and have it watched over."""
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
        """Forget the process, which has been waited for, and call off who watches over it."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.kill()
            watch.wait()
            assert watch.stdin is not None
            watch.stdin.close()
        self._process = None
        self._frozen = False
