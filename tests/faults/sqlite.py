"""hbtd with `sqlite:`, killed with SIGKILL at a hundred random moments beside an unsteady fleet.

`HBTD_FAULT_KILLS` says how often it is killed, `HBTD_FAULT_SEED` which story is played.
"""

import os
import re
import signal
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import TestCase
from twisted.web.server import Site

from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fake_hsm import FakeHSM, Update
from hbtd.simulator.fleet import Fleet, node_names
from hbtd.simulator.links import Beat
from hbtd.tracker.transitions import Transition
from tests.hsm_memory import KINDS
from tests.processes import HbtdProcess, spawn
from tests.running import reactor
from tests.server_process import free_ports

KILLS = int(os.environ.get("HBTD_FAULT_KILLS", "100"))
SEED = int(os.environ.get("HBTD_FAULT_SEED", "1"))

NODES = 60
STEADY = 20
WARNTIME, ERRTIME, INTERVAL = 3, 6, 1
PERIOD = 0.4
LATE = 2.0
"""Seconds that a judgement may take to reach HSM: a sweep's interval, a commit and a PATCH."""
SETTLE = ERRTIME + INTERVAL + 4.0

STARTED, WARNED, RESTARTED, DIED = Transition
_LOGGED = re.compile(r"\] (Heartbeat [^:\n]+): (x[^\n]+)\n")


class Told(NamedTuple):
    """What HSM was told of a component, and when."""

    at: float
    what: Transition


@dataclass
class Span:
    """A stretch of time; `end` is infinite until it is known."""

    start: float
    end: float = float("inf")


