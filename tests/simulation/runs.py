"""Runs worlds in processes of their own, some at a time, and hands out what became of each.

Each world has a process that begins as a copy of this one (`os.fork`). So every world finds the
same memory, whichever came before, and a process that is killed in it leaves nothing behind: the
garbage of a world is never collected, as Python would then close the coroutines of the killed
process, which would take steps that no killed process takes, and complain that it was not let go.
"""

import gc
import multiprocessing
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import NamedTuple

from tests.simulation.oracle import Violation
from tests.simulation.world import World, logged

_LINES = 120
"""The last lines of the story of a world that went wrong, unless the story is asked for."""


class Outcome(NamedTuple):
    """What has become of a world."""

    seed: int
    wrong: str
    """What went wrong; empty if nothing did."""
    digest: str
    """The hash of all that has happened."""
    story: list[str]
    """What has happened, if asked for; otherwise the last lines of it if something went wrong."""
    counts: Counter[str]
    """How often each kind of thing has happened."""
    seconds: float
    """How long the world has lasted, on its own clock."""
    node_seconds: float
    """The same for each of its nodes, in all."""
    excused: float
    """The seconds, of all nodes, in which a node beat and hbtd could not hear it."""
    spent: float
    """The seconds of a processor that it took."""
    met: Counter[tuple[str, str]]
    """How often each kind of thing has happened in each state."""
    table: Counter[tuple[str, str]] = Counter()
    """What an oracle has counted, by row and column of a table; empty if it has none."""


def run_world(seed: int, make: Callable[[int], World], *, story: bool) -> tuple[Outcome, World]:
    """Run a world; return what has become of it, and the world, to be kept until the process ends.

    `story` says whether to return the whole story, also of a world that is right.
    """
    began = time.process_time()
    world = make(seed)
    wrong = ""
    with logged(world):
        try:
            world.run()
        except Violation as error:
            wrong = f"{error} ({error.promise.value})"
        except Exception:  # noqa: BLE001  # a fault of the world itself is one world's, too
            wrong = f"the world has a bug: {traceback.format_exc()}"
    outcome = Outcome(
        seed,
        wrong,
        world.truth.digest,
        world.truth.lines if story else world.truth.lines[-_LINES:] if wrong else [],
        world.truth.counts,
        world.clock.now,
        world.clock.now * len(world.nodes),
        world.excused(),
        time.process_time() - began,
        world.truth.met,
        world.table,
    )
    return outcome, world


def run_worlds(
    seeds: Iterable[int], make: Callable[[int], World], jobs: int, *, story: bool = False
) -> Generator[Outcome, None, None]:
    """Run worlds, `jobs` at a time; return what has become of them, in the order of the seeds.

    When the iterator is closed it waits for those that still run.
    """
    gc.collect()
    gc.freeze()
    left = iter(seeds)
    running: dict[Connection, tuple[int, ForkProcess]] = {}
    order: list[int] = []
    done: dict[int, Outcome] = {}
    try:
        while True:
            # No more than twice as many are begun as are awaited, so that outcomes don't pile up.
            while len(running) < jobs and len(order) < 2 * jobs:
                seed = next(left, None)
                if seed is None:
                    break
                ours, process = _begin(seed, make, story)
                running[ours] = seed, process
                order.append(seed)
            if not order:
                return
            ready = wait(list(running))
            for ours in [each for each in running if each in ready]:
                seed, process = running.pop(ours)
                done[seed] = _end(seed, ours, process)
            while order and order[0] in done:
                yield done.pop(order.pop(0))
    finally:
        # They end by themselves, as each may have files to remove.
        for ours, (seed, process) in running.items():
            _end(seed, ours, process)


def _begin(seed: int, make: Callable[[int], World], story: bool) -> tuple[Connection, ForkProcess]:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_work, args=(theirs, seed, make, story), daemon=True
    )
    process.start()
    theirs.close()
    return ours, process


def _work(pipe: Connection, seed: int, make: Callable[[int], World], story: bool) -> None:
    gc.disable()
    outcome, world = run_world(seed, make, story=story)
    pipe.send(outcome)
    pipe.close()
    # At once, while the world is there: nothing of it is taken down.
    os._exit(0 if world is not None else 1)


def _end(seed: int, pipe: Connection, process: ForkProcess) -> Outcome:
    try:
        outcome = pipe.recv()
        assert isinstance(outcome, Outcome)
    except EOFError:
        process.join()
        why = f"the world's process has ended with status {process.exitcode}"
        outcome = Outcome(seed, why, "", [], Counter(), 0.0, 0.0, 0.0, 0.0, Counter())
    process.join()
    pipe.close()
    return outcome
