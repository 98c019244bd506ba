"""hbtd under ten thousand of each kind of hostile TLS client: nothing of them stays.

`HBTD_HANDSHAKES` sets how many of each. What they cost is printed.
"""

import json
import os
import re
import sys
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fleet import Fleet
from tests.support.own_metrics import numbers
from tests.support.processes import CHECKOUT, spawn
from tests.support.running import WebClient, reactor, start_hsm

ATTEMPTS = int(os.environ.get("HBTD_HANDSHAKES", "10000"))

KINDS = ("halves", "renegotiations", "key_updates", "garbage", "unannounced", "unread")
WARNTIME, ERRTIME, INTERVAL = 4, 7, 1
STEADY, STOPPING, HOSTILE = (f"x1000c0s0b0n{number}" for number in range(3))

MOST_MEMORY = 24
"""MiB by which hbtd may have grown after all of them, since a first few of each."""


class HandshakesTests(TestCase):
    """Hostile TLS clients of one kind after another."""

    timeout = 240

    async def test_handshakes(self) -> None:
        """A node that beats never fails, one that stops is found dead, and nothing is kept."""
        times: dict[str, float] = {}

        def note(update: Update) -> None:
            if STOPPING in update.names:
                times[update.message] = reactor.seconds()

        hsm = start_hsm(self, on_update=note)
        process = spawn(
            self,
            (
                *("-m", "hbtd", "--kv_url=mem:", "--use_telemetry=no", "--port=0"),
                *("--address=127.0.0.1", f"--sm_url={hsm.url}"),
                *(f"--warntime={WARNTIME}", f"--errtime={ERRTIME}", f"--interval={INTERVAL}"),
            ),
        )
        url = await process.url.addTimeout(20, reactor)
        assert process.transport is not None
        self.pid = process.transport.pid
        self.port = urlsplit(url).port
        endpoint = client_endpoint(reactor, url)
        fleet = Fleet(reactor, endpoint, url, [STEADY, STOPPING], random=Random(1), period=1.0)
        fleet.startService()
        self.addCleanup(fleet.stopService)
        await deferLater(reactor, 2)
        for kind in KINDS:
            await self.attack(kind, 200)
        files = await self.files_at_most(0)
        before = self.memory()
        began = reactor.seconds()
        print(f"\n      before: {before:.1f} MiB, {files} files")
        seen, stopped = {}, 0.0
        for kind in KINDS:
            if kind == "unannounced":
                fleet.kill([STOPPING])
                stopped = reactor.seconds()
            start = reactor.seconds()
            seen[kind] = await self.attack(kind, ATTEMPTS)
            took = reactor.seconds() - start
            left = await self.files_at_most(files)
            print(f"      {kind}: {took:.1f} s, then {self.memory():.1f} MiB, {left} files")
            self.assertLessEqual(left, files, kind)
        while len(times) < 3 and reactor.seconds() < stopped + 3 * ERRTIME:
            await deferLater(reactor, 0.1)
        metrics = await numbers(WebClient(self), url)
        deaf = metrics["deaf_seconds_total"]
        await fleet.stopService()
        after = self.memory()
        wrong = [
            (update.message, update.names)
            for update in hsm.hsm.updates
            if STEADY in update.names and update.message != "Heartbeat started"
        ]
        found = {message: round(when - stopped, 1) for message, when in times.items()}
        refused = metrics['refused_total{reason="tls"}']
        print(
            f"      after: {after:.1f} MiB; {reactor.seconds() - began:.0f} s; deaf {deaf:.1f} s"
            f"\n      seen: {json.dumps(seen)}"
            f"\n      refused for TLS: {refused:g}; log: {len(process.said)} bytes"
            f"\n      of the node that stops: {found}"
            f"\n      of the one that beats: {fleet.statistics.answered} answered,"
            f" failed: {dict(fleet.statistics.failures)}; false warnings: {len(wrong)}"
        )
        self.assertEqual((wrong, fleet.statistics.failed), ([], 0))
        self.assertLess(after - before, MOST_MEMORY)
        self.assertGreaterEqual(refused, 1.3 * ATTEMPTS)
        self.assertEqual(seen["unannounced"]["answered"], ATTEMPTS)
        self.assertGreaterEqual(seen["renegotiations"]["still answered"], ATTEMPTS // 500)
        self.assertGreaterEqual(seen["key_updates"]["still answered"], 2)
        self.assertLess(len(process.said), 20_000)
        dead = [when for message, when in found.items() if "declared dead" in message]
        self.assertEqual(len(dead), 1, found)
        self.assertGreaterEqual(dead[0], ERRTIME - 1.2)
        self.assertLess(dead[0], ERRTIME + INTERVAL + 1 + deaf)

    async def attack(self, kind: str, attempts: int) -> dict[str, int]:
        """Have hostile clients of a kind attack; return what they have seen."""
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            ["-m", "tests.support.tls_attackers", str(self.port), kind, str(attempts)],
            {**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        self.assertEqual(status, 0, err.decode()[-2000:])
        seen: dict[str, int] = json.loads(out)
        return seen

    def memory(self) -> float:
        """Return the memory that hbtd occupies, in MiB."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1]) / 1024

    async def files_at_most(self, count: int) -> int:
        """Wait, not for long, until hbtd has no more files open; return how many it has."""
        files, stable = -1, 0
        for _ in range(50):
            now = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
            stable = stable + 1 if now == files else 0
            files = now
            if files <= count or stable == 10:
                break
            await deferLater(reactor, 0.1)
        return files
