"""Runs simulated worlds of all kinds for as long as there is time, and writes what they did.

    make simulate-night HOURS=8         # of the clock; Ctrl-C ends it sooner
    make simulate-night HOURS=0         # only write the page anew

Portions add up: a folder, var/night, keeps a line for each world, and which lines of hbtd's code
the worlds have run. The page, var/night/night.md, is made from these. Each kind of world gets its
share of the processors' time. One portion in some is run with coverage, which makes it several
times as slow, so its worlds are not counted.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from twisted.logger import globalLogBeginner

from tests.simulation.kinds import KINDS, Kind
from tests.simulation.night_page import page
from tests.simulation.runs import Outcome, run_worlds

_CHECKOUT = Path(__file__).parent.parent.parent

PORTION = 240.0
"""Seconds of processors that worlds of a kind get before it is another one's turn."""

COVERED = 60.0
"""The same, where lines of code are counted."""

BETWEEN_COVERED = 5
"""How many portions of a kind there are for each in which lines of code are counted."""


class Night:
    """The folder of a night: what its worlds did, and what is to be run next."""

    def __init__(self, folder: Path, first: int) -> None:
        """Read a folder, or make it; `first` is the first seed if nothing has been run in it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._worlds = folder / "worlds.jsonl"
        self.coverage = folder / "coverage"
        self.page = folder / "night.md"
        self.worlds: list[dict[str, Any]] = []
        if self._worlds.exists():
            self.worlds = [json.loads(line) for line in self._worlds.read_text().splitlines()]
        self.next_seed = max((each["seed"] + 1 for each in self.worlds), default=first)

    def next_kind(self) -> str:
        """Return the kind of world that has had the least of its share so far."""
        spent: Counter[str] = Counter()
        for each in self.worlds:
            spent[each["kind"]] += each["spent"]
        return min(KINDS, key=lambda kind: spent[kind] / KINDS[kind].share)

    def add(self, kind: str, outcome: Outcome, version: str) -> None:
        """Keep what has become of a world."""
        world = {
            "kind": kind,
            "version": version,
            "seed": outcome.seed,
            "wrong": outcome.wrong,
            "digest": outcome.digest,
            "seconds": round(outcome.seconds, 3),
            "node_seconds": round(outcome.node_seconds, 3),
            "excused": round(outcome.excused, 3),
            "spent": round(outcome.spent, 3),
            "counts": dict(outcome.counts),
            "met": [[*met, often] for met, often in outcome.met.items()],
        }
        self.worlds.append(world)
        self.next_seed = max(self.next_seed, outcome.seed + 1)
        with self._worlds.open("a") as file:
            file.write(f"{json.dumps(world)}\n")


def _outcomes(kind: Kind, first: int, within: float, jobs: int) -> Iterator[Outcome]:
    """Run worlds of a kind from a seed on, until they have taken so many seconds of processors."""
    make = partial(kind.world, kafka=kind.kafka)
    spent = 0.0
    with closing(run_worlds(iter(range(first, first + 1_000_000)), make, jobs)) as outcomes:
        for outcome in outcomes:
            yield outcome
            spent += outcome.spent
            if spent > within:
                return


def _cover(kind: Kind, first: int, within: float, folder: Path) -> None:
    """Run worlds of a kind, and keep which lines of hbtd they have run."""
    folder.mkdir(exist_ok=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "coverage", "run", "-m", "tests.simulation", "--jobs=1"),
            *(f"--first={first}", "--seeds=1000", f"--within={within}", *kind.arguments),
        ],
        cwd=_CHECKOUT,
        env={**os.environ, "PYTHONHASHSEED": "0", "COVERAGE_FILE": str(folder / "lines")},
        stdout=subprocess.DEVNULL,
        check=False,  # a wrong world is found without coverage, too
    )


def covered(folder: Path) -> Mapping[str, Any]:
    """Return what Coverage reports of each file of hbtd; nothing if no lines were counted."""
    if not folder.exists():
        return {}
    run = partial(
        subprocess.run,
        cwd=_CHECKOUT,
        env={**os.environ, "COVERAGE_FILE": str(folder / "lines")},
        stdout=subprocess.DEVNULL,
    )
    coverage = [sys.executable, "-m", "coverage"]
    run([*coverage, "combine", "--append", "--quiet"], check=False)  # there may be nothing new
    report = folder / "lines.json"
    run([*coverage, "json", "--quiet", "--fail-under=0", "-o", str(report)], check=True)
    files: Mapping[str, Any] = json.loads(report.read_text())["files"]
    return files


def _version() -> str:
    run = partial(subprocess.run, cwd=_CHECKOUT, capture_output=True, text=True, check=False)
    return run(["git", "rev-parse", "--short=12", "HEAD:hbtd"]).stdout.strip() or "unknown"


def main(arguments: list[str]) -> None:
    """Run worlds for as long as the command line says; exit with status 1 if one is wrong."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "tests.simulation.night", *arguments]
        os.execve(sys.executable, command, environment)
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.night",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hours", type=float, default=8.0, help="of the clock (8)")
    parser.add_argument("--folder", type=Path, default=Path("var/night"), help="(var/night)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    night = Night(options.folder.resolve(), int(time.time()))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wrong = 0
    try:
        wrong = _run(night, time.monotonic() + 3600 * options.hours, max(options.jobs, 1))
    except KeyboardInterrupt:
        print("ended by a signal")
    night.page.write_text(page(night.worlds, covered(night.coverage)))
    print(f"{night.page} is written")
    raise SystemExit(1 if wrong else 0)


def _run(night: Night, end: float, jobs: int) -> int:
    """Run portions until a time of the monotonic clock; return how many worlds were wrong."""
    version, portions, wrong = _version(), Counter[str](), 0
    while time.monotonic() < end:
        name = night.next_kind()
        kind = KINDS[name]
        if portions[name] % BETWEEN_COVERED == 0:
            _cover(kind, night.next_seed, COVERED, night.coverage)
        portions[name] += 1
        for outcome in _outcomes(kind, night.next_seed, PORTION, jobs):
            night.add(name, outcome, version)
            if outcome.wrong:
                wrong += 1
                print("\n".join(outcome.story))
                again = f"make simulate SEED={outcome.seed}{kind.world.options}"
                print(f"seed {outcome.seed}: {outcome.wrong}; again: {again}", flush=True)
            if time.monotonic() > end:
                break
        hours = sum(each["spent"] for each in night.worlds) / 3600
        print(
            f"{len(night.worlds)} worlds, {wrong} wrong now, {hours:.2f} hours of processors in"
            f" all; {max(end - time.monotonic(), 0):.0f} s to go",
            flush=True,
        )
    return wrong


if __name__ == "__main__":
    main(sys.argv[1:])
