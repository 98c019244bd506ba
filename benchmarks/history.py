"""The costs of the log of transitions in an SQLite file: its size, reading and trimming it.

Run as `python -m benchmarks.history PATH COUNT` it measures in its own process, and prints the
figures as JSON.
"""

import json
import os
import random
import subprocess
import sys
import time
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react

from benchmarks.table import Row
from hbtd.simulator.fleet import node_names
from hbtd.store.sqlite import SqliteStore
from hbtd.tracker.transitions import Judgement, Phase, Transition

_COMPONENTS = 10_000
_BEGIN = 1.76e9  # in Unix time
_SECONDS = 30 * 86400 / 1e6
"""The mean time between two transitions: a million of them are a month's."""

_PAGE = 1000
_MOMENTS = 21
_TICK = 0.002


def measure(count: int) -> list[Row]:
    """Measure a log of `count` transitions of 10,000 components."""
    with TemporaryDirectory() as directory:
        path = str(Path(directory) / "hbtd.sqlite")
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.history", path, str(count)],
            stdout=subprocess.PIPE,
            timeout=600,
            check=True,
        )
    found = json.loads(done.stdout)
    megabytes = count * 150 / 1e6
    return [
        Row(f"a log of {count:,} transitions", f"{found['size'] / 1e6:.0f} MB",
            f"<= {megabytes:.0f} MB"),
        Row("opening a file with it", f"{found['open']:.1f} s"),
        Row(f"a moment of the past: the first {_PAGE:,} components",
            f"{found['moment'] * 1e3:.0f} ms, most {found['moment_most'] * 1e3:.0f} ms", "< 50 ms"),
        Row("... all components", f"{found['moment_all'] * 1e3:.0f} ms"),
        Row("trimming a tenth of it", f"{found['trim']:.1f} s"),
        Row("a commit meanwhile", f"most {found['commit'] * 1e3:.0f} ms"),
        Row("the reactor meanwhile", f"late by most {found['late'] * 1e3:.0f} ms", "< 20 ms"),
    ]  # fmt: skip


class _Fleet:
    """Components that come and go, with judgements as the tracker makes them."""

    def __init__(self) -> None:
        self._rng = random.Random(1)
        self._names = node_names(_COMPONENTS)
        self._phases = dict.fromkeys(self._names, Phase.UNKNOWN)
        self.now = _BEGIN

    def some(self) -> list[Judgement]:
        """Return the judgements of a commit: mostly of one component, sometimes of many."""
        return [self._next() for _ in range(self._rng.choice([1, 1, 1, 5, 500, 1000]))]

    def _next(self) -> Judgement:
        rng = self._rng
        name = rng.choice(self._names)
        self.now += 2 * _SECONDS * rng.random()
        before, transition, why = self._phases[name], Transition.STARTED, "heartbeat"
        if before is Phase.HEALTHY:
            transition, why = Transition.WARNED, f"silent for {rng.uniform(10, 15):.1f} s"
        elif before is Phase.WARNED and rng.random() < 0.5:
            transition = Transition.RESTARTED
        elif before is Phase.WARNED:
            transition, why = Transition.DIED, f"silent for {rng.uniform(30, 35):.1f} s"
        self._phases[name] = transition.after
        stamp = datetime.fromtimestamp(self.now - 3, timezone.utc).isoformat()
        return Judgement(name, transition, stamp, before, why, self.now)


async def _look_back(store: SqliteStore, until: float) -> dict[str, float]:
    """Return how long it takes to read what components were at moments all over the log."""
    times = []
    await store.states_at(until, most=_PAGE)  # hbtd itself does so when it starts
    for number in range(_MOMENTS):
        at = _BEGIN + (until - _BEGIN) * (number + 0.5) / _MOMENTS
        began = time.monotonic()
        then = await store.states_at(at, most=_PAGE)
        times.append(time.monotonic() - began)
        assert len(then.states) == _PAGE
    began = time.monotonic()
    await store.states_at(until)
    everything = time.monotonic() - began
    return {"moment": median(times), "moment_most": max(times), "moment_all": everything}


async def _measure(reactor: Any, path: str, count: int) -> dict[str, float]:
    store = SqliteStore(path, reactor, time.monotonic, "hbtd-1.hbtd.services.svc:28500")
    fleet = _Fleet()
    await store.open()
    while store.entries() < count:
        await store.commit(fleet.some())
    await store.close()
    found: dict[str, float] = {"size": os.path.getsize(path)}
    began = time.monotonic()
    await store.open()
    found["open"] = time.monotonic() - began
    found |= await _look_back(store, fleet.now)

    ticks = [time.monotonic()]
    ticking = LoopingCall(lambda: ticks.append(time.monotonic()))
    ticking.clock = reactor
    ticking.start(_TICK)
    trimmed: list[int] = []
    began = time.monotonic()
    store.trim(0.0, store.entries() * 9 // 10, store.last_number()).addCallback(trimmed.append)
    commits = []
    while not trimmed:
        at = time.monotonic()
        await store.commit(fleet.some()[:1])
        commits.append(time.monotonic() - at)
    found["trim"] = time.monotonic() - began
    ticking.stop()
    found["commit"] = max(commits)
    found["late"] = max(later - tick for tick, later in pairwise(ticks)) - _TICK
    await store.close()
    return found


def _main(reactor: Any, path: str, count: str) -> Deferred[None]:
    measured = Deferred.fromCoroutine(_measure(reactor, path, int(count)))
    return measured.addCallback(lambda found: print(json.dumps(found)))


if __name__ == "__main__":
    react(_main, sys.argv[1:])
