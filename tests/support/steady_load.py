"""A steady load of heartbeats whose every outcome is counted, over restarts of hbtd as well.

Run as `python -m tests.support.steady_load PORT OPTIONS`, with options as JSON, it sends heartbeats
until its standard input ends, at a constant rate over kept connections and over fresh ones. Each
line of the input names a component that it sends no more heartbeats of, or after a `+` one that it
sends heartbeats of again, or is `?`. After a `?`, and at the end, it prints a line of JSON with the
counts since the last one, by kind of connection; and `held_up`, the longest time between two rounds
of its own.

Each kept connection, and each fresh component, has a loopback address of its own, as nodes have. A
heartbeat that fails is not sent again: its component has its next turn. One whose connection still
waits for an answer is not sent, as an agent's call would still be in progress. A client whose kept
connection is closed while it waits for nothing hangs up when it sends the next heartbeat, on
another connection, as pools of connections do. It looks for that before it sends, or it would
notice later than a node does, which has but one connection to read.
"""

import json
import os
import select
import socket
import ssl
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, cycle
from time import monotonic
from typing import NamedTuple

from benchmarks.crowds import allow_many_files
from hbtd.simulator.fleet import node_names

_PATIENCE = 10.0
"""Seconds after which a heartbeat that has no answer has timed out."""

_BIND_ADDRESS_NO_PORT = 24
"""Linux's socket option with which ports are as many for each address that is connected to."""

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Load(NamedTuple):
    """How much is sent, and how."""

    tls: bool
    components: int
    connections: int
    """Connections that are kept; each has the heartbeats of as many components as any other."""
    rate: float
    """Heartbeats a second on kept connections."""
    fresh_components: int
    fresh_rate: float
    """Heartbeats a second on connections of their own."""


