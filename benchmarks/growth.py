"""The growth of etcd under a steady fleet: its transactions, bytes, and size.

Run as `python -m benchmarks.growth NODES SECONDS [OPTION...]` it lets NODES nodes beat every three
seconds, at two replicas, and prints every ten seconds what etcd says of itself. The options are
those of hbtd. `QUOTA=67108864` in the environment is etcd's quota in bytes.

Run as `python -m benchmarks.growth hour NODES` it writes what such a fleet makes a replica write in
an hour, as fast as etcd takes it, and compacts as a leader does; every five minutes of that hour it
prints the size of etcd's database.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any, NamedTuple

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.web.client import Agent, HTTPConnectionPool

from benchmarks.http import PLAIN
from benchmarks.running import LOAD_CORE, ask, etcd, hbtd, on_core
from benchmarks.table import Row
from hbtd.config.params import Params
from hbtd.etcd.client import EtcdClient
from hbtd.etcd.messages import Put
from hbtd.replicas.compaction import INTERVAL, History
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fleet import Fleet, node_names
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_blocks import Blocks
from hbtd.store.etcd_format import PRESENCE
from hbtd.store.etcd_steps import batches
from hbtd.tracker.records import Record

_PERIOD = 3.0
_REPLICAS = 2
_STEP = 10.0
_GATHER = 0.5
"""Seconds between two checkpoints of a replica."""

_SETTLED = 40.0
"""Seconds until the fleet is known, and its records are written as seldom as they will be."""


class Sample(NamedTuple):
    """What etcd, and the replicas, say at one moment."""

    at: float
    transactions: float
    written: float
    size: int
    """Bytes of etcd's database, which its quota is about."""
    in_use: int
    """Bytes of the database that are not free."""
    transitions: float
    """Judgements of the replicas that are not starts."""


def measure(nodes: int, seconds: float) -> list[Row]:
    """Measure for some `seconds` what a fleet of so many `nodes` makes etcd write."""
    samples = list(run(nodes, _SETTLED + seconds))
    first = next(each for each in samples if each.at >= _SETTLED)
    last = samples[-1]
    took = last.at - first.at
    return [
        Row(
            f"{nodes:,} nodes at a heartbeat in {_PERIOD:.0f} s, {_REPLICAS} replicas: to etcd",
            f"{(last.transactions - first.transactions) / took:,.1f} transactions/s,"
            f" {(last.written - first.written) / took / 1000:,.0f} kB/s",
        ),
        Row(
            "... etcd's database after that, and in use",
            f"{last.size / 2**20:,.1f} MiB, {last.in_use / 2**20:,.1f} MiB",
        ),
    ]


def run(nodes: int, seconds: float, *options: str, quota: int = 0) -> Iterator[Sample]:
    """Let `nodes` nodes beat at replicas with these `options`; yield samples for some `seconds`."""
    with ExitStack() as stack:
        limits = [f"--quota-backend-bytes={quota}"] if quota else []
        kv_url = stack.enter_context(etcd(*limits))
        settings = (*PLAIN, f"--kv_url={kv_url}", *options)
        urls = [stack.enter_context(hbtd(*settings)) for _ in range(_REPLICAS)]
        stack.enter_context(_fleet(nodes, seconds, urls))
        began = time.monotonic()
        at = 0.0
        while at < seconds:
            time.sleep(_STEP)
            at = time.monotonic() - began
            yield _sample(at, kv_url, urls)


@contextmanager
def _fleet(nodes: int, seconds: float, urls: list[str]) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.growth", "fleet", str(nodes), str(seconds + 30)]
    with subprocess.Popen(on_core(LOAD_CORE, [*command, *urls])) as process:
        try:
            yield
        finally:
            process.terminate()


def _sample(at: float, kv_url: str, urls: list[str]) -> Sample:
    status = json.loads(ask(kv_url, "POST", "/v3/maintenance/status", "{}")[1])
    metrics = [ask(url, "GET", "/metrics")[1].decode() for url in urls]
    return Sample(
        at,
        _sum(metrics, r"hbtd_store_transactions_total"),
        _sum(metrics, r"hbtd_store_bytes_total"),
        int(status["dbSize"]),
        int(status["dbSizeInUse"]),
        _sum(metrics, r'hbtd_transitions_total\{transition="(?:warned|died|restarted)"\}'),
    )


