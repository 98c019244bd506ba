"""Strangers who attack hbtd over TLS: `python -m tests.support.strangers PORT KIND ...`.

It prints `begun` once the attack is under way, goes on for `--seconds` from then or until SIGTERM,
and prints what it has seen, counted, as JSON. Two kinds are no strangers: nodes that are more than
hbtd can serve, and nodes that keep their connections.
"""

import asyncio
import errno
import json
import os
import random
import resource
import socket
import ssl
import struct
import sys
from argparse import ArgumentParser, Namespace
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from signal import SIGTERM
from typing import Any

from hbtd.simulator.fleet import node_names
from tests.support.attackers import MIB4, Attackers, Stream, beat

_SERVER = "127.0.0.1"

_BURST = 0.5
"""Seconds from one burst of ClientHellos to the next, for which the connections stay open."""

_PREPARATION = 20.0
"""Seconds after which an attack counts as begun at the latest."""

_METRICS = b"GET /hmi/v1/metrics HTTP/1.1\r\nHost: h\r\n\r\n"

_UPLOAD = b"POST /hmi/v1/hbstates HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % MIB4
_PIECE = 64 * 1024
_UPLOAD_SECONDS = 6.0
"""Seconds that all of an upload but its last byte takes."""

_PIPELINED = 16
"""Requests with tokens that are sent at once."""

_PERIOD = 3.0
"""Seconds from one heartbeat of an overloading node to the next."""

_HELD_PERIOD = 6.0
"""The most seconds between two heartbeats of a node that keeps its connection."""

_PROBING, _PROBING_SECONDS = 16, 2.0
"""Connections at a time, and seconds, by which hbtd's capacity is measured."""

_RESET = struct.pack("ii", 1, 0)


