"""The story of the fault runs: an unsteady fleet, and hbtd killed with SIGKILL many times.

`HBTD_FAULT_KILLS` sets the number of kills, `HBTD_FAULT_SEED` the seed of the random numbers. When
which process is killed is defined in a module for each store.
"""

import os
import re
import signal
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import TestCase
from twisted.web.server import Site

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.simulator.fleet import Fleet, node_names
from hbtd.tracker.transitions import Transition
from tests.support.hsm_memory import KINDS
from tests.support.processes import HbtdProcess, spawn
from tests.support.running import reactor

KILLS = int(os.environ.get("HBTD_FAULT_KILLS", "100"))
SEED = int(os.environ.get("HBTD_FAULT_SEED", "1"))

NODES = 60
STEADY = 20
INTERVAL = 1
PERIOD = 0.4
LOST = 0.3
"""Seconds before a kill in which heartbeats may not have been stored (docs/design.md)."""
RESUMED = 0.5
"""Seconds after a node's return in which HSM may still get judgements from before a kill."""
LATE = 2.0
"""Seconds that a judgement may take to reach HSM: a sweep's interval, a commit and a PATCH."""

STARTED, WARNED, RESTARTED, DIED = Transition
_LOGGED = re.compile(r"\] (Heartbeat [^:\n]+): (x[^\n]+)\n")


class Told(NamedTuple):
    """A transition of a component that HSM got, and when."""

    at: float
    what: Transition


@dataclass
class Span:
    """A span of time; `end` is infinite until it is known."""

    start: float
    end: float = float("inf")


