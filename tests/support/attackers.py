"""Hostile clients on real sockets: `python -m tests.support.attackers PORT SECONDS`.

All of them attack for `SECONDS` at once, and then their counts are printed as JSON.
"""

import asyncio
import json
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import orjson

IDLE = 5_000
SLOW = 1_000
DEEP = 100_000
MIB4 = 4 * 1024 * 1024
CRUMBS = b"1\r\n \r\n" * 10_000
"""Chunks of one byte each."""


class Stream(NamedTuple):
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Attackers:
    """All kinds of hostile clients, with their counts."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen: Counter[str] = Counter()
        """Counts of connections and answers, by kind of client or status."""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Stream]:
        """Connect until the block ends; a lost connection is no failure."""
        with suppress(OSError, asyncio.IncompleteReadError):
            stream = Stream(*await asyncio.open_connection("127.0.0.1", self._port))
            try:
                yield stream
            finally:
                stream.writer.transport.abort()

    async def answer(self, stream: Stream) -> None:
        """Read an answer and count its status."""
        head = await stream.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        await stream.reader.readexactly(length)
        self.seen[f"status {head[9:12].decode()}"] += 1

    async def idle(self) -> None:
        """Connect and send nothing."""
        while True:
            async with self.connected() as stream:
                self.seen["idle"] += 1
                await stream.reader.read()

    async def slow(self) -> None:
        """Send a heartbeat at a byte per second; begin again when disconnected."""
        while True:
            async with self.connected() as stream:
                self.seen["slow"] += 1
                ended = asyncio.ensure_future(stream.reader.read())
                for byte in beat("x0c0s0b0n0"):
                    stream.writer.write(bytes([byte]))
                    await asyncio.wait([ended], timeout=1)
                    if ended.done():
                        self.seen["slow, cut off"] += 1
                        break
                ended.cancel()

    async def invent(self, first: int) -> None:
        """Send heartbeats of components that don't exist, each of another, ten at a time."""
        while True:
            async with self.connected() as stream:
                while True:
                    numbers = range(first, first + 10)
                    names = (
                        f"x{9000 + i // 4096}c{i // 512 % 8}s{i // 8 % 64}b0n{i % 8}"
                        for i in numbers
                    )
                    stream.writer.write(b"".join(map(beat, names)))
                    first += 10
                    for _ in numbers:
                        await self.answer(stream)
                    self.seen["invented"] += 10

    async def large_heads(self) -> None:
        """Send heads of 4 MiB."""
        while True:
            async with self.connected() as stream:
                self.seen["large heads"] += 1
                stream.writer.write(b"GET /hmi/v1/params HTTP/1.1\r\n")
                stream.writer.write((b"X: %b\r\n" % (b"x" * 1000)) * (MIB4 // 1005))
                await self.answer(stream)

    async def deep(self) -> None:
        """Send deeply nested JSON."""
        bodies = (b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"XNames":' * DEEP)
        while True:
            async with self.connected() as stream:
                for target in ("POST /v1/hbstates", "PATCH /v1/params", "POST /v1/heartbeat"):
                    for body in bodies:
                        head = (
                            f"{target} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
                        )
                        stream.writer.write(head.encode() + body)
                        await self.answer(stream)
                        self.seen["deep"] += 1

    async def crumbs(self) -> None:
        """Send bodies in chunks of one byte."""
        while True:
            async with self.connected() as stream:
                self.seen["crumbs"] += 1
                head = b"POST /v1/hbstates HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                stream.writer.write(head)
                while True:
                    stream.writer.write(CRUMBS)
                    await stream.writer.drain()

    async def unread(self) -> None:
        """Send requests without end, and read no answers."""
        while True:
            async with self.connected() as stream:
                self.seen["unread"] += 1
                while True:
                    stream.writer.write(b"GET /v1/openapi.json HTTP/1.1\r\n\r\n" * 1000)
                    await stream.writer.drain()


def beat(name: str) -> bytes:
    """Return a heartbeat as a request."""
    body = orjson.dumps(
        {"Component": name, "Hostname": "h", "NID": "1", "Status": "OK", "Timestamp": "now"}
    )
    return b"POST /hmi/v1/heartbeat HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


async def _play(port: int, seconds: float) -> None:
    attackers = Attackers(port)
    tasks = [asyncio.ensure_future(attackers.invent(i * 1_000_000)) for i in range(4)]
    tasks += [asyncio.ensure_future(attackers.large_heads()) for _ in range(4)]
    tasks += [asyncio.ensure_future(attackers.deep()) for _ in range(4)]
    tasks += [asyncio.ensure_future(attackers.crumbs()) for _ in range(10)]
    tasks += [asyncio.ensure_future(attackers.unread()) for _ in range(4)]
    for i in range(IDLE):
        tasks.append(asyncio.ensure_future(attackers.idle()))
        if i % (IDLE // SLOW) == 0:
            tasks.append(asyncio.ensure_future(attackers.slow()))
        if i % 50 == 0:
            await asyncio.sleep(0.01)  # so that the queue of the listening port does not overflow
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [each for each in outcomes if not isinstance(each, asyncio.CancelledError)]
    assert not failures, failures[0]
    print(json.dumps(attackers.seen))


if __name__ == "__main__":
    _, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))
    asyncio.run(_play(int(sys.argv[1]), float(sys.argv[2])))
