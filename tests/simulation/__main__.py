"""Runs simulated worlds, and says what has become of them.

    make simulate SEEDS=100     # a hundred worlds, from a seed that depends on the time
    make simulate SEED=123      # that one, with its story

The order of sets of texts is part of a world, so Python starts anew with PYTHONHASHSEED=0.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from tests.simulation.oracle import Violation
from tests.simulation.replicated import ReplicatedWorld
from tests.simulation.single import SingleWorld
from tests.simulation.world import World, logged

_STORY = 120
"""The last lines of the story of a world that went wrong."""


def main(arguments: list[str]) -> None:
    """Run the worlds that the command line names; exit with status 1 if one is wrong."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.simulation", *arguments], environment
        )
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument(
        "--seed", type=int, nargs="+", help="run these worlds; of a single one print the story"
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many worlds to run")
    parser.add_argument(
        "--replicas", action="store_true", help="worlds with three replicas and an etcd"
    )
    parser.add_argument("--without-kafka", action="store_true", help="worlds without a Kafka")
    parser.add_argument("--until-wrong", action="store_true", help="end with the first wrong one")
    parser.add_argument("--within", type=float, default=1e9, help="the most CPU seconds")
    parser.add_argument("--first", type=int, help="the seed of the first one")
    options = parser.parse_args(arguments)
    kind = ReplicatedWorld if options.replicas else SingleWorld
    make = partial(kind, kafka=not options.without_kafka)
    if options.seed is not None:
        wrong = run(options.seed, make, story=len(options.seed) == 1)
    else:
        first = int(time.time()) if options.first is None else options.first
        seeds = range(first, first + options.seeds)
        wrong = run(seeds, make, until_wrong=options.until_wrong, within=options.within)
    raise SystemExit(1 if wrong else 0)


def run(
    seeds: Iterable[int],
    make: Callable[[int], World],
    *,
    story: bool = False,
    until_wrong: bool = False,
    within: float = 1e9,
) -> list[int]:
    """Run worlds, with a line of progress for each ten; return the seeds of those that are wrong.

    `story` says whether to print what happened in a world that is right, too; `until_wrong`,
    whether to end with the first wrong one; `within` is the most seconds of a processor to use.
    """
    wrong: list[int] = []
    happened: Counter[str] = Counter()
    began, seconds, node_seconds, count = time.process_time(), 0.0, 0.0, 0
    for seed in seeds:
        world = make(seed)
        violation = None
        with logged(world.truth):
            try:
                world.run()
            except Violation as error:
                violation = error
        count += 1
        happened += world.truth.counts
        seconds += world.clock.now
        node_seconds += world.clock.now * len(world.nodes)
        if violation is not None:
            wrong.append(seed)
        if violation is not None or story:
            print("\n".join(world.truth.lines[-_STORY:]))
            promise = "" if violation is None else f" ({violation.promise.value})"
            print(f"seed {seed}: {violation or 'all is as it should be'}{promise}")
            print(
                f"hash {world.truth.digest}; again: make simulate SEED={seed}{world.options}",
                flush=True,
            )
        elif count % 10 == 0:
            print(f"{count} worlds, {len(wrong)} wrong", flush=True)
        if (wrong and until_wrong) or time.process_time() - began > within:
            break
    spent = time.process_time() - began
    faults = ", ".join(f"{happened[kind]} {kind}" for kind in sorted(happened) if kind != "heard")
    print(
        f"{count} worlds, {len(wrong)} wrong {wrong or ''}: {node_seconds / 3600:.0f} node-hours in"
        f" {spent:.0f} s, {seconds / spent:.0f} times as fast as life, {count / spent:.2f} worlds/s"
    )
    print(f"{happened['heard']} heartbeats; {faults}")
    return wrong


if __name__ == "__main__":
    main(sys.argv[1:])
