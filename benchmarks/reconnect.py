"""A machine of 10,000 nodes that all connect at once, over TLS, after a restart of hbtd.

Run as `python -m benchmarks.reconnect URL COUNT` it is these nodes: they all connect, and send a
heartbeat every few seconds until its standard input ends. When all have been answered, it prints
the seconds that this took, and how many heartbeats failed.
"""

import re
import selectors
import shutil
import socket
import ssl
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

from benchmarks.access import processor_seconds
from benchmarks.crowds import allow_many_files
from benchmarks.http import PLAIN
from benchmarks.running import LOAD_CORE, fake_hsm, hbtd_process, on_core
from benchmarks.table import Row
from hbtd.simulator.fleet import node_names

_WARNTIME, _ERRTIME = 10, 30

_PERIOD = 3.0
"""Seconds from the answer of a heartbeat, or its failure, to the next one."""

_PATIENCE = 90
"""Seconds after which clients that have no answer are given up."""

_KEYS = {
    "P-256": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "RSA-2048": ("-newkey", "rsa:2048"),
}
"""The options of `openssl req` for a new key, by its name."""


_METRIC = re.compile(r"^(hbtd_\S+) (\S+)$", re.MULTILINE)


class _Outcome(NamedTuple):
    """The result of one restart."""

    seconds: float
    """Seconds from the first connection until all nodes have an answer."""
    failed: int
    """Heartbeats that were sent again, because hbtd closed their connections."""
    idle: float
    """The share of the seconds in which hbtd had nothing to do: it waited for the clients."""
    warned: int
    """Components about which HSM was warned."""


def measure(nodes: int) -> Iterator[Row]:
    """Measure it for so many nodes, with certificates of two kinds of keys."""
    if shutil.which("openssl") is None:
        yield Row("openssl is missing", "not measured; on Debian: apt install openssl")
        return
    allow_many_files()
    for key, most in (("P-256", 10), ("RSA-2048", 30)):
        outcome = _restart(key, nodes)
        yield Row(
            f"{nodes:,} nodes connect at once over TLS, {key}: all heard after",
            f"{outcome.seconds:.1f} s, {outcome.warned} warned about"
            f"  ({outcome.failed:,} tried again; hbtd idle for {outcome.idle:.0%})",
            f"<= {most} s, 0",
        )


def _restart(key: str, nodes: int) -> _Outcome:
    with TemporaryDirectory() as directory, fake_hsm() as hsm_url:
        options = (
            f"--kv_url=sqlite:{directory}/hbtd.sqlite",
            f"--sm_url={hsm_url}",
            *(f"--warntime={_WARNTIME}", f"--errtime={_ERRTIME}", "--interval=1"),
        )
        with hbtd_process(*PLAIN, *options) as (url, _), _nodes(url, nodes):
            pass
        identity = _make_identity(key, Path(directory))
        serving = ("--port=0", "--address=127.0.0.1", *identity)
        with hbtd_process(*serving, *options) as (url, pid):
            busy, began = processor_seconds(pid), monotonic()
            with _nodes(url, nodes) as (seconds, failed):
                idle = 1 - (processor_seconds(pid) - busy) / seconds
                # Whoever was not heard is warned about by then.
                sleep(max(began + _WARNTIME + 2 - monotonic(), 0))
                found = metrics(url)
    return _Outcome(
        seconds,
        failed,
        max(idle, 0),
        int(found['hbtd_transitions_total{transition="warned"}']),
    )


def metrics(url: str) -> dict[str, float]:
    """Return hbtd's metrics by name."""
    with urlopen(f"{url}/metrics", timeout=_PATIENCE, context=_trusting()) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in _METRIC.findall(text)}


