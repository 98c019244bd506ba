"""Runs hbtd for hours, on real etcd and SQLite, with real agents, while faults are injected.

    make soak HOURS=2           # from a seed that depends on the time
    make soak HOURS=2 SEED=7    # with these faults

It leaves var/soak/SEED: samples.csv, story.txt, soak.svg, and the logs of all processes. Ctrl-C
ends it in order. The exit status is 1 if a promise was broken or something grew without bound.
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final, TextIO

from treq.client import HTTPClient
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall, react
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.web.client import Agent, HTTPConnectionPool

from hbtd.net.tls import client_policy
from hbtd.simulator.fleet import node_names
from tests.soak import growth, measures, plot
from tests.soak.schedule import REPLICAS, SQLITE, Fault, plan
from tests.soak.sites import Machine, ReplicaMachine, SqliteMachine
from tests.soak.truth import ERRTIME, INTERVAL, WARNTIME, SeveralOracle, SingleOracle, Truth
from tests.support.etcd_server import why_not
from tests.support.running import reactor

_QUIET: Final = 120.0
"""Seconds at the end without faults, after which HSM has to know the truth."""

_TICK: Final = 0.1
_BUSY: Final = 0.5
"""Seconds by which this process is late if the host is too busy."""

_CHECK: Final = 5.0
_LINE: Final = 60.0
_MOST_SHOWN: Final = 20
"""Broken promises that are printed; all are in the story."""


class Soak:
    """A run."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, out: TextIO) -> None:
        self._seconds = arguments.hours * 3600
        self._every = min(arguments.sample, max(self._seconds / 40, 1.0))
        self._folder, self._out = folder, out
        self._stack = ExitStack()
        self._story = self._stack.enter_context((folder / "story.txt").open("w"))
        self._rows: list[dict[str, str]] = []
        self._columns: list[str] = []
        self.broken: list[str] = []
        """The promises that were broken."""
        self.began = reactor.seconds()
        self._ending: Deferred[None] = Deferred()
        self._tasks: set[Deferred[Any]] = set()
        self._last_tick = reactor.seconds()
        self._worst_lag = 0.0
        history = f"{max(int(self._seconds / 480), 1)}m"
        names = node_names(arguments.nodes)
        few, agents = arguments.nodes // 10, arguments.agents
        several, single = (
            SeveralOracle(WARNTIME, ERRTIME, INTERVAL),
            SingleOracle(WARNTIME, ERRTIME, INTERVAL),
        )
        common = (self.say, self.broke, history, arguments.seed)
        self.machines: dict[str, Machine] = {
            REPLICAS: ReplicaMachine(
                *(REPLICAS, names[few:], agents - agents // 5, 3, folder),
                *(Truth(several, self.broke), *common),
                oracle=several,
            ),
            SQLITE: SqliteMachine(
                *(SQLITE, names[:few], agents // 5, 1, folder),
                *(Truth(single, self.broke), *common),
                oracle=single,
            ),
        }
        self._quiet = min(_QUIET, 0.4 * self._seconds)
        self._faults = plan(arguments.seed, self._seconds - self._quiet)
        pool = HTTPConnectionPool(reactor, persistent=False)
        self._client = HTTPClient(Agent(reactor, client_policy("insecure"), pool=pool))

    # What is said

    @property
    def _now(self) -> float:
        return float(reactor.seconds() - self.began)

    def say(self, text: str) -> None:
        """Write a line into the story."""
        self._story.write(f"{self._now:8.1f}  {text}\n")
        self._story.flush()

    def broke(self, text: str) -> None:
        """Note that a promise was broken, unless all is being stopped, however slowly."""
        if self._ending.called:
            self.say(text)
            return
        self.broken.append(text)
        self.say(f"BROKEN: {text}")
        if len(self.broken) <= _MOST_SHOWN:
            self._print(f"BROKEN: {text}")

    def _print(self, text: str) -> None:
        shown = timedelta(seconds=round(self._now))
        print(f"{shown}  {text}", file=self._out, flush=True)

    # What is done

    async def run(self) -> None:
        """Let it all happen, and end it in order."""
        calls = [(self._tick, _TICK), (self._check, _CHECK), (self._line, _LINE)]
        loops = [LoopingCall(call) for call, _ in calls]
        sampling = LoopingCall(lambda: Deferred.fromCoroutine(self._sample()))
        try:
            for machine in self.machines.values():
                await machine.start()
            for machine in self.machines.values():
                await machine.beat()
            self._print("all run")
            self.began = self._last_tick = reactor.seconds()
            for loop, (_, every) in zip(loops, calls, strict=True):
                loop.start(every, now=False).addErrback(self._failed)
            sampling.start(self._every).addErrback(self._failed)
            for fault in self._faults:
                wait = max(fault.at - self._now, 0.0)
                reactor.callLater(wait, lambda fault=fault: self._begin(self._happen(fault)))
            reactor.callLater(max(self._seconds - self._now, 0.0), self._rest)
            await self._ending
        finally:
            for loop in (*loops, sampling):
                if loop.running:
                    loop.stop()
            for task in list(self._tasks):
                task.cancel()
            self._print("stopping")
            stopped = [Deferred.fromCoroutine(each.stop()) for each in self.machines.values()]
            await DeferredList(stopped, consumeErrors=True)
            self._conclude()
            self._stack.close()

    def end(self) -> None:
        """Have it end."""
        if not self._ending.called:
            self._ending.callback(None)

    def _rest(self) -> None:
        """Check what has to be so at rest, and have it end."""
        for machine in self.machines.values():
            machine.truth.check(reactor.seconds())
            if self._quiet >= _QUIET:
                machine.truth.check_rest(machine.names)
        self.end()

    def _begin(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        """Run a coroutine beside others."""
        task = Deferred.fromCoroutine(coroutine)
        self._tasks.add(task)
        task.addErrback(lambda failure: None if self._ending.called else self._failed(failure))
        task.addBoth(lambda _: self._tasks.discard(task))

    async def _happen(self, fault: Fault) -> None:
        if not self._ending.called:
            await self.machines[fault.site].fault(fault)

    def _failed(self, failure: Any) -> None:
        self.broke(f"the soak itself fails: {failure.getTraceback()}")
        self.end()

    def _tick(self) -> None:
        """See how late this process is."""
        now = reactor.seconds()
        lag = now - self._last_tick - _TICK
        self._last_tick = now
        self._worst_lag = max(self._worst_lag, lag)
        for machine in self.machines.values():
            machine.truth.lagged(now, lag)
            if lag > _BUSY:
                machine.starve()

    def _check(self) -> None:
        for machine in self.machines.values():
            machine.truth.check(reactor.seconds())

    def _line(self) -> None:
        row = self._rows[-1] if self._rows else {}
        late, self._worst_lag = self._worst_lag, 0.0
        memory = [row.get(f"{name}.rss_mb") or "-" for name in (*_HBTDS, "etcd")]
        faults = sum(sum(machine.happened.values()) for machine in self.machines.values())
        told = sum(machine.truth.told_of for machine in self.machines.values())
        self._print(
            f"{faults} faults, {told} changes told, {len(self.broken)} broken;"
            f" MB: {' '.join(memory)}; this process was {late:.2f} s late at most"
        )

    # Samples

    async def _ask(self, url: str) -> str:
        try:
            answer = await self._client.get(url, timeout=5, reactor=reactor)
            return str(await answer.text())
        except Exception:  # noqa: BLE001  # whatever is wrong with a process that is killed
            return ""

    async def _sample(self) -> None:
        """Take a sample, and write it."""
        found: dict[str, float] = {"seconds": round(self._now, 1), "broken": len(self.broken)}
        for machine in self.machines.values():
            found.update(await machine.sample(self._ask))
        own = measures.process(os.getpid())
        found.update({f"soak.{what}": value for what, value in own.items() if "cpu" in what})
        row = {name: f"{value:.10g}" for name, value in found.items()}
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        self._columns += new
        # A column that is new, as that of a process that was down before, needs another head.
        with (self._folder / "samples.csv").open("w" if new else "a", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            if new:
                writer.writeheader()
            writer.writerows(self._rows if new else [row])

    # The end

    def _conclude(self) -> None:
        rows = plot.read(self._folder / "samples.csv") if self._rows else []
        (self._folder / "soak.svg").write_text(plot.svg(rows))
        judged = growth.verdicts(rows)
        for name, machine in self.machines.items():
            done = ", ".join(f"{times} {kind}" for kind, times in sorted(machine.happened.items()))
            self._tell(f"{name}: faults: {done or 'none'}")
            self._tell(f"{name}: {machine.truth.summary()}")
            self._tell(
                f"{name}: the host was too busy {machine.starved} times;"
                f" {machine.errors} errors in logs"
            )
            statistics = machine.fleet.statistics
            self._tell(f"{name}: {statistics.answered} heartbeats, {dict(statistics.failures)}")
        for verdict in judged:
            says = "GROWS" if verdict.unbounded else "steady"
            self._tell(
                f"{says}: {verdict.column} {verdict.growth:+.2f} in {verdict.seconds / 60:.0f} min"
                f" (median {verdict.median:g}, at most {verdict.allowed:.2f})"
            )
            if verdict.unbounded:
                self.broken.append(verdict.column)
        if not judged:
            self._tell("too short to judge whether something grows")
        if self.broken:
            self._tell(f"{len(self.broken)} promises broken or things that grow")
        else:
            self._tell(f"no promise was broken{', and nothing grew without bound' * bool(judged)}")

    def _tell(self, text: str) -> None:
        self.say(text)
        self._print(text)


_HBTDS: Final = ("replicas-a", "replicas-b", "replicas-c", "sqlite-a")


def _new_folder(wanted: Path) -> Path:
    """Make a folder, with a number behind its name if there is one already; return its path."""
    for number in count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError


async def _main(clock: Any, arguments: argparse.Namespace) -> None:
    folder = _new_folder(arguments.out / str(arguments.seed))
    print(f"seed {arguments.seed}, into {folder}", flush=True)
    soak = Soak(arguments, folder.absolute(), sys.stdout)
    serious = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    log = textFileLogObserver((folder / "soak.log").open("w"))
    observer = FilteringLogObserver(log, [serious])
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True, redirectStandardIO=False)
    done: Deferred[None] = Deferred()

    def interrupted() -> Deferred[None]:
        soak.end()
        return done

    reactor.addSystemEventTrigger("before", "shutdown", interrupted)
    try:
        await soak.run()
    finally:
        done.callback(None)
    if soak.broken:
        raise SystemExit(1)


def main(argv: list[str]) -> None:
    """Run a soak as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hours", type=float, default=2.0, help="for how long, in hours")
    parser.add_argument("--seed", type=int, help="of the faults; else it depends on the time")
    parser.add_argument("--nodes", type=int, default=2000, help="how many nodes")
    parser.add_argument("--agents", type=int, default=100, help="how many have a real agent")
    parser.add_argument("--sample", type=float, default=30.0, help="seconds between two samples")
    parser.add_argument("--out", type=Path, default=Path("var/soak"), help="where its files go")
    arguments = parser.parse_args(argv)
    if (reason := why_not()) is not None:
        sys.exit(reason)
    if arguments.seed is None:
        arguments.seed = int(time.time()) % 100_000
    react(_main, (arguments,))


if __name__ == "__main__":
    main(sys.argv[1:])
