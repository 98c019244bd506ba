"""Runs simulated worlds, and says what has become of them.

    make simulate SEEDS=100     # a hundred worlds, from a seed that depends on the time
    make simulate SEED=123      # that one, with its story
    make simulate FAULTS=no     # worlds in which nothing goes wrong

Only worlds from seed 20,000 on have changed parameters, dying connections and messages in pieces.

A story has a line for each thing that happened: seconds since the world began, its kind, and what.
`told` is what HSM is told, also if it was told before; `log`, what hbtd logs. All other kinds are
what truly happened: `boot`, `crash`, `hang` and `wake` of nodes; what becomes of `hbtd`, `network`,
`disk`, `clock`, `params`, `hsm`, `etcd` and `kafka`; `others` write HSM's table. Heartbeats are
counted and hashed, and not shown. Of a world that is wrong only the last lines are printed, of one
that is run by its seed alone all. Equal hashes mean equal worlds. Excused node-time is that in
which nodes beat and hbtd could not hear; a quarter is usual with one hbtd, which is stopped often.

The order of sets of texts is part of a world, so Python starts anew with PYTHONHASHSEED=0.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

from twisted.logger import globalLogBeginner

from tests.simulation.guard_judge import COLUMNS, ROWS
from tests.simulation.kinds import KINDS
from tests.simulation.runs import Outcome, run_worlds
from tests.simulation.world import World

_BETWEEN_LINES = 5.0
"""Seconds between two lines of progress."""


def main(arguments: list[str]) -> None:
    """Run the worlds that the command line names; exit with status 1 if one is wrong."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.simulation", *arguments], environment
        )
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seed", type=int, nargs="+", help="run these worlds; of a single one print the story"
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many worlds to run")
    for each in KINDS.values():
        if each.option:
            parser.add_argument(f"--{each.option}", action="store_true", help=each.description)
    parser.add_argument("--without-kafka", action="store_true", help="worlds without a Kafka")
    parser.add_argument("--until-wrong", action="store_true", help="end with the first wrong one")
    parser.add_argument("--within", type=float, default=1e9, help="the most CPU seconds")
    parser.add_argument(
        "--jobs",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="how many worlds to run at a time; as many as there are processors, if not said",
    )
    parser.add_argument("--no-faults", action="store_true", help="worlds in which all is well")
    parser.add_argument(
        "--start-beats", type=int, default=1, help="heartbeats that start a dead component"
    )
    parser.add_argument("--first", type=int, help="the seed of the first one")
    options = parser.parse_args(arguments)
    kind = next(
        each
        for each in KINDS.values()
        if not each.option or vars(options)[each.option.replace("-", "_")]
    )
    # The oracle of Kafka does not know how heartbeats are counted.
    kafka = kind.kafka and not options.without_kafka and options.start_beats == 1
    make = partial(kind.world, kafka=kafka, with_faults=not options.no_faults)
    if options.start_beats > 1:
        if kind.option not in ("", "replicas"):
            parser.error(f"--start-beats is not for --{kind.option}")
        make = partial(make, start_beats=options.start_beats)
    again = (
        kind.world.options
        + (" KAFKA=no" if options.without_kafka else "")
        + (" FAULTS=no" if options.no_faults else "")
        + (f" START_BEATS={options.start_beats}" if options.start_beats > 1 else "")
    )
    if options.seed is not None:
        seeds, story = options.seed, len(options.seed) == 1
    else:
        first = int(time.time()) if options.first is None else options.first
        seeds, story = range(first, first + options.seeds), False
    # What hbtd logs is in the stories; Twisted would print critical events besides.
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    wrong = run(
        seeds,
        make,
        max(options.jobs, 1),
        again,
        story=story,
        until_wrong=options.until_wrong,
        within=options.within,
    )
    raise SystemExit(1 if wrong else 0)


