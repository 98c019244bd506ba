"""Costs of replicas: the rate with etcd, the delay between replicas, and the time of a start.

Run as `python -m benchmarks.replicas fill KV_URL COUNT` it fills a store with components, and as
`... delay SECONDS URL...` it sends heartbeats to replicas, the first of which leads, and prints how
long it took until the leader knew of the followers' heartbeats.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import treq
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.web.client import Agent, HTTPConnectionPool

from benchmarks.http import PLAIN, heartbeats
from benchmarks.running import LOAD_CORE, ask, etcd, etcd_missing, hbtd, on_core
from benchmarks.table import Row
from hbtd.etcd.client import EtcdClient
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fleet import Fleet, node_names
from hbtd.store.etcd import EtcdStore
from hbtd.store.sqlite import SqliteStore
from hbtd.tracker.records import Record

_NODES = 10_000
_RATE = 3_000
_REPLICAS = 3
_PROBES = 700
_ERRTIME = 6
_STORED = 100_000
_TAIL = 4.0
"""Seconds in which a replica has stored the heartbeats of a run at full load."""

_UNSWEPT = (f"--warntime={_ERRTIME - 1}", f"--errtime={_ERRTIME}", "--interval=86400")
"""No node is judged, so that one that was silent for `errtime` is back once it is heard."""


def measure(seconds: int, rounds: int) -> list[Row]:
    """Measure rates in rounds of some `seconds`, the delay between replicas, and starts."""
    missing = etcd_missing()
    rows = [Row("etcd is missing", f"not measured: {missing}")] if missing else []
    if not missing:
        if shutil.which("wrk") is not None:
            rows += _rates(seconds, rounds)
        rows += _delays(6 * seconds)
    return rows + _starts(with_etcd=not missing)


# Heartbeats per second


def _rates(seconds: int, rounds: int) -> list[Row]:
    """Compare a replica's rate with that of the memory store, in turn."""
    alone, shared, transactions, written = [], [], [], []
    with etcd() as kv_url, hbtd(*PLAIN) as memory, hbtd(*PLAIN, f"--kv_url={kv_url}") as replica:
        for url in (memory, replica):
            heartbeats(url, 2)  # so that no node is new in the runs that count
        for _ in range(rounds):
            time.sleep(_TAIL)
            alone.append(heartbeats(memory, seconds).rate)
            before = _store_figures(replica)
            shared.append(heartbeats(replica, seconds).rate)
            after = _store_figures(replica)
            transactions.append((after[0] - before[0]) / seconds)
            written.append((after[1] - before[1]) / seconds)
    with_etcd, without = median(shared), median(alone)
    return [
        Row(
            f"one replica on etcd, {_NODES:,} nodes: heartbeats/s / memory store ({without:,.0f})",
            f"{with_etcd / without:.2f}  ({with_etcd:,.0f}/s)",
            ">= 0.8",
        ),
        Row(
            "... meanwhile to etcd",
            f"{median(transactions):,.0f} transactions/s, {median(written) / 1e6:.2f} MB/s",
        ),
    ]


def _store_figures(url: str) -> tuple[float, float]:
    """Return how many transactions and bytes a replica has written."""
    metrics = _metrics(url)
    return (
        _figure(metrics, "hbtd_store_transactions_total"),
        _figure(metrics, "hbtd_store_bytes_total"),
    )


def _metrics(url: str) -> str:
    return ask(url, "GET", "/metrics")[1].decode()


