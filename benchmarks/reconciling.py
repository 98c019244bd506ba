"""The costs of comparing HSM's table: for how long it keeps the reactor busy, and what it takes.

Run as `python -m benchmarks.reconciling COUNT URL` it tracks so many components in its own process,
compares the table of a fake HSM at a URL, and prints the figures as JSON.
"""

import gc
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutput

from benchmarks.running import LOAD_CORE, SERVER_CORE, fake_hsm, on_core
from benchmarks.table import Row
from hbtd.app.hsm import connect_hsm
from hbtd.app.service import HbtdService
from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.hsm.difference import Look
from hbtd.simulator.fleet import node_names

_TICK = 0.001
_USUAL = 300.0
_IDLE = 15.0
_SECONDS = 4.0
_TURNS = 3
_SENT = ("2026-03-04T05:06:07.891Z", "Kernel Alive", "10.0.0.1")

# Heartbeats as fast as they are answered on some connections; it prints how many a second.
_BEATS = """
import json, socket, sys, time
port, seconds = int(sys.argv[1]), float(sys.argv[2])
body = json.dumps({"Component": "x1000c0s0b0n0", "Hostname": "nid000000", "NID": "0",
                   "Status": "OK", "Timestamp": "2026-03-04T05:06:07Z"}).encode()
request = (b"POST /hmi/v1/heartbeat HTTP/1.1\\r\\nHost: localhost\\r\\n"
           b"Content-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)) + body
sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(32)]
end, count = time.monotonic() + seconds, 0
while time.monotonic() < end:
    for each in sockets:
        each.sendall(request)
    for each in sockets:
        assert b" 200 " in each.recv(65536)[:20]
    count += len(sockets)
print(count / seconds)
"""


def measure(count: int) -> list[Row]:
    """Measure comparisons of a table of `count` components: none, all right, all wrong, all told.

    How late the reactor was at most is the least of three turns.
    """
    with fake_hsm() as url:
        done = subprocess.run(
            on_core(SERVER_CORE, [sys.executable, "-m", "benchmarks.reconciling", str(count), url]),
            stdout=subprocess.PIPE,
            timeout=600,
            check=True,
        )
    found = json.loads(done.stdout)
    usual = 1 - (1 - found["ratio"]) * min(1.0, 2 * found["look"] / _USUAL)
    return [
        Row("HSM's table", f"{count:,} components, two requests a comparison"),
        Row("a look", f"{found['look']:.2f} s"),
        *(
            Row(f"comparison, {name}", f"reactor late by {late * 1e3:.0f} ms at most", "< 20 ms")
            for name, late in found["late"].items()
        ),
        Row("heartbeats during a look: rate / that without", f"{found['ratio']:.2f}"),
        Row("heartbeats with --sm_sync=300: rate / that without", f"{usual:.3f}", ">= 0.97"),
    ]


def _put(url: str, names: list[str], word: str) -> None:
    control = url.partition("/hsm/")[0].rstrip("/") + "/control/components"
    data = json.dumps(dict.fromkeys(names, word)).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(control, data, headers, method="PUT")
    urllib.request.urlopen(request, timeout=60).close()


async def _measure(reactor: Any, count: int, url: str) -> dict[str, Any]:
    base = url.rstrip("/") + ("" if "/hsm/" in url else "/hsm/v2")
    params = Params(
        port=0,
        tls=False,
        kv_url="mem:",
        sm_url=base,
        sm_sync=0,
        use_telemetry=False,
        interval=3600,
        warntime=10_000,
        errtime=20_000,
    )
    names = node_names(count)
    await deferToThread(_put, url, names, "Ready/OK")
    service = HbtdService(params, reactor)
    service.startService()
    while service.port is None:
        await deferLater(reactor, 0.05)
    for number, name in enumerate(names):
        service.tracker.beat(name, 0.0, *_SENT, hostname=f"nid{number:06}", nid=str(number))
    while not service.core.notifier.hsm_ready:
        await deferLater(reactor, 0.05)
    gc.collect()
    gc.freeze()  # as hbtd does when it has restored its components
    client, _ = connect_hsm(LiveParams(params), reactor, "benchmark", lambda: True, time.time)

    async def look() -> None:
        taken = Look(service.tracker.phase)
        await client.read_table(["Node"], lambda *row: taken.add(*row[:3]))
        assert taken.rows == count, taken.rows

    began = time.monotonic()
    await look()
    took = time.monotonic() - began
    ratio = await _ratio(reactor, service.port.getHost().port, look)
    compare = partial(_comparison, reactor, service)
    cases: dict[str, tuple[str, Callable[[], Awaitable[object]]]] = {
        # What else the host does makes a reactor late that does nothing.
        "none": ("Ready/OK", partial(deferLater, reactor, _IDLE)),
        "all right": ("Ready/OK", compare),
        "all wrong": ("Standby/Alert", compare),
        "all told again": ("Standby/Alert", partial(compare, names)),
    }
    late = dict.fromkeys(cases, float("inf"))
    # What hbtd does takes its time in each turn, unlike most of what else the host does.
    for _ in range(_TURNS):
        for case, (word, work) in cases.items():
            await deferToThread(_put, url, names, word)
            late[case] = min(late[case], await _late(reactor, work))
    await service.stopService()
    return {"look": took, "late": late, "ratio": ratio}


async def _late(reactor: Any, work: Callable[[], Awaitable[object]]) -> float:
    """Return by how much the reactor was late at most while some work was done."""
    ticks = [time.monotonic()]
    ticking = LoopingCall(lambda: ticks.append(time.monotonic()))
    ticking.clock = reactor
    ticking.start(_TICK)
    await work()
    ticking.stop()
    return max(later - tick for tick, later in pairwise(ticks[5:])) - _TICK


async def _comparison(reactor: Any, service: HbtdService, heard: Sequence[str] = ()) -> None:
    """Make a comparison, and wait a while.

    After the comparison, the components in `heard` are heard twice, and HSM is told of all of them.
    """
    told = service.core.reconciler.told_count + len(heard)
    await service.core.reconciler.request()
    for _ in range(2):
        for start in range(0, len(heard), 100):
            for name in heard[start : start + 100]:
                service.tracker.beat(name, service.core.observed.now(), *_SENT)
            await deferLater(reactor, 0)
        await deferLater(reactor, 1.5)
    while service.core.reconciler.told_count < told:
        await deferLater(reactor, 0.1)


async def _ratio(reactor: Any, port: int, look: Any) -> float:
    """Return the rate of heartbeats while looks follow one another, as a share of the rate without.

    Both are measured in turn, so that what else the host does counts for both.
    """

    async def rate() -> float:
        arguments = ["-c", _BEATS, str(port), str(_SECONDS)]
        command = on_core(LOAD_CORE, [sys.executable, *arguments])
        return float(await getProcessOutput(f"/usr/bin/{command[0]}", command[1:], errortoo=True))

    alone = during = 0.0
    for _ in range(_TURNS):
        alone += await rate()
        counting = Deferred.fromCoroutine(rate())
        while not counting.called:
            await look()
        during += await counting
    return during / alone


def _main(reactor: Any, count: str, url: str) -> Deferred[None]:
    measured = Deferred.fromCoroutine(_measure(reactor, int(count), url))
    return measured.addCallback(lambda found: print(json.dumps(found)))


if __name__ == "__main__":
    react(_main, sys.argv[1:])