class Summary:
    """What has become of all worlds so far."""

    def __init__(self, total: int, options: str) -> None:
        """Begin; `options` is what `make simulate` takes besides a seed, to run a world again."""
        self.wrong: list[int] = []
        """The seeds of worlds that went wrong."""
        self.spent = 0.0
        """The seconds of processors that the worlds took."""
        self._total = total
        self._options = options
        self._began = self._shown = time.monotonic()
        self._count = 0
        self._seconds = self._node_seconds = self._excused = 0.0
        self._happened: Counter[str] = Counter()
        self._table: Counter[tuple[str, str]] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count a world, and print its story, if there is one."""
        self._count += 1
        self.spent += outcome.spent
        self._seconds += outcome.seconds
        self._node_seconds += outcome.node_seconds
        self._excused += outcome.excused
        self._happened += outcome.counts
        self._table += outcome.table
        if outcome.wrong:
            self.wrong.append(outcome.seed)
        if outcome.wrong or outcome.story:
            print("\n".join(outcome.story))
            print(f"seed {outcome.seed}: {outcome.wrong or 'all is as it should be'}")
            again = f"make simulate SEED={outcome.seed}{self._options}"
            print(f"hash {outcome.digest}; again: {again}", flush=True)

    def show_progress(self, within: float) -> None:
        """Print a line of progress, unless the last one is recent."""
        now = time.monotonic()
        if now - self._shown < _BETWEEN_LINES or self._count == self._total:
            return
        self._shown = now
        elapsed = now - self._began
        left = min(
            (self._total - self._count) / self._count,
            (within - self.spent) / self.spent if self.spent else 0.0,
        )
        print(
            f"{self._count} worlds, {len(self.wrong)} wrong; {self._count / elapsed:.2f} worlds/s,"
            f" {max(left, 0.0) * elapsed:.0f} s to go",
            flush=True,
        )

    def print(self) -> None:
        """Print all of it."""
        elapsed = time.monotonic() - self._began
        kinds = sorted(kind for kind in self._happened if kind != "heard")
        print(
            f"{self._count} worlds, {len(self.wrong)} wrong {self.wrong or ''}:"
            f" {self._node_seconds / 3600:.0f} node-hours in {elapsed:.0f} s,"
            f" {self._seconds / elapsed:.0f} times as fast as life,"
            f" {self._count / elapsed:.2f} worlds/s, {self.spent:.0f} s of processors"
        )
        print(
            f"excused node-time: {self._excused:.1f} s of {self._node_seconds:.0f} s,"
            " in which nodes beat and hbtd could not hear"
        )
        faults = ", ".join(f"{self._happened[kind]} {kind}" for kind in kinds)
        print(f"{self._happened['heard']} heartbeats; {faults}")
        if self._table:
            print("\n".join(table_lines(self._table)))


def table_lines(table: Counter[tuple[str, str]]) -> list[str]:
    """Return the lines of a table of disruptions."""
    rows = [(row, [table[row, column] for column in COLUMNS]) for row in ROWS]
    rows.append(("all", [sum(each) for each in zip(*(row for _, row in rows), strict=True)]))
    lines = [" | ".join([f"{'disrupted':<9}", *(f"{column:>11}" for column in COLUMNS)])]
    lines += [
        " | ".join([f"{name:<9}", *(f"{number:>11,}" for number in numbers)])
        for name, numbers in rows
    ]
    return lines


def run(
    seeds: Sequence[int],
    make: Callable[[int], World],
    jobs: int,
    options: str,
    *,
    story: bool = False,
    until_wrong: bool = False,
    within: float = 1e9,
) -> list[int]:
    """Run worlds, `jobs` at a time, with lines of progress; return the seeds of the wrong ones.

    `story` says whether to print what happened in a world that is right, too; `until_wrong`,
    whether to end with the first wrong one; `within` is the most seconds of processors to use.
    """
    summary = Summary(len(seeds), options)
    with closing(run_worlds(seeds, make, jobs, story=story)) as outcomes:
        for outcome in outcomes:
            summary.add(outcome)
            summary.show_progress(within)
            if (summary.wrong and until_wrong) or summary.spent > within:
                break
    summary.print()
    return summary.wrong


if __name__ == "__main__":
    main(sys.argv[1:])