def _figure(metrics: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


# The delay between replicas, and the time to answer


def _delays(seconds: int) -> list[Row]:
    """Measure how soon the leader knows of heartbeats that a follower took."""
    with ExitStack() as stack:
        kv_url = stack.enter_context(etcd())
        options = (*PLAIN, f"--kv_url={kv_url}", *_UNSWEPT)
        urls = [stack.enter_context(hbtd(*options)) for _ in range(_REPLICAS)]
        leader = _leader(urls)
        urls.remove(leader)
        command = [
            sys.executable,
            "-m",
            "benchmarks.replicas",
            "delay",
            str(seconds),
            leader,
            *urls,
        ]
        done = subprocess.run(
            on_core(LOAD_CORE, command), capture_output=True, text=True, timeout=300, check=True
        )
        figures = json.loads(done.stdout)
        answer = _states_milliseconds(leader)
    return [
        Row(
            f"{_REPLICAS} replicas, {figures['rate']:,.0f} heartbeats/s of {_NODES:,} nodes:"
            f" from a follower to the leader, p99 of {figures['count']:,}",
            f"{figures['p99']:.2f} s (median {figures['median']:.2f} s,"
            f" longest {figures['longest']:.2f} s)",
            "< 1.5 s",
        ),
        Row(
            f"/hbstates for {_NODES:,} names: median of 20",
            f"{answer:.1f} ms",
            "< 50 ms",
        ),
    ]


def _leader(urls: list[str]) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for url in urls:
            if _figure(_metrics(url), "hbtd_leading"):
                return url
        time.sleep(0.05)
    raise RuntimeError("no replica leads")


def _states_milliseconds(url: str) -> float:
    body = json.dumps({"XNames": node_names(_NODES)})
    times = []
    for _ in range(20):
        began = time.perf_counter()
        status, answer = ask(url, "POST", "/hmi/v1/hbstates", body)
        times.append(time.perf_counter() - began)
        if status != 200 or len(json.loads(answer)["HBStates"]) != _NODES:
            raise RuntimeError(f"/hbstates answers {status}")
    return median(times) * 1000


class _Probes:
    """Nodes that send rare heartbeats to followers, and when the leader knows of each.

    Between two heartbeats they are silent for longer than `errtime`, so that the leader answers
    that they are not heartbeating until it knows of the latest.
    """

    def __init__(self, reactor: Any, leader: str, followers: list[str]) -> None:
        self._reactor = reactor
        self._leader = leader
        self._followers = followers
        self._http = HTTPClient(Agent(reactor, pool=HTTPConnectionPool(reactor)))
        self._names = node_names(_NODES + _PROBES)[_NODES:]
        self._turn = 0
        self._sent: dict[str, float] = {}
        self.took: list[float] = []
        """Seconds from the sending of each heartbeat until the leader knew of it."""

    def beat(self) -> None:
        """Send the next node's heartbeat."""
        name = self._names[self._turn % len(self._names)]
        url = self._followers[self._turn % len(self._followers)]
        first = self._turn < len(self._names)
        self._turn += 1
        if not first:
            self._sent[name] = self._reactor.seconds()
        body = {"Status": "OK", "Timestamp": str(self._turn)}
        Deferred.fromCoroutine(self._post(f"{url}/hmi/v1/heartbeat/{name}", body))

    async def look(self) -> None:
        """Ask the leader about the nodes whose heartbeats it has not known yet."""
        names = list(self._sent)
        if not names:
            return
        answer = await self._post(f"{self._leader}/hmi/v1/hbstates", {"XNames": names})
        now = self._reactor.seconds()
        for state in json.loads(answer)["HBStates"]:
            if state["Heartbeating"]:
                self.took.append(now - self._sent.pop(state["XName"]))

    async def _post(self, url: str, body: Any) -> bytes:
        response = await self._http.post(url, json=body, reactor=self._reactor)
        content: bytes = await treq.content(response)
        if response.code != 200:
            raise RuntimeError(f"{url} answers {response.code}")
        return content


async def _measure_delays(reactor: Any, seconds: float, urls: list[str]) -> dict[str, float]:
    """Send heartbeats to all replicas; return how soon the first knew of those of the others."""
    names = node_names(_NODES)
    fleets = [
        Fleet(
            reactor,
            client_endpoint(reactor, url),
            url,
            names[number :: len(urls)],
            random=Random(number),
            period=_NODES / _RATE,
        )
        for number, url in enumerate(urls)
    ]
    probes = _Probes(reactor, urls[0], urls[1:])
    for fleet in fleets:
        fleet.startService()
    beating, looking = LoopingCall(probes.beat), LoopingCall(probes.look)
    # Each has its turn in a little more than `errtime` and the delay.
    done = [beating.start((_ERRTIME + 2.0) / _PROBES), looking.start(0.02)]
    await deferLater(reactor, _ERRTIME + 4.0)  # until every probe has sent its first heartbeat
    probes.took.clear()
    before = sum(fleet.statistics.answered for fleet in fleets)
    await deferLater(reactor, seconds)
    answered = sum(fleet.statistics.answered for fleet in fleets) - before
    for loop, ended in zip((beating, looking), done, strict=True):
        loop.stop()
        await ended
    for fleet in fleets:
        await fleet.stopService()
    took = probes.took
    return {
        "rate": answered / seconds,
        "count": len(took),
        "median": median(took),
        "p99": quantiles(took, n=100)[98],
        "longest": max(took),
    }


# Starting


def _starts(*, with_etcd: bool) -> list[Row]:
    """Measure the time until hbtd is ready with many stored components."""
    rows = []
    with TemporaryDirectory() as directory:
        rows.append(_start("sqlite", f"sqlite:{Path(directory) / 'hbtd.sqlite'}"))
    if with_etcd:
        with etcd() as kv_url:
            rows.append(_start("etcd", kv_url))
    return rows


def _start(name: str, kv_url: str) -> Row:
    command = [sys.executable, "-m", "benchmarks.replicas", "fill", kv_url, str(_STORED)]
    subprocess.run(command, timeout=300, check=True)
    began = time.monotonic()
    with hbtd(*PLAIN, f"--kv_url={kv_url}") as url:
        while ask(url, "GET", "/hmi/v1/readiness")[0] != 204:
            time.sleep(0.02)
        took = time.monotonic() - began
        if _figure(_metrics(url), 'hbtd_components{state="healthy"}') != _STORED:
            raise RuntimeError("not all components were loaded")
    return Row(f"ready with {_STORED:,} components stored, {name}", f"{took:.1f} s", "<= 5 s")


async def _fill(reactor: Any, kv_url: str, count: int) -> None:
    """Store `count` components that have just been heard."""
    pool = HTTPConnectionPool(reactor)
    store: SqliteStore | EtcdStore
    if kv_url.startswith("sqlite:"):
        store = SqliteStore(kv_url.partition(":")[2], reactor, time.monotonic, "benchmark")
    else:
        client = HTTPClient(Agent(reactor, pool=pool))
        store = EtcdStore(EtcdClient(client, reactor, [kv_url], 10.0, "benchmarks"), time.time)
    await store.open()
    names = node_names(count)
    for start in range(0, count, _NODES):
        some = names[start : start + _NODES]
        stamp = "2026-11-23T00:00:00.000000+00:00"
        await store.checkpoint([Record(name, 0.0, stamp, "OK", False) for name in some])
    await store.close()
    await pool.closeCachedConnections()


def _main(reactor: Any, what: str, *arguments: str) -> Deferred[None]:
    async def run() -> None:
        if what == "fill":
            kv_url, count = arguments
            await _fill(reactor, kv_url, int(count))
        else:
            seconds, *urls = arguments
            print(json.dumps(await _measure_delays(reactor, float(seconds), urls)))

    return Deferred.fromCoroutine(run())


if __name__ == "__main__":
    react(_main, sys.argv[1:])