class Strangers(Attackers):
    """Attackers who connect from addresses of their own, at a bounded rate."""

    def __init__(self, options: Namespace) -> None:
        super().__init__(options.port)
        self._options = options
        first = IPv4Address(options.first)
        self._sources = [str(first + number) for number in range(options.sources)]
        self._numbers = count()
        self._context = _trusting()
        self._names = node_names(options.others + options.count)[options.others :]
        self._next = 0.0
        self._unready = set(range(options.count))
        self._ready = asyncio.Event()

    # What all kinds of attack have in common

    async def play(self) -> None:
        """Attack, as the options say, and print what was seen."""
        kind = self._options.kind
        tasks = [asyncio.ensure_future(self._note_lag())]
        if kind == "hellos":
            tasks.append(asyncio.ensure_future(self.hellos()))
            self._ready.set()
        elif kind == "nodes":
            tasks += [asyncio.ensure_future(each) for each in await self.nodes()]
            self._ready.set()
        else:
            talk = getattr(self, kind)
            tasks += [
                asyncio.ensure_future(self._repeat(talk, number))
                for number in range(self._options.count)
            ]
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ready.wait(), _PREPARATION)
        self._ready.set()
        self.seen["lag"] = 0
        print("begun", flush=True)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(SIGTERM, ended.set)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), self._options.seconds)
        for task in tasks:
            task.cancel()
        done, running = await asyncio.wait(tasks, timeout=10)
        assert not running, running
        for task in done:
            with suppress(asyncio.CancelledError):
                task.result()
        print(json.dumps(self.seen), flush=True)

    async def _repeat(self, talk: Callable[[Stream, int], Awaitable[None]], number: int) -> None:
        """Connect and talk; begin again when disconnected."""
        while True:
            await self._turn()
            with _Counting(self.seen):
                async with self._open(tls=talk != self.silent) as stream:
                    self.seen["connected"] += 1
                    await talk(stream, number)
            self._tried(number)

    @asynccontextmanager
    async def _open(self, source: str = "", *, tls: bool = True) -> AsyncIterator[Stream]:
        """Connect until the block ends. Raise `OSError` if that fails."""
        reader, writer = await asyncio.open_connection(
            _SERVER,
            self._options.port,
            local_addr=(source or self._source(), 0),
            ssl=self._context if tls else None,
        )
        try:
            yield Stream(reader, writer)
        finally:
            writer.transport.abort()

    def _source(self) -> str:
        return self._sources[next(self._numbers) % len(self._sources)]

    async def _turn(self, requests: int = 1) -> None:
        """Wait until the rate allows so many more requests."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now) + requests / self._options.rate
        await asyncio.sleep(self._next - now)

    def _tried(self, number: int) -> None:
        """Note that one of the connections is as it is to be, or could not be."""
        self._unready.discard(number)
        if not self._unready:
            self._ready.set()

    async def _note_lag(self) -> None:
        """Note how late this process is at most, in ms: whether it can attack as it is told to."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.1
            await asyncio.sleep(0.1)
            self.seen["lag"] = max(self.seen["lag"], round(1000 * (loop.time() - due)))

    # The attacks

    async def hellos(self) -> None:
        """Send a recorded ClientHello on each of many connections at once, and drop them."""
        hello = _client_hello()
        size = round(self._options.rate * _BURST / len(hello))
        due = asyncio.get_running_loop().time()
        while True:
            opened = [self._send(hello) for _ in range(size)]
            now = asyncio.get_running_loop().time()
            due = max(due + _BURST, now)
            await asyncio.sleep(due - now)
            for client in opened:
                client.close()

    def _send(self, data: bytes) -> socket.socket:
        client = socket.socket()
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.bind((self._source(), 0))
        failed = client.connect_ex((_SERVER, self._options.port))
        assert failed in (0, errno.EINPROGRESS), os.strerror(failed)
        try:
            client.send(data)
            self.seen["hellos"] += 1
        except OSError:  # its queue of connections is full
            self.seen["not connected"] += 1
        return client

    async def silent(self, stream: Stream, number: int) -> None:
        """Send nothing."""
        closed = asyncio.ensure_future(stream.reader.read(1))
        if not await _within(0.5, closed):
            self._tried(number)
        await closed

    async def held(self, stream: Stream, number: int) -> None:
        """Be a node that beats now and then, and keeps its connection."""
        request = beat(self._names[number])
        while True:
            stream.writer.write(request)
            await self.answer(stream)
            self._tried(number)
            await asyncio.sleep(_HELD_PERIOD * (0.5 + random.random() / 2))

    async def metrics(self, stream: Stream, number: int) -> None:
        """Ask for the metrics, and again as soon as they have come, all at the same time."""
        self._tried(number)
        await self._ready.wait()
        while True:
            stream.writer.write(_METRICS)
            await self.answer(stream)

    async def uploads(self, stream: Stream, number: int) -> None:
        """Send all of a large body but its last byte, not fast."""
        stream.writer.write(_UPLOAD)
        left = MIB4 - 1
        while left:
            size = min(left, _PIECE)
            stream.writer.write(b" " * size)
            await stream.writer.drain()
            left -= size
            await asyncio.sleep(_UPLOAD_SECONDS * _PIECE / MIB4)
        self.seen["held"] += 1
        self._tried(number)
        await self.answer(stream)

    async def tokens(self, stream: Stream, number: int) -> None:
        """Send heartbeats with tokens whose signature is none, each another one."""
        self._tried(number)
        await self._ready.wait()
        head, _, body = beat("x1000c0s0b0n0").partition(b"Host: h\r\n")
        signed = self._options.token.rpartition(".")[0].encode()
        while True:
            await self._turn(_PIPELINED)
            for _ in range(_PIPELINED):
                signature = urlsafe_b64encode(os.urandom(64)).rstrip(b"=")
                stream.writer.write(
                    b"%bHost: h\r\nAuthorization: Bearer %b.%b\r\n%b"
                    % (head, signed, signature, body)
                )
            for _ in range(_PIPELINED):
                await self.answer(stream)

    # Nodes

    async def nodes(self) -> list[Coroutine[Any, Any, None]]:
        """Return what as many nodes do as are too many, by a measurement."""
        options = self._options
        probing = [
            asyncio.ensure_future(self._node(f"x9000c0s{number}b0n0", self._sources[number], 0.0))
            for number in range(_PROBING)
        ]
        before = processor_seconds(options.pid)
        await asyncio.sleep(_PROBING_SECONDS)
        busy = processor_seconds(options.pid) - before
        for task in probing:
            task.cancel()
        await asyncio.gather(*probing, return_exceptions=True)
        # Of one core. These clients, of which there are few, need not keep hbtd busy.
        capacity = self.seen["status 200"] / busy
        wanted = min(round(options.overload * capacity * _PERIOD), options.count)
        self.seen.clear()
        self.seen["capacity"] = round(capacity)
        self.seen["nodes"] = wanted
        return [
            self._node(name, source, _PERIOD)
            for name, source in zip(self._names[:wanted], self._sources, strict=False)
        ]

    async def _node(self, name: str, source: str, period: float) -> None:
        """Send heartbeats on a connection each; one that is late is sent when the last has ended.

        A node without patience gives a heartbeat up after a while.
        """
        loop = asyncio.get_running_loop()
        request = beat(name)
        due = loop.time() + random.random() * period
        while True:
            await asyncio.sleep(due - loop.time())
            began = loop.time()
            self.seen["sent"] += 1
            beating = asyncio.ensure_future(self._beat(request, source))
            if not await _within(self._options.patience, beating):
                self.seen["given up"] += 1
                beating.cancel()
                await asyncio.wait([beating])
            self.seen["longest"] = max(self.seen["longest"], round(1000 * (loop.time() - began)))
            due = max(due + period, loop.time())

    async def _beat(self, request: bytes, source: str) -> None:
        with _Counting(self.seen):
            async with self._open(source) as stream:
                stream.writer.write(request)
                await self.answer(stream)


