"""The growth of etcd under a steady fleet: its transactions, bytes, and size.

Run as `python -m benchmarks.growth NODES SECONDS [OPTION...]` it lets NODES nodes beat every three
seconds, at two replicas, and prints every ten seconds what etcd says of itself. The options are
those of hbtd. `QUOTA=67108864` in the environment is etcd's quota in bytes.
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

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from benchmarks.http import PLAIN
from benchmarks.running import LOAD_CORE, ask, etcd, hbtd, on_core
from benchmarks.table import Row
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fleet import Fleet, node_names

_PERIOD = 3.0
_REPLICAS = 2
_STEP = 10.0
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
    else:
        _print(*sys.argv[1:])