@contextmanager
def _nodes(url: str, count: int) -> Iterator[tuple[float, int]]:
    """Have nodes beat until the block ends.

    Yield the seconds until all had an answer, and the number of heartbeats that failed until then.
    """
    command = [sys.executable, "-m", "benchmarks.reconnect", url, str(count)]
    with subprocess.Popen(
        on_core(LOAD_CORE, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        said = process.stdout.readline()
        if not said:
            raise RuntimeError(f"not all of {count} nodes were heard")
        seconds, failed = said.split()
        yield float(seconds), int(failed)
        process.communicate()


def _make_identity(key: str, directory: Path) -> tuple[str, str]:
    """Make a certificate for a new key; return the options with which hbtd serves it."""
    certificate, private = str(directory / "cert.pem"), str(directory / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *(*_KEYS[key], "-keyout", private, "-out", certificate),
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return f"--tls_cert={certificate}", f"--tls_key={private}"


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Node:
    """A node that connects, over TLS if there is a context, and sends heartbeats on the connection.

    If hbtd closes the connection, the next heartbeat is sent on another.
    """

    def __init__(self, name: str, port: int, context: ssl.SSLContext | None) -> None:
        body = f'{{"Component":"{name}","Hostname":"n","NID":"1","Status":"OK","Timestamp":"none"}}'
        self._request = (
            "POST /hmi/v1/heartbeat HTTP/1.1\r\nHost: hbtd\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        self._port = port
        self._context = context
        self._ready = False
        self.socket: socket.socket | None = None
        self.heard = False
        """Whether any of its heartbeats was answered."""

    def send(self) -> tuple[socket.socket, int]:
        """Begin to send a heartbeat; return the socket, and the event to wait for."""
        if self.socket is not None:
            self.socket.send(self._request)
            return self.socket, selectors.EVENT_READ
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", self._port))
        self._ready = False
        return self.socket, selectors.EVENT_WRITE

    def go_on(self) -> int | None:
        """Do what is next; return the event to wait for, and `None` when this heartbeat is over."""
        try:
            return self._go_on()
        except ssl.SSLWantReadError:
            return selectors.EVENT_READ
        except ConnectionError:
            assert self.socket is not None
            self.socket.close()
            self.socket = None
            return None

    def _go_on(self) -> int | None:
        assert self.socket is not None
        if self._context is not None and not isinstance(self.socket, ssl.SSLSocket):
            self.socket = self._context.wrap_socket(self.socket, do_handshake_on_connect=False)
        if not self._ready:
            if isinstance(self.socket, ssl.SSLSocket):
                self.socket.do_handshake()
            self._ready = True
            self.socket.send(self._request)
            return selectors.EVENT_READ
        answer = self.socket.recv(16384)
        if not answer:
            raise ConnectionResetError
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"a heartbeat failed: {answer!r}")
        self.heard = True
        return None


def _play(url: str, count: int) -> None:
    """Have nodes beat until standard input ends.

    When all have been answered, print the seconds that this took and the heartbeats that failed.
    """
    allow_many_files()
    parts = urlsplit(url)
    context = _trusting() if parts.scheme == "https" else None
    selector = selectors.EpollSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    began = monotonic()
    due = deque((began, _Node(name, parts.port or 0, context)) for name in node_names(count))
    unheard, failed = count, 0
    while True:
        now = monotonic()
        if unheard and now > began + _PATIENCE:
            raise RuntimeError(f"{unheard} of {count} nodes have no answer")
        while due and due[0][0] <= now:
            _, node = due.popleft()
            selector.register(*node.send(), node)
        for ready, _ in selector.select(0.1):
            node = ready.data
            if node is None:
                return
            before = node.heard
            event = node.go_on()
            if event is None:
                selector.unregister(ready.fd)
                due.append((monotonic() + _PERIOD, node))
                failed += node.socket is None
                unheard -= node.heard and not before
                if not unheard and not before:
                    print(monotonic() - began, failed, flush=True)
            elif event != ready.events:
                selector.modify(ready.fd, event, node)


if __name__ == "__main__":
    _play(sys.argv[1], int(sys.argv[2]))