async def _within(seconds: float | None, future: "asyncio.Future[Any]") -> bool:
    """Wait for a future, not for long; return whether it is done. It is cancelled with the waiting.

    `asyncio.wait_for` loses a cancellation that comes when the future is done, before Python 3.12.
    """
    try:
        await asyncio.wait([future], timeout=seconds)
    except asyncio.CancelledError:
        future.cancel()
        raise
    return future.done()


class _Counting(suppress):
    """Suppresses and counts failures of connections."""

    def __init__(self, seen: Counter[str]) -> None:
        super().__init__(OSError, EOFError)
        self._seen = seen

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        suppressed = bool(super().__exit__(kind, error, traceback))
        if suppressed:
            self._seen[kind.__name__] += 1
        return suppressed


def starved_seconds(pid: int) -> float:
    """Return the time for which a process has waited for a processor.

    The time is included for which each processor of a virtual machine was taken away from it.
    """
    waited = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    stolen = int(Path("/proc/stat").read_text().split(maxsplit=9)[8])
    return waited + stolen / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has taken."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _client_hello() -> bytes:
    """Return a ClientHello that is complete, and small."""
    context = _trusting()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def _options(arguments: list[str]) -> Namespace:
    parser = ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument(
        "kind", choices=("hellos", "silent", "held", "metrics", "uploads", "tokens", "nodes")
    )
    parser.add_argument("--seconds", type=float, default=21.0)
    parser.add_argument("--first", default="127.0.1.1", help="the first of their addresses")
    parser.add_argument("--sources", type=int, default=1, help="how many addresses they have")
    parser.add_argument("--count", type=int, default=1, help="connections or nodes at most")
    parser.add_argument(
        "--rate", type=float, default=300, help="connections, tokens or bytes of hellos a second"
    )
    parser.add_argument("--token", default="", help="a token to forge others by")
    parser.add_argument("--overload", type=float, default=1.3, help="nodes' load / capacity")
    parser.add_argument("--pid", type=int, help="the process whose capacity nodes exceed")
    parser.add_argument("--patience", type=float, help="seconds that nodes wait for an answer")
    parser.add_argument(
        "--others", type=int, default=0, help="how many of the first names are others'"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    _given = _options(sys.argv[1:])
    if _given.kind not in ("nodes", "held"):
        # On two cores, neither hbtd nor those who measure it are to wait for them.
        os.nice(10)
    _, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))

    async def _play() -> None:
        await Strangers(_given).play()

    asyncio.run(_play())