@dataclass
class Counts:
    """The outcomes on connections of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """`answered` with 200, or how it failed: `refused`, `reset`, `unanswered` (the connection was
    closed in good order instead), `timed out`, or what the answer began with."""
    slowest: float = 0.0
    """The longest time from sending (or connecting) to an answer, in seconds."""
    closed_idle: int = 0
    """Kept connections that hbtd closed while no answer was due."""
    last: int = 0
    """Answers that said `Connection: close`."""

    def clear(self) -> None:
        """Begin to count anew."""
        self.outcomes.clear()
        self.slowest, self.closed_idle, self.last = 0.0, 0, 0


class _Client:
    """A connection that is kept, or the next fresh one."""

    def __init__(
        self, requests: Iterator[tuple[str, bytes] | None], counts: Counts, *, kept: bool
    ) -> None:
        self.requests = requests
        self.counts = counts
        self.kept = kept
        self.socket: socket.socket | None = None
        self.request: bytes | None = None
        """What is being sent or answered."""
        self.began = 0.0
        self.connected = False
        self.hung_up = False
        """Whether hbtd has closed the connection while no answer was due."""
        self.host = ""
        """The address that it connects from."""


class Generator:
    """Sends the load, and counts."""

    def __init__(self, port: int, load: Load) -> None:
        self._address = ("127.0.0.1", port)
        self._load = load
        self._context: ssl.SSLContext | None = None
        if load.tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        self._poll = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._stopped: set[str] = set()
        self._input = b""
        self._hosts = (f"127.{1 + n // 62500}.{n // 250 % 250}.{1 + n % 250}" for n in count())
        names = list(node_names(load.components + load.fresh_components))
        self._kept, self._fresh = Counts(), Counts()
        self._since = monotonic()
        self._held_up = 0.0
        per = load.components // load.connections
        self._turns = cycle(
            [
                _Client(self._requests(names[at : at + per], kept=True), self._kept, kept=True)
                for at in range(0, per * load.connections, per)
            ]
        )
        self._fresh_requests = self._requests(names[load.components :], kept=False)
        self._waiting: deque[tuple[float, _Client, bytes]] = deque()

    def _requests(self, names: list[str], *, kept: bool) -> Iterator[tuple[str, bytes] | None]:
        """Yield a host and a request for each name in turn; `None` if that one has stopped."""
        requests = [(name, next(self._hosts), _request(name, kept=kept)) for name in names]
        for name, host, request in cycle(requests):
            yield None if name in self._stopped else (host, request)

    def run(self) -> None:
        """Send until the standard input ends."""
        self._poll.register(0, _IN)
        began = now = monotonic()
        sent = fresh = 0
        while True:
            before, now = now, monotonic()
            self._held_up = max(self._held_up, now - before)
            due = int((now - began) * self._load.rate)
            if due - sent > self._load.rate / 10:
                sent = due  # it was held up; it does not catch up all at once
            while sent < due:
                sent += 1
                self._begin(next(self._turns), now)
            due = int((now - began) * self._load.fresh_rate)
            fresh = max(fresh, due - 50)
            while fresh < due:
                fresh += 1
                self._begin(_Client(self._fresh_requests, self._fresh, kept=False), now)
            while self._waiting and self._waiting[0][0] < now - _PATIENCE:
                _, client, request = self._waiting.popleft()
                if client.request is request and client.began < now - _PATIENCE:
                    self._over(client, "timed out")
            for number, _ in self._poll.poll(0.002):
                if number in self._clients:
                    self._go_on(self._clients[number])
                elif not number and not self._obey():
                    return

    def _obey(self) -> bool:
        read = os.read(0, 65536)
        *lines, self._input = (self._input + read).split(b"\n")
        for line in lines:
            word = line.decode()
            if word == "?":
                self.report()
            elif word.startswith("+"):
                self._stopped.discard(word[1:])
            else:
                self._stopped.add(word)
        if not read:
            self.report()
        return bool(read)

    def report(self) -> None:
        """Print the counts, and begin anew."""
        now = monotonic()
        seen = {"kept": self._kept, "fresh": self._fresh}
        print(
            json.dumps(
                {
                    "seconds": now - self._since,
                    "held_up": self._held_up,
                    **{
                        kind: {**vars(counts), "outcomes": dict(counts.outcomes)}
                        for kind, counts in seen.items()
                    },
                }
            ),
            flush=True,
        )
        self._since, self._held_up = now, 0.0
        for counts in seen.values():
            counts.clear()

    def _begin(self, client: _Client, now: float) -> None:
        if client.request is not None:
            client.counts.outcomes["still waiting"] += 1
            return
        if client.connected and not client.hung_up and _readable(client.socket):
            self._go_on(client)
        turn = next(client.requests)
        if turn is None:
            return
        host, client.request = turn
        client.began = now
        client.host = client.host or host
        self._waiting.append((now, client, client.request))
        if client.hung_up:
            self._close(client)
        if client.socket is None:
            made = socket.socket()
            made.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            made.bind((client.host, 0))
            made.setblocking(False)
            client.socket = made
            self._clients[made.fileno()] = client
            made.connect_ex(self._address)
            self._poll.register(made, _OUT)
        else:
            try:
                client.socket.send(client.request)
            except OSError as error:
                self._failed(client, error)

    def _go_on(self, client: _Client) -> None:
        try:
            self._step(client)
        except ssl.SSLWantReadError:
            assert client.socket is not None
            self._poll.modify(client.socket, _IN)
        except ssl.SSLEOFError:
            self._over(client, "unanswered")
        except OSError as error:
            self._failed(client, error)

    def _step(self, client: _Client) -> None:
        sock = client.socket
        assert sock is not None
        if not client.connected:
            if self._context is not None and not isinstance(sock, ssl.SSLSocket):
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    raise OSError(number, os.strerror(number))
                sock = self._context.wrap_socket(sock, do_handshake_on_connect=False)
                client.socket = sock
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            assert client.request is not None
            sock.send(client.request)
            client.connected = True
            self._poll.modify(sock, _IN)
            return
        answer = sock.recv(16384)
        if not answer:
            self._over(client, "unanswered")
        elif not answer.startswith(b"HTTP/1.1 200 "):
            self._over(client, answer[:40].decode())
        else:
            last = b"connection: close" in answer.lower()
            client.counts.last += last
            self._over(client, "answered", keep=client.kept and not last)

    def _failed(self, client: _Client, error: OSError) -> None:
        refused = isinstance(error, ConnectionRefusedError)
        reset = isinstance(error, ConnectionResetError | BrokenPipeError)
        self._over(client, "refused" if refused else "reset" if reset else str(error))

    def _over(self, client: _Client, outcome: str, *, keep: bool = False) -> None:
        counts = client.counts
        if client.request is None:
            counts.closed_idle += 1
            client.hung_up = True
            assert client.socket is not None
            self._poll.unregister(client.socket)
            return
        counts.outcomes[outcome] += 1
        if outcome == "answered":
            counts.slowest = max(counts.slowest, monotonic() - client.began)
        client.request = None
        if not keep:
            self._close(client)

    def _close(self, client: _Client) -> None:
        assert client.socket is not None
        del self._clients[client.socket.fileno()]
        with suppress(OSError):
            client.socket.close()
        client.socket, client.hung_up, client.connected = None, False, False


def _readable(sock: socket.socket | None) -> bool:
    """Return whether something has arrived on a socket, or its end."""
    assert sock is not None
    poll = select.poll()
    poll.register(sock, _IN)
    return bool(poll.poll(0))


def _request(name: str, *, kept: bool) -> bytes:
    body = f'{{"Component":"{name}","Hostname":"n","NID":"1","Status":"OK","Timestamp":"none"}}'
    close = "" if kept else "Connection: close\r\n"
    return (
        f"POST /hmi/v1/heartbeat HTTP/1.1\r\nHost: hbtd\r\n{close}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _main() -> None:
    allow_many_files()
    Generator(int(sys.argv[1]), Load(**json.loads(sys.argv[2]))).run()


if __name__ == "__main__":
    _main()
