"""Many connections: the memory of idle ones, and the effect of slow senders on other clients.

Run as `python -m benchmarks.crowds idle URL COUNT` it holds connections open, and as `... slow URL
COUNT` it sends a byte per second on each. Both print `ready` when all connections are made, and
their result as JSON when standard input ends.
"""

import asyncio
import json
import re
import resource
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.http import PLAIN, heartbeats
from benchmarks.running import LOAD_CORE, hbtd_process, on_core
from benchmarks.table import Row
from hbtd.config.params import Params

_REQUEST = (
    b"POST /hmi/v1/heartbeat/x0c0s0b0n0 HTTP/1.1\r\nHost: hbtd\r\nContent-Length: 34\r\n\r\n"
    b'{"Status":"OK","Timestamp":"none"}'
)


def measure(idle: int, slow: int) -> list[Row]:
    """Measure the given numbers of idle connections and of slow senders."""
    allow_many_files()
    rows = []
    for kind, options, most in (("plain", PLAIN, 1.4), ("TLS", ("--port=0",), 25.6)):
        with hbtd_process(*options, "--nosm") as (url, pid):
            with _crowd("idle", url, 100):
                pass  # so that memory allocated only once is not counted
            before = resident(pid)
            with _crowd("idle", url, idle):
                size = (resident(pid) - before) / idle
        rows.append(
            Row(
                f"memory of an idle connection, {kind}, {idle:,} of them",
                f"{size / 1024:.1f} KiB",
                f"<= {most} KiB",
            )
        )
    if shutil.which("wrk") is not None:
        rows += _slow(slow)
    return rows


def _slow(count: int) -> Iterator[Row]:
    """Compare full load with and without slow senders, until all senders are disconnected."""
    seconds = Params().request_timeout + 5
    with hbtd_process(*PLAIN, "--nosm") as (url, _):
        alone = heartbeats(url, seconds)
        with _crowd("slow", url, count) as result:
            beside = heartbeats(url, seconds)
    yield Row(
        f"{count:,} senders of a byte a second beside full load: rate / that without",
        f"{beside.rate / alone.rate:.2f}  (p99 {beside.p99:.1f} ms, {alone.p99:.1f} ms without)",
    )
    yield Row(
        f"... closed by hbtd, the last after {result['last']:.0f} s",
        f"{result['closed']:,} of {count:,}",
        "all",
    )


@contextmanager
def _crowd(what: str, url: str, count: int) -> Iterator[dict[str, Any]]:
    """Run clients until the block ends; yield their result, which is filled in then."""
    result: dict[str, Any] = {}
    command = [sys.executable, "-m", "benchmarks.crowds", what, url, str(count)]
    with subprocess.Popen(
        on_core(LOAD_CORE, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the crowd of {count} clients could not be made")
        yield result
        said, _ = process.communicate()
        result.update(json.loads(said))


def allow_many_files() -> None:
    """Raise the open-file limit of this process and its children as far as allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def resident(pid: int) -> int:
    """Return the bytes of memory that a process occupies, without mapped files."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", text)
    assert found
    return int(found[1]) * 1024


class _Client(asyncio.Protocol):
    """A client that records when its connection was closed."""

    def __init__(self, ended: list[float]) -> None:
        self._ended = ended
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended.append(asyncio.get_running_loop().time())


async def _run_clients(what: str, url: str, count: int) -> None:
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    context = None
    if parts.scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    ended: list[float] = []
    clients: list[_Client] = []
    began = loop.time()
    for _ in range(count):
        _, client = await loop.create_connection(
            lambda: _Client(ended), "127.0.0.1", parts.port or 0, ssl=context
        )
        clients.append(client)
        if what == "idle":
            client.transport.write(_REQUEST)
            await client.answered
    print("ready", flush=True)
    over = loop.run_in_executor(None, sys.stdin.read)
    turn = 0
    while not over.done():
        if what == "slow":
            for client in clients[turn % 10 :: 10]:
                if not client.transport.is_closing():
                    client.transport.write(_REQUEST[turn // 10 : turn // 10 + 1])
            turn += 1
        await asyncio.wait([over], timeout=0.1)
    last = max(ended, default=began) - began
    print(json.dumps({"closed": len(ended), "last": last}))


if __name__ == "__main__":
    asyncio.run(_run_clients(sys.argv[1], sys.argv[2], int(sys.argv[3])))