class Story(TestCase):
    """Whenever hbtd is killed, it neither loses a judgement nor makes a false one.

    A subclass for a store kills hbtd (`kill_again_and_again`), runs the last processes
    (`last_ones`), and adds to `served` the spans in which silence has to be noticed.
    """

    timeout = 60 + 12 * KILLS
    warntime, errtime = 3, 6
    settling = 5.0
    """Seconds after the last kill by which hbtd works as it does without kills."""
    reviving = 0.04
    """The share of the silent nodes that returns every half second."""
    delay = 0.0
    """Seconds that a heartbeat may take to reach the replica that judges."""

    def setUp(self) -> Any:
        """Start an HSM; all nodes are unknown."""
        self.random = Random(SEED)
        self.told: dict[str, list[Told]] = {name: [] for name in node_names(NODES)}
        self._next_update: Deferred[None] | None = None
        self.hsm = FakeHSM(reactor, self._record_update)
        self.hsm.behaviour.cost_ms = 0.5
        listening = reactor.listenTCP(0, Site(self.hsm.resource()), interface="127.0.0.1")
        self.addCleanup(self.hsm.stop)
        self.addCleanup(listening.stopListening)
        self.sm_url = f"http://127.0.0.1:{listening.getHost().port}/hsm/v1"
        self.fleets: dict[str, Fleet] = {}
        self._answered: dict[str, list[float]] = {}
        self.silences: dict[str, list[Span]] = {name: [] for name in self.told}
        self.served: list[Span] = []
        self.kills: list[float] = []
        self.judged: Counter[Transition] = Counter()
        self.clean = True
        self.log: list[str] = []
        self.due: Counter[str] = Counter()

    def run_hbtd(self, kv_url: str, port: int) -> HbtdProcess:
        """Start an hbtd process."""
        arguments = [
            "-m",
            "hbtd",
            f"--kv_url={kv_url}",
            f"--port={port}",
            "--tls=no",
            "--use_telemetry=no",
            f"--sm_url={self.sm_url}",
            f"--warntime={self.warntime}",
            f"--errtime={self.errtime}",
            f"--interval={INTERVAL}",
        ]
        return spawn(self, arguments)

    def _record_update(self, update: Update) -> None:
        """Record an update of HSM for each of its components, and fire `_next_update`."""
        for name in update.names:
            self.told[name].append(Told(reactor.seconds(), KINDS[update.message]))
        waiting, self._next_update = self._next_update, None
        if waiting is not None:
            waiting.callback(None)

    def _record_answer(self, name: str, seconds: float) -> None:
        """Record when a node's heartbeat was answered."""
        self._answered.setdefault(name, []).append(reactor.seconds())

    async def an_update(self) -> None:
        """Wait until HSM gets an update, for at most 2 s, and then for a short random time.

        A kill after that meets hbtd while it judges, commits, sends or acknowledges.
        """
        self._next_update = Deferred()
        self._next_update.addTimeout(2.0, reactor).addErrback(lambda _: None)
        await self._next_update
        self._next_update = None
        await deferLater(reactor, self.random.choice([0.0, 0.001, 0.005, 0.02, 0.1]))

    # The story

    async def kill_again_and_again(self) -> None:
        """Kill hbtd `KILLS` times."""
        raise NotImplementedError

    async def last_ones(self) -> list[HbtdProcess]:
        """Return the processes that run until the end of the story, which serve."""
        raise NotImplementedError

    async def play(self, ports: Sequence[int]) -> None:
        """Play the story with processes on these ports, each with its share of the nodes."""
        names = list(self.told)
        for number, port in enumerate(ports):
            url = f"http://127.0.0.1:{port}"
            share = names[number :: len(ports)]
            fleet = Fleet(
                reactor,
                client_endpoint(reactor, url),
                url,
                share,
                random=Random(SEED + 1 + number),
                period=PERIOD,
                timeout=2.0,
                on_answer=self._record_answer,
            )
            self.fleets.update(dict.fromkeys(share, fleet))
            fleet.startService()
            self.addCleanup(fleet.stopService)
        unsteady = names[STEADY:]
        upsetting = LoopingCall(self.upset, unsteady)
        upsetting.start(0.5, now=False)
        began = reactor.seconds()
        await self.kill_again_and_again()
        took = reactor.seconds() - began
        upsetting.stop()
        last = await self.last_ones()
        # In the end some nodes are silent for good; the others send heartbeats.
        dead = self.random.sample(unsteady, len(unsteady) // 3)
        for name in unsteady:
            self.silence(name) if name in dead else self.revive(name)
        await deferLater(reactor, self.settling + self.errtime + INTERVAL)
        self.served[-1].end = reactor.seconds()
        for process in last:
            process.signal(signal.SIGTERM)
            self.assertEqual(await process.ended, 0)
            self.read(process)

        faults = [*self.wrong_at_the_end(set(dead)), *self.false_alarms(), *self.missing()]
        faults += self.disorder()
        repeats = self.repeats()
        told = [each for told in self.told.values() for each in told]
        answered = sum(len(self.answers(name)) for name in names)
        print(
            f"\nseed {SEED}: {KILLS} kills in {took:.0f} s, {sum(self.judged.values())} judgements"
            f" logged {_counts(self.judged)}, {len(told)} told"
            f" {_counts(Counter(each.what for each in told))}, {sum(repeats.values())} of them"
            f" repeats {_counts(repeats)};"
            f" {sum(map(len, self.silences.values()))} silences,"
            f" {answered} heartbeats;"
            f" {self.due['deaths']} deaths and {self.due['returns']} returns had to be told of;"
            f" {len(faults)} faults"
        )
        if faults:
            print("\n".join([*faults, *sorted(self.log)]))
        self.assertEqual(faults, [])
        self.assertTrue(self.clean, "a traceback or complaint in the log")

    def upset(self, names: Sequence[str]) -> None:
        """Silence some nodes, and revive others."""
        for name in names:
            if name in self.fleets[name].beating:
                if self.random.random() < 0.03:
                    self.silence(name)
            elif self.random.random() < self.reviving:
                self.revive(name)

    def silence(self, name: str) -> None:
        """Kill or freeze a node."""
        if name in self.fleets[name].beating:
            fleet = self.fleets[name]
            self.random.choice([fleet.kill, fleet.freeze])([name])
            self.silences[name].append(Span(reactor.seconds()))

    def revive(self, name: str) -> None:
        """Revive a node."""
        if name not in self.fleets[name].beating:
            self.fleets[name].revive([name])
            self.silences[name][-1].end = reactor.seconds()

    def read(self, process: HbtdProcess) -> None:
        """Count the judgements in a process's log, and look for errors."""
        for message, xnames in _LOGGED.findall(process.said):
            self.judged[KINDS[message]] += len(xnames.split())
        self.log += [line for line in process.said.splitlines() if "] Heartbeat " not in line]
        bad = [line for line in process.said.splitlines() if re.search(r" (error|critical) ", line)]
        if bad or "Traceback" in process.said:
            self.clean = False
            print(process.said)

    def answers(self, name: str) -> list[float]:
        """Return when each of a node's heartbeats was answered."""
        return self._answered.get(name, [])

    # The verdict

    def wrong_at_the_end(self, dead: set[str]) -> Iterator[str]:
        """Compare HSM's last transition of each node with the truth."""
        for name, told in self.told.items():
            if not self.answers(name):
                continue  # silenced before its first heartbeat, and so unknown
            expected = (DIED,) if name in dead else (STARTED, RESTARTED)
            if not told or told[-1].what not in expected:
                answers = [f"{each:.2f}" for each in self.answers(name)]
                yield (
                    f"{name}: HSM's last transition is {told[-1:]}, expected {expected}; answered"
                    f" {answers[:3]} to {answers[-1:]}, kills at"
                    f" {[f'{each:.2f}' for each in self.kills]}"
                )

    def false_alarms(self) -> Iterator[str]:
        """Return warnings and deaths of nodes that were not silent for long enough."""
        for name, told in self.told.items():
            answers = self.answers(name)
            for at, what in told:
                if not what.alarming:
                    continue
                least = self.warntime if what is WARNED else self.errtime
                # A transition that is repeated after a restart was true when it was judged: any
                # silence that was long enough, up to heartbeats that are not lost, explains it.
                since = bisect_left(answers, at - self.delay)
                while since > 1 and self.may_be_lost(answers[since - 1]):
                    since -= 1
                heard = answers[max(0, since - 1)] if answers else at
                if at - heard >= least - 0.05:
                    continue
                # Judged and stored before a kill, sent after it, just when the node has returned.
                before = answers[since - 2] if since > 1 else heard
                killed = any(before < each < at for each in self.kills)
                if killed and at - heard < RESUMED and heard - before >= least - 0.05:
                    continue
                again = any(each.what is what and each.at < at for each in told)
                if not again:
                    yield f"{name}: told {what.name} after {at - heard:.2f} s of silence"
            for at, what in told if not self.silences[name] else ():
                if what.alarming:
                    up = max((span.start for span in self.served if span.start < at), default=at)
                    heard = max((each for each in answers if each < at), default=at)
                    yield (
                        f"{name}: never silenced, but told {what.name} {at - up:.2f} s after hbtd"
                        f" was up and {at - heard:.2f} s after a heartbeat was answered"
                    )

    def may_be_lost(self, answered: float) -> bool:
        """Return whether a heartbeat was answered so shortly before a kill that it may be lost."""
        return any(0.0 <= killed - answered < LOST for killed in self.kills)

    def missing(self) -> Iterator[str]:
        """Return deaths and returns that hbtd had the time to notice but did not send."""
        for name, silences in self.silences.items():
            told = self.told[name]
            known_from = min(self.answers(name) or [float("inf")])
            for silence in silences:
                if silence.start < known_from:
                    continue  # the node was still unknown
                for up in self.served:
                    start = max(silence.start, up.start)
                    end = min(silence.end, up.end)
                    if end - start < self.errtime + INTERVAL + LATE:
                        continue
                    self.due["deaths"] += 1
                    before = [each for each in told if each.at <= end]
                    if not before or before[-1].what is not DIED:
                        yield f"{name}: silent {start:.1f} to {end:.1f}, not told that it died"
            for number, silence in enumerate(silences):
                until = silences[number + 1].start if number + 1 < len(silences) else float("inf")
                for up in self.served:
                    start, end = max(silence.end, up.start), min(until, up.end)
                    if end - start < 2 * PERIOD + LATE + 2.0:
                        continue
                    self.due["returns"] += 1
                    before = [each for each in told if each.at <= end]
                    if not before or before[-1].what.alarming:
                        yield f"{name}: beats from {start:.1f} to {end:.1f}, not told that it does"

    def disorder(self) -> Iterator[str]:
        """Return invalid sequences: a dead node neither restarts nor is warned about."""
        for name, told in self.told.items():
            for one, other in pairwise(told):
                if one.what is DIED and other.what in (WARNED, RESTARTED):
                    yield f"{name}: {one} was followed by {other}"

    def repeats(self) -> Counter[Transition]:
        """Count how often HSM got the same transition of a node twice in a row."""
        return Counter(
            one.what
            for told in self.told.values()
            for one, other in pairwise(told)
            if one.what is other.what
        )


def _counts(counter: Counter[Transition]) -> str:
    return "(" + ", ".join(f"{counter[kind]} {kind.name.lower()}" for kind in Transition) + ")"
