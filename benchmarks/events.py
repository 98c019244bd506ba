"""Many readers of events during a mass death: the latency of heartbeats, with and without them.

Run as `python -m benchmarks.events read URL READERS IDLE EVENTS` it reads events until each of the
readers has so many; further ones are connected but never read. As `... beat URL FIRST LAST PERIOD`
it lets components beat. Both print `ready`, and in the end their result as JSON.
"""

import json
import os
import selectors
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from benchmarks.crowds import allow_many_files
from benchmarks.http import PLAIN
from benchmarks.running import LOAD_CORE, hbtd, on_core
from benchmarks.table import Row
from hbtd.simulator.fleet import node_names

_READERS = 500
_IDLE = 10
"""The number of further readers that never read."""

_ROUNDS = 3
_PERIOD = 12.0
_WARNTIME = 18
_ERRTIME = 20
_CONNECTIONS = 64
_LULL = 0.3
"""Seconds without any event after which a burst of them is over."""

_AHEAD = 0.2
"""Seconds before the first event of a burst in which hbtd judges already."""

_EVENT = b"event: transition\n"
_ANSWER = b"HTTP/1.1 200 OK\r\n"


class _Sample(NamedTuple):
    p99: float
    """The 99th percentile of latency, in seconds, of heartbeats sent while events were read."""
    longest: float
    heartbeats: int
    seconds: float
    """For how long events were read, from the first one of anybody to the last one of all."""


