"""hbtd under thousands of hostile clients: no false warnings, and bounded memory.

`HBTD_CROWD_SECONDS` sets how long they attack. The effects are printed.
"""

import json
import os
import re
import sys
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fleet import Fleet, node_names
from tests.support.attackers import IDLE, SLOW
from tests.support.own_metrics import numbers
from tests.support.processes import CHECKOUT, spawn
from tests.support.running import WebClient, reactor, start_hsm

SECONDS = float(os.environ.get("HBTD_CROWD_SECONDS", "35"))

NODES = 500
PERIOD = 1.5
MOST_COMPONENTS = 20_000
MOST_MEMORY = 400
"""MiB by which hbtd may grow: 6,000 connections, 20,000 components, and requests in hand."""


class Latencies:
    """The latencies of a fleet's answers, in seconds and in order."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def __len__(self) -> int:
        return len(self._seconds)

    def add(self, name: str, seconds: float) -> None:
        """Add the latency of an answer."""
        self._seconds.append(seconds)

    def p99(self, start: int = 0, end: int | None = None) -> float:
        """Return the 99th percentile of a range of answers, in milliseconds."""
        ordered = sorted(self._seconds[start:end])
        return ordered[int(0.99 * (len(ordered) - 1))] * 1000


class CrowdTests(TestCase):
    """Hostile clients of all kinds at once."""

    timeout = 180 + SECONDS

    async def test_crowd(self) -> None:
        """No heartbeating node is warned about, memory is bounded, and refusals are counted."""
        hsm = start_hsm(self)
        process = spawn(
            self,
            (
                *("-m", "hbtd", "--kv_url=mem:", "--use_telemetry=no"),
                *("--listen=tcp:0:interface=127.0.0.1:backlog=1024", f"--sm_url={hsm.url}"),
                *("--warntime=6", "--errtime=12", "--interval=1"),
                f"--max_components={MOST_COMPONENTS}",
            ),
        )
        url = await process.url.addTimeout(20, reactor)
        assert process.transport is not None
        pid = process.transport.pid
        names = node_names(NODES)
        latencies = Latencies()
        fleet = Fleet(
            reactor,
            client_endpoint(reactor, url),
            url,
            names,
            random=Random(1),
            period=PERIOD,
            on_answer=latencies.add,
        )
        fleet.startService()
        self.addCleanup(fleet.stopService)
        await deferLater(reactor, 6)
        before, quiet = resident(pid), len(latencies)
        peak = before

        def measure() -> None:
            nonlocal peak
            peak = max(peak, resident(pid))

        measuring = LoopingCall(measure)
        measuring.start(0.2)
        self.addCleanup(lambda: measuring.stop() if measuring.running else None)
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            ["-m", "tests.support.attackers", str(urlsplit(url).port), str(SECONDS)],
            {**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        self.assertEqual(status, 0, err.decode())
        beside = len(latencies)
        client = WebClient(self)
        metrics = await numbers(client, url)

        async def crowd_gone() -> bool:
            return (await numbers(client, url))["connections"] < 100

        while not await crowd_gone():
            await deferLater(reactor, 0.2)
        await deferLater(reactor, 3)
        measuring.stop()
        await fleet.stopService()
        own = set(names)
        wrong = [
            (update.message, sorted(own & set(update.names))[:5])
            for update in hsm.hsm.updates
            if own & set(update.names) and update.message != "Heartbeat started"
        ]
        refused = {
            found[1]: count
            for name, count in metrics.items()
            if (found := re.fullmatch(r'refused_total\{reason="(\w+)"\}', name)) and count
        }
        print(
            f"\n      the crowd: {out.decode().strip()}"
            f"\n      refused: {refused}"
            f"\n      memory: {before} MiB before, {peak} at most, {resident(pid)} after"
            f"\n      p99 of heartbeats: {latencies.p99(0, quiet):.1f} ms before,"
            f" {latencies.p99(quiet, beside):.1f} ms beside the crowd ({beside - quiet} of them)"
            f"\n      deaf: {metrics['deaf_seconds_total']:.1f} s of {SECONDS:g}"
            f"\n      failed: {dict(fleet.statistics.failures)}; false warnings: {len(wrong)}"
        )
        self.assertEqual(wrong, [])
        self.assertEqual(fleet.statistics.failed, 0)
        self.assertLess(peak - before, MOST_MEMORY)
        self.assertLess(metrics["deaf_seconds_total"], SECONDS / 2)
        for reason in ("slow", "full", "large_head", "large_body"):
            self.assertGreater(refused.get(reason, 0), 0, reason)
        crowd = json.loads(out)
        self.assertGreaterEqual(crowd["idle"], IDLE)  # they come back after they were closed
        self.assertGreaterEqual(refused["slow"], SLOW)


def resident(pid: int) -> int:
    """Return the memory that a process occupies, in MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) // 1024