def _sum(metrics: list[str], name: str) -> float:
    return sum(
        float(found) for text in metrics for found in re.findall(rf"(?m)^{name} (\S+)$", text)
    )


async def _beat(reactor: Any, nodes: int, seconds: float, urls: list[str]) -> None:
    names = node_names(nodes)
    for number, url in enumerate(urls):
        fleet = Fleet(
            reactor,
            client_endpoint(reactor, url),
            url,
            names[number :: len(urls)],
            random=Random(number),
            period=_PERIOD,
        )
        fleet.startService()
    await deferLater(reactor, seconds)


async def _hour(reactor: Any, nodes: int, kv_url: str) -> None:
    """Write an hour's heartbeats, half a second after half a second."""
    now = 1000.0
    pool = HTTPConnectionPool(reactor)
    http = HTTPClient(Agent(reactor, pool=pool))
    client = EtcdClient(http, reactor, [kv_url], 10.0, "benchmarks")
    blocks = Blocks(lambda: now, Params)
    blocks.allow(True)
    store = EtcdStore(client, lambda: 1.7e9 + now, blocks)
    await store.open()
    store.writer.set_presence(lambda: Put(PRESENCE + b"1", b"benchmarks blocks"))
    random, names, history = Random(1), node_names(nodes), History()
    turns = int(_PERIOD / _GATHER)
    for turn in range(int(3600 / _GATHER) + 1):
        # Each node beats once in every period, at another time than the last.
        if turn % turns == 0:
            random.shuffle(names)
        stamp = f"2026-11-23T00:00:{turn:09.6f}+00:00"
        some = names[turn % turns :: turns]
        records = [Record(name, random.random() * _GATHER, stamp, "OK", False) for name in some]
        for batch in batches(records, 500):
            await store.checkpoint(batch)
        if turn * _GATHER % INTERVAL == 0:
            history.note(await store.touch(), now)
            outdated = history.outdated(now)
            if outdated is not None:
                await client.compact(outdated)
        if turn * _GATHER % 300 == 0:
            size = await client.database_size()
            print(
                f"{turn * _GATHER / 60:3.0f} min {size.size / 2**20:7.2f} MiB"
                f" {size.in_use / 2**20:7.2f} MiB in use, quota {size.quota / 2**20:.0f} MiB",
                flush=True,
            )
        now += _GATHER
    await pool.closeCachedConnections()


def _hour_main(reactor: Any, nodes: str, kv_url: str) -> Deferred[None]:
    return Deferred.fromCoroutine(_hour(reactor, int(nodes), kv_url))


def _main(reactor: Any, nodes: str, seconds: str, *urls: str) -> Deferred[None]:
    return Deferred.fromCoroutine(_beat(reactor, int(nodes), float(seconds), list(urls)))


def _print(nodes: str, seconds: str, *options: str) -> None:
    quota = int(os.environ.get("QUOTA", "0"))
    before: Sample | None = None
    for sample in run(int(nodes), float(seconds), *options, quota=quota):
        if before is not None:
            took = sample.at - before.at
            print(
                f"{sample.at:6.0f} s"
                f" {(sample.transactions - before.transactions) / took:8.1f} transactions/s"
                f" {(sample.written - before.written) / took / 1000:8.1f} kB/s"
                f" {sample.size / 2**20:8.2f} MiB {sample.in_use / 2**20:8.2f} MiB in use"
                f" {sample.transitions:6.0f} judgements",
                flush=True,
            )
        before = sample


if __name__ == "__main__":
    if sys.argv[1] == "fleet":
        react(_main, sys.argv[2:])
    elif sys.argv[1] == "hour":
        with etcd(f"--quota-backend-bytes={os.environ.get('QUOTA', 64 * 2**20)}") as url:
            react(_hour_main, [sys.argv[2], url])
    else:
        _print(*sys.argv[1:])
