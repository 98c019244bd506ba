"""The costs of queries: their times over HTTP, and for how long they keep the reactor busy.

Run as `python -m benchmarks.queries COUNT` it serves so many components in its own process, asks by
another one, and prints the figures as JSON.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.internet.utils import getProcessOutput

from benchmarks.table import Row
from hbtd.app.service import HbtdService
from hbtd.config.params import Params
from hbtd.simulator.fleet import node_names

_TICK = 0.001
_CHECKS = 3

_CLIENT = """
import http.client, sys, time
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
times = []
for _ in range(int(sys.argv[4])):
    began = time.perf_counter()
    connection.request(sys.argv[2], "/hmi/v1" + sys.argv[3], sys.argv[5] or None)
    answer = connection.getresponse()
    body = answer.read()
    times.append(time.perf_counter() - began)
    assert answer.status == 200, body
print(sorted(times)[len(times) // 2])
"""

_QUERIES = {
    "a first page, sorted anew": ("GET", "/components", 1, ""),
    "a page of 1,000": ("GET", "/components", 5, ""),
    "the last page": ("GET", "/components?limit=1000&after=x9999", 5, ""),
    "names of no component": ("GET", "/components?names=x[9000-9999]c[0-7]s[0-9]", 3, ""),
    "a host name": ("GET", "/components/nid099999", 5, ""),
    "/summary, all healthy": ("GET", "/summary", 9, ""),
    "/tree, all healthy": ("GET", "/tree", 5, ""),
    "/metrics": ("GET", "/metrics", 5, ""),
    "/internals": ("GET", "/internals", 5, ""),
}
"""The method, the path, how often, and the body of each query."""

_WHEN_SILENT = {
    "/summary, a chassis dead": ("GET", "/summary", 9, ""),
    "the dead ones": ("GET", "/components?state=dead", 5, ""),
}
_WHEN_SCATTERED = {
    "/summary, each third dead": ("GET", "/summary", 9, ""),
    "/tree, each third dead": ("GET", "/tree", 5, ""),
}
_WHEN_DEAD = {
    "/summary, all dead": ("GET", "/summary", 9, ""),
    "forgetting 10,000": (
        "POST",
        "/forget",
        1,
        '{"XNames": ["x[1000-1019]c[0-7]s[0-7]b[0-1]n[0-3]"]}',
    ),
}


def measure(count: int) -> list[Row]:
    """Measure queries about `count` components."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.queries", str(count)],
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
    )
    rows = [Row("queries", f"{count:,} components")]
    for name, (seconds, late) in json.loads(done.stdout).items():
        rows.append(
            Row(
                name,
                f"{seconds * 1e3:.0f} ms, reactor late by most {late * 1e3:.0f} ms",
                "< 50 ms, < 20 ms" if "summary" in name else "late < 20 ms",
            )
        )
    return rows


async def _ask(reactor: Any, port: int, query: tuple[str, str, int, str]) -> tuple[float, float]:
    """Return the median of the times of a query, and by how much the reactor was late at most."""
    method, path, times, body = query
    arguments = ["-c", _CLIENT, str(port), method, path, str(times), body]
    return await _late(reactor, lambda: getProcessOutput(sys.executable, arguments, errortoo=True))


async def _late(reactor: Any, work: Callable[[], Deferred[Any]]) -> tuple[float, float]:
    """Return the result of some work, and by how much the reactor was late meanwhile at most."""
    ticks = [time.monotonic()]
    ticking = LoopingCall(lambda: ticks.append(time.monotonic()))
    ticking.clock = reactor
    ticking.start(_TICK)
    result = await work()
    ticking.stop()
    late = max(later - tick for tick, later in pairwise(ticks[5:])) - _TICK
    return float(result), late


async def _measure(reactor: Any, count: int) -> dict[str, tuple[float, float]]:
    params = Params(port=0, tls=False, kv_url="mem:", nosm=True, use_telemetry=False, interval=3600)
    service = HbtdService(params, reactor)
    service.startService()
    while service.port is None:
        await deferLater(reactor, 0.05)
    await deferLater(reactor, 0.5)
    names = node_names(count)
    tracker = service.tracker
    for number, name in enumerate(names):
        sent = ("2026-03-04T05:06:07.891Z", "Kernel Alive", "10.0.0.1")
        tracker.beat(name, 0.0, *sent, hostname=f"nid{number:06}", nid=str(number))
    gc.collect()
    gc.freeze()  # as hbtd does when it has restored its components
    port = service.port.getHost().port
    found: dict[str, tuple[float, float]] = {}

    async def ask_all(queries: dict[str, tuple[str, str, int, str]]) -> None:
        for name, query in queries.items():
            await deferLater(reactor, 0.2)
            found[name] = await _ask(reactor, port, query)

    async def check() -> float:
        began = time.monotonic()
        for _ in range(_CHECKS):
            await service.views.self_checks.run()
        return (time.monotonic() - began) / _CHECKS

    await ask_all(_QUERIES)
    found["self-checks"] = await _late(reactor, lambda: Deferred.fromCoroutine(check()))
    for name in names:
        if name.startswith("x1001c3s"):
            tracker.apply_death(name)
    await ask_all(_WHEN_SILENT)
    for name in names[::3]:
        tracker.apply_death(name)
    await ask_all(_WHEN_SCATTERED)
    for name in names:
        tracker.apply_death(name)
    await ask_all(_WHEN_DEAD)
    await service.stopService()
    return found


def _main(reactor: Any, count: str) -> Deferred[None]:
    measured = Deferred.fromCoroutine(_measure(reactor, int(count)))
    return measured.addCallback(lambda found: print(json.dumps(found)))


if __name__ == "__main__":
    react(_main, sys.argv[1:])