class NotingFleet(Fleet):
    """A fleet that notes when each node's heartbeats were answered."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.answers: dict[str, list[float]] = {}
        """When, by node."""

    def _answered(self, beat: Beat) -> None:
        self.answers.setdefault(beat.node, []).append(reactor.seconds())
        super()._answered(beat)


class FaultTests(TestCase):
    """Whenever hbtd is killed, it neither loses a judgement nor makes a false one."""

    timeout = 60 + 12 * KILLS

    def setUp(self) -> None:
        """Begin with a ready HSM and an hbtd that has never run."""
        self.random = Random(SEED)
        self.told: dict[str, list[Told]] = {name: [] for name in node_names(NODES)}
        self.news: Deferred[None] | None = None
        self.hsm = FakeHSM(reactor, self.note)
        self.hsm.behaviour.cost_ms = 0.5
        listening = reactor.listenTCP(0, Site(self.hsm.resource()), interface="127.0.0.1")
        self.addCleanup(self.hsm.stop)
        self.addCleanup(listening.stopListening)
        (self.port,) = free_ports(1)
        self.arguments = [
            "-m",
            "hbtd",
            f"--kv_url=sqlite:{Path(self.mktemp()).resolve()}",
            f"--port={self.port}",
            "--tls=no",
            "--use_telemetry=no",
            f"--sm_url=http://127.0.0.1:{listening.getHost().port}/hsm/v1",
            f"--warntime={WARNTIME}",
            f"--errtime={ERRTIME}",
            f"--interval={INTERVAL}",
        ]
        self.silences: dict[str, list[Span]] = {name: [] for name in self.told}
        self.served: list[Span] = []
        self.judged: Counter[Transition] = Counter()
        self.clean = True

    def note(self, update: Update) -> None:
        """Note what HSM was told, and wake who waits for news."""
        for name in update.names:
            self.told[name].append(Told(reactor.seconds(), KINDS[update.message]))
        news, self.news = self.news, None
        if news is not None:
            news.callback(None)

    # The story

    async def test_killed_again_and_again(self) -> None:
        """HSM ends up with the truth, and was never told of a silence that was hbtd's own."""
        url = f"http://127.0.0.1:{self.port}"
        names = list(self.told)
        self.fleet = NotingFleet(
            reactor,
            client_endpoint(reactor, url),
            url,
            names,
            random=Random(SEED + 1),
            period=PERIOD,
            timeout=2.0,
        )
        self.fleet.startService()
        self.addCleanup(self.fleet.stopService)
        unsteady = names[STEADY:]
        upsetting = LoopingCall(self.upset, unsteady)
        upsetting.start(0.5, now=False)
        began = reactor.seconds()
        for _ in range(KILLS):
            await self.run_and_kill()
        took = reactor.seconds() - began
        upsetting.stop()
        last = spawn(self, self.arguments)
        await last.url
        self.served.append(Span(reactor.seconds()))
        # The last word: some are silent for good, the others beat.
        dead = self.random.sample(unsteady, len(unsteady) // 3)
        for name in unsteady:
            self.silence(name) if name in dead else self.revive(name)
        await deferLater(reactor, SETTLE)
        last.signal(signal.SIGTERM)
        self.assertEqual(await last.ended, 0)
        self.served[-1].end = reactor.seconds()
        self.read(last)

        faults = [*self.wrong_at_the_end(set(dead)), *self.false_alarms(), *self.missing()]
        faults += self.disorder()
        repeats = self.repeats()
        told = [each for told in self.told.values() for each in told]
        print(
            f"\nseed {SEED}: {KILLS} kills in {took:.0f} s, {sum(self.judged.values())} judgements"
            f" logged {_counts(self.judged)}, {len(told)} told"
            f" {_counts(Counter(each.what for each in told))}, {sum(repeats.values())} of them"
            f" repeats {_counts(repeats)};"
            f" {sum(map(len, self.silences.values()))} silences,"
            f" {self.fleet.statistics.answered} heartbeats; {len(faults)} faults"
        )
        self.assertEqual(faults, [])
        self.assertTrue(self.clean, "a traceback or complaint in the log")

    async def run_and_kill(self) -> None:
        """Run hbtd for a random while, mostly short, at times long enough for a death."""
        process = spawn(self, self.arguments)
        how = self.random.random()
        if how < 0.1:
            process.url.addErrback(lambda failure: None)
            await deferLater(reactor, self.random.uniform(0.3, 0.9))
        else:
            await process.url
            self.served.append(Span(reactor.seconds()))
            if how < 0.55:
                await deferLater(reactor, self.random.uniform(0.0, 1.5))
            else:
                await deferLater(reactor, self.random.uniform(0.0, 10.0 if how < 0.85 else 4.0))
                # Just when something is judged, committed, told or noted as told.
                self.news = Deferred()
                self.news.addTimeout(2.0, reactor).addErrback(lambda _: None)
                await self.news
                self.news = None
                await deferLater(reactor, self.random.choice([0.0, 0.001, 0.005, 0.02, 0.1]))
        process.signal(signal.SIGKILL)
        if process.url.called and self.served and self.served[-1].end == float("inf"):
            self.served[-1].end = reactor.seconds()
        self.assertEqual(await process.ended, -signal.SIGKILL, process.said)
        self.read(process)

    def upset(self, names: Sequence[str]) -> None:
        """Silence some nodes, and let others beat again."""
        for name in names:
            if name in self.fleet.beating:
                if self.random.random() < 0.03:
                    self.silence(name)
            elif self.random.random() < 0.04:
                self.revive(name)

    def silence(self, name: str) -> None:
        """Kill or freeze a node."""
        if name in self.fleet.beating:
            self.random.choice([self.fleet.kill, self.fleet.freeze])([name])
            self.silences[name].append(Span(reactor.seconds()))

    def revive(self, name: str) -> None:
        """Let a node beat again."""
        if name not in self.fleet.beating:
            self.fleet.revive([name])
            self.silences[name][-1].end = reactor.seconds()

    def read(self, process: HbtdProcess) -> None:
        """Count what a process has judged, and see that it complained of nothing but HSM."""
        for message, xnames in _LOGGED.findall(process.said):
            self.judged[KINDS[message]] += len(xnames.split())
        bad = [line for line in process.said.splitlines() if re.search(r" (error|critical) ", line)]
        if bad or "Traceback" in process.said:
            self.clean = False
            print(process.said)

    # The verdict

    def wrong_at_the_end(self, dead: set[str]) -> Iterator[str]:
        """Compare the last thing that HSM was told of each node with the truth."""
        for name, told in self.told.items():
            if not self.fleet.answers.get(name):
                continue  # silenced before its first heartbeat, and so never known
            expected = (DIED,) if name in dead else (STARTED, RESTARTED)
            if not told or told[-1].what not in expected:
                yield f"{name}: HSM's last word is {told[-1:]}, expected {expected}"

    def false_alarms(self) -> Iterator[str]:
        """Find warnings and deaths of nodes that were not silent for long enough."""
        for name, told in self.told.items():
            answers = self.fleet.answers.get(name, [])
            for at, what in told:
                if not what.alarming:
                    continue
                least = WARNTIME if what is WARNED else ERRTIME
                # What is told again after a restart was true when it was judged: look for any
                # silence that was long enough and not before the last one that is known of.
                since = bisect_left(answers, at)
                heard = answers[max(0, since - 1)] if answers else at
                if at - heard >= least - 0.05:
                    continue
                again = any(each.what is what and each.at < at for each in told)
                if not again:
                    yield f"{name}: told {what.name} after {at - heard:.2f} s of silence"
            if not self.silences[name] and any(each.what.alarming for each in told):
                yield f"{name}: never silenced, but {[each.what.name for each in told]}"

    def missing(self) -> Iterator[str]:
        """Find deaths and returns that hbtd had the time to see and did not tell."""
        for name, silences in self.silences.items():
            told = self.told[name]
            known_from = min(self.fleet.answers.get(name, [float("inf")]))
            for silence in silences:
                if silence.start < known_from:
                    continue  # nobody knew the node yet
                for up in self.served:
                    start = max(silence.start, up.start)
                    end = min(silence.end, up.end)
                    if end - start < ERRTIME + INTERVAL + LATE:
                        continue
                    before = [each for each in told if each.at <= end]
                    if not before or before[-1].what is not DIED:
                        yield f"{name}: silent {start:.1f} to {end:.1f}, not told that it died"
            for number, silence in enumerate(silences):
                until = silences[number + 1].start if number + 1 < len(silences) else float("inf")
                for up in self.served:
                    start, end = max(silence.end, up.start), min(until, up.end)
                    if end - start < 2 * PERIOD + LATE + 2.0:
                        continue
                    before = [each for each in told if each.at <= end]
                    if not before or before[-1].what.alarming:
                        yield f"{name}: beats from {start:.1f} to {end:.1f}, not told that it does"

    def disorder(self) -> Iterator[str]:
        """Find what can't follow one another: the dead don't restart and are not warned about."""
        for name, told in self.told.items():
            for one, other in pairwise(told):
                if one.what is DIED and other.what in (WARNED, RESTARTED):
                    yield f"{name}: {one} was followed by {other}"

    def repeats(self) -> Counter[Transition]:
        """Count how often HSM was told the same of a node twice running."""
        return Counter(
            one.what
            for told in self.told.values()
            for one, other in pairwise(told)
            if one.what is other.what
        )


def _counts(counter: Counter[Transition]) -> str:
    return "(" + ", ".join(f"{counter[kind]} {kind.name.lower()}" for kind in Transition) + ")"
