"""Worlds in processes of their own, and the lines that say what has become of them."""

import os
from collections import Counter
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from functools import partial
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.__main__ import run
from tests.simulation.oracle import Promise, Violation
from tests.simulation.runs import run_worlds
from tests.simulation.world import World


class _World:
    """What a run needs of a world; its seed says whether it is wrong, or fails by itself."""

    def __init__(self, before: Callable[[int], object], seed: int) -> None:
        long = 200 if seed > 100 else 0
        lines = [f"{seed} begins", *(f"{seed} goes on" for _ in range(long)), f"{seed} ends"]
        self.truth = SimpleNamespace(
            digest=f"hash{seed}", lines=lines, counts=Counter(heard=seed), met=Counter()
        )
        self.clock = SimpleNamespace(now=10.0)
        self.nodes = [None] * 2
        self.table: Counter[tuple[str, str]] = Counter()
        self._seed = seed
        self._before = before

    def excused(self) -> float:
        return 0.5

    def run(self) -> None:
        self._before(self._seed)
        if self._seed % 10 == 3:
            raise Violation(Promise.REST, "not so")
        if self._seed % 10 == 4:
            os._exit(7)
        if self._seed % 10 == 5:
            raise ZeroDivisionError("a slip")


def _make(before: Callable[[int], object] = lambda seed: None) -> Callable[[int], World]:
    return cast("Callable[[int], World]", partial(_World, before))


class RunTests(SynchronousTestCase):
    """Runs of several worlds at a time."""

    def said(self, *seeds: int, jobs: int = 2, **kw: Any) -> tuple[list[int], list[str]]:
        """Run worlds; return which were wrong, and the lines that were printed."""
        out = StringIO()
        with redirect_stdout(out):
            wrong = run(seeds, _make(), jobs, " KAFKA=no", **kw)
        return wrong, out.getvalue().splitlines()

    def test_order(self):
        """Outcomes come in the order of the seeds, although a later world is over first."""
        here, there = os.pipe()
        self.addCleanup(os.close, here)
        self.addCleanup(os.close, there)

        def before(seed: int) -> None:
            if seed == 1:
                os.read(here, 1)
            elif seed == 6:  # which begins when the second one is over
                os.write(there, b"x")

        with closing(run_worlds([1, 2, 6, 7], _make(before), 2)) as outcomes:
            self.assertEqual([outcome.seed for outcome in outcomes], [1, 2, 6, 7])

    def test_story(self):
        """What happened in a world that is wrong is printed whole, with how to run it again."""
        wrong, lines = self.said(1, 13, 23, 2)
        self.assertEqual(wrong, [13, 23])
        for seed in wrong:
            first = lines.index(f"{seed} begins")
            self.assertEqual(
                lines[first : first + 4],
                [
                    f"{seed} begins",
                    f"{seed} ends",
                    f"seed {seed}: not so ({Promise.REST.value})",
                    f"hash hash{seed}; again: make simulate SEED={seed} KAFKA=no",
                ],
            )
        self.assertNotIn("1 begins", lines)

    def test_long_story(self):
        """Of a long story that nobody has asked for only the end is printed."""
        for asked, first in ((True, "103 begins"), (False, "103 goes on")):
            _, lines = self.said(103, story=asked)
            self.assertEqual(lines[0], first)
            self.assertEqual(lines.count("103 goes on"), 200 if asked else 119)

    def test_sums(self):
        """The last lines sum all worlds, in whichever process they ran."""
        for jobs in (1, 3):
            _, lines = self.said(1, 2, 6, 7, jobs=jobs)
            self.assertTrue(lines[-3].startswith("4 worlds, 0 wrong :"), lines)
            self.assertTrue(lines[-2].startswith("excused node-time: 2.0 s of 80 s,"), lines)
            self.assertTrue(lines[-1].startswith("16 heartbeats"), lines)

    def test_until_wrong(self):
        """Which world is the last one does not depend on how many run at a time."""
        for jobs in (1, 4):
            wrong, lines = self.said(1, 13, 23, 33, jobs=jobs, until_wrong=True)
            self.assertEqual(wrong, [13])
            self.assertTrue(lines[-3].startswith("2 worlds, 1 wrong"), lines)

    def test_closed(self):
        """Worlds that still run when a run ends are let end, as they have files to remove."""
        here, there = os.pipe()
        self.addCleanup(os.close, here)

        def before(seed: int) -> None:
            if seed == 2:
                sum(range(10_000_000))
                os.write(there, b"x")

        with closing(run_worlds([1, 2], _make(before), 2)) as outcomes:
            self.assertEqual(next(outcomes).seed, 1)
        os.close(there)
        self.assertEqual(os.read(here, 1), b"x")

    def test_within(self):
        """A run ends when the worlds' processes, not this one, have used up their time."""
        _, lines = self.said(1, 2, 6, 7, 8, within=0.0)
        self.assertTrue(lines[-3].startswith("1 worlds"), lines)

    def test_broken(self):
        """A world that fails by itself, or whose process ends, is wrong, and the others go on."""
        wrong, lines = self.said(4, 5, 1)
        self.assertEqual(wrong, [4, 5])
        self.assertIn("seed 4: the world's process has ended with status 7", lines)
        self.assertIn("ZeroDivisionError: a slip", lines)
        self.assertTrue(lines[-3].startswith("3 worlds"), lines)