def measure(count: int) -> list[Row]:
    """Let a tenth of `count` components die at once, while the others beat."""
    allow_many_files()
    alone = _sample(count, 1, 0)
    # One of several, as what else runs on the machine takes its part of the two full cores.
    beside = sorted(_sample(count, _READERS, _IDLE) for _ in range(_ROUNDS))[_ROUNDS // 2]
    deaths = count // 10
    return [
        Row(
            f"{deaths:,} of {count:,} die, {_READERS} read events, {_IDLE} never do: p99",
            f"{beside.p99 * 1e3:.1f} ms, longest {beside.longest * 1e3:.0f} ms",
            "< 50 ms",
        ),
        Row(
            "... the same with one reader",
            f"{alone.p99 * 1e3:.1f} ms, longest {alone.longest * 1e3:.0f} ms",
        ),
        Row(
            f"... all {_READERS} have read {2 * deaths:,} events",
            f"in {beside.seconds:.1f} s, {beside.heartbeats:,} heartbeats meanwhile"
            f" (one reader {alone.seconds:.1f} s)",
        ),
    ]


def _sample(count: int, readers: int, idle: int) -> _Sample:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        make = [sys.executable, "-m", "benchmarks.start", "make", str(path), str(count)]
        subprocess.run(make, check=True, timeout=600)
        options = (
            "--nosm=yes",
            f"--max_event_readers={2 * (_READERS + _IDLE)}",
            f"--warntime={_WARNTIME}",
            f"--errtime={_ERRTIME}",
            "--interval=1",
        )
        # Those that die are never heard: they are judged when they were read from the file.
        with (
            hbtd(*PLAIN, f"--kv_url=sqlite:{path}", *options) as url,
            _running("beat", url, str(count // 10), str(count), str(_PERIOD)) as beating,
            _running("read", url, str(readers), str(idle), str(count // 10 * 2)) as reading,
        ):
            said, _ = reading.communicate(timeout=300)
            bursts = json.loads(said)
            said, _ = beating.communicate(said, timeout=30)
    found = json.loads(said)
    if found["refused"]:
        raise RuntimeError(f"{found['refused']} heartbeats were not taken")
    return _Sample(
        found["p99"],
        found["longest"],
        int(found["heartbeats"]),
        sum(end - begin for begin, end in bursts),
    )


@contextmanager
def _running(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = on_core(LOAD_CORE, [sys.executable, "-m", "benchmarks.events", *arguments])
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{command} did not begin")
            yield process
        finally:
            process.terminate()


class _Counter:
    """Counts how often a text is in what comes in pieces."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._tail = b""
        self.count = 0

    def take(self, data: bytes) -> int:
        """Return how often the text has become complete with some more data."""
        data = self._tail + data
        self._tail = data[1 - len(self._text) :]
        found = data.count(self._text)
        self.count += found
        return found


def _read(url: str, readers: int, idle: int, events: int) -> list[list[float]]:
    """Read events until each reader has so many; return when bursts of them began and ended."""
    address = urlsplit(url).hostname, urlsplit(url).port
    request = b"GET /hmi/v1/events HTTP/1.1\r\nHost: hbtd\r\n\r\n"
    selector = selectors.DefaultSelector()
    never = []
    for number in range(readers + idle):
        connection = socket.socket()
        if number >= readers:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            never.append(connection)
        connection.connect(address)
        connection.sendall(request)
        assert connection.recv(4096).startswith(_ANSWER)
        if number < readers:
            selector.register(connection, selectors.EVENT_READ, (connection, _Counter(_EVENT)))
    print("ready", flush=True)
    bursts: list[list[float]] = []
    left = readers
    while left:
        for key, _ in selector.select():
            connection, counter = key.data
            data = connection.recv(1 << 18)
            if not data:
                raise RuntimeError(f"a reader was dropped after {counter.count} events")
            if counter.take(data):
                now = monotonic()
                if not bursts or now > bursts[-1][1] + _LULL:
                    bursts.append([now, now])
                bursts[-1][1] = now
                if counter.count >= events:
                    selector.unregister(connection)
                    left -= 1
    return bursts


def _heartbeat(name: str) -> bytes:
    body = (
        f'{{"Component":"{name}","Hostname":"nid000001","NID":"1","Status":"OK",'
        '"Timestamp":"2026-11-23T00:00:00.000000+00:00"}'
    )
    head = f"POST /hmi/v1/heartbeat HTTP/1.1\r\nHost: hbtd\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


class _Client:
    """A connection on which heartbeats are sent, whether or not earlier ones are answered yet."""

    def __init__(self, address: Any) -> None:
        self.connection = socket.create_connection(address)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = _Counter(_ANSWER)
        self._sent: deque[float] = deque()
        self.unanswered = self._sent

    def send(self, request: bytes) -> None:
        self._sent.append(monotonic())
        self.connection.sendall(request)

    def receive(self) -> Iterator[tuple[float, float]]:
        """Return when each heartbeat was sent that is answered now, and how long that took."""
        answers = self._answers.take(self.connection.recv(65536))
        now = monotonic()
        for _ in range(answers):
            sent = self._sent.popleft()
            yield sent, now - sent


def _beat(url: str, names: Sequence[str], period: float) -> dict[str, float]:
    """Let components beat until standard input says in which bursts of events to count."""
    address = urlsplit(url).hostname, urlsplit(url).port
    clients = [_Client(address) for _ in range(_CONNECTIONS)]
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client.connection, selectors.EVENT_READ, client)
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    print("ready", flush=True)
    taken: list[tuple[float, float]] = []
    requests = cycle([_heartbeat(name) for name in names])
    using = cycle(clients)
    pause = period / len(names)
    due = monotonic()
    over = False
    while not over:
        while due <= monotonic():
            next(using).send(next(requests))
            due += pause
        for key, _ in selector.select(max(due - monotonic(), 0.0)):
            if key.data is None:
                over = True
            else:
                taken += key.data.receive()
    bursts = json.loads(sys.stdin.readline())
    times = sorted(
        took for sent, took in taken if any(begin - _AHEAD <= sent <= end for begin, end in bursts)
    )
    late = monotonic() - 1.0
    refused = sum(sent < late for client in clients for sent in client.unanswered)
    return {
        "p99": times[len(times) * 99 // 100],
        "longest": times[-1],
        "heartbeats": len(times),
        "refused": refused,
    }


def _main(what: str, url: str, *arguments: str) -> None:
    allow_many_files()
    if what == "read":
        os.nice(19)  # or the other generator of load would wait for its core, not for hbtd
        readers, idle, events = map(int, arguments)
        print(json.dumps(_read(url, readers, idle, events)), flush=True)
    else:
        first, last, period = arguments
        found = _beat(url, node_names(int(last))[int(first) :], float(period))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    if sys.argv[1] in ("read", "beat"):
        _main(*sys.argv[1:])
    else:
        from benchmarks.table import formatted

        print(formatted(measure(int(sys.argv[1]))))
