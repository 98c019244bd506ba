"""The night run: whose turn it is, what it keeps, and the page that it writes."""

from collections import Counter
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.kinds import KINDS
from tests.simulation.night import Night
from tests.simulation.night_page import page
from tests.simulation.runs import Outcome


def outcome(seed: int, **more: Any) -> Outcome:
    """Return what has become of a world."""
    known: dict[str, Any] = {
        "wrong": "",
        "digest": "d",
        "story": [],
        "counts": Counter(heard=1000),
        "seconds": 600.0,
        "node_seconds": 7200.0,
        "excused": 72.0,
        "spent": 6.0,
        "met": Counter({("crash", "all is well"): 3, ("hsm", "a node is silent"): 1}),
    }
    return Outcome(seed=seed, **(known | more))


class NightTests(SynchronousTestCase):
    """The folder of a night."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def test_kept(self):
        """A later portion goes on behind the last seed of those before, and counts them, too."""
        night = Night(self.folder, 50)
        self.assertEqual(night.next_seed, 50)
        for seed in (50, 51):
            night.add("replicas", outcome(seed), "v")
        self.assertEqual(night.next_seed, 52)
        again = Night(self.folder, 10)
        self.assertEqual((again.next_seed, again.worlds), (52, night.worlds))

    def test_turns(self):
        """Each kind of world gets its share of the processors' time."""
        night = Night(self.folder, 1)
        for seed in range(1, 401):
            spent = 1.0 + seed % 3
            night.add(night.next_kind(), outcome(seed, spent=spent), "v")
        spent_on: Counter[str] = Counter()
        for each in night.worlds:
            spent_on[each["kind"]] += each["spent"]
        for name, kind in KINDS.items():
            self.assertAlmostEqual(spent_on[name] / spent_on.total(), kind.share, places=2)
        self.assertAlmostEqual(sum(kind.share for kind in KINDS.values()), 1.0)


class PageTests(SynchronousTestCase):
    """The page of a night."""

    def page(self, *outcomes: Outcome, files: Any = ()) -> str:
        """Return the page of some worlds with one hbtd."""
        night = Night(Path(self.mktemp()), 1)
        for each in outcomes:
            night.add("single", each, "v1")
        return page(night.worlds, dict(files))

    def test_worlds(self):
        """It sums worlds, by kind and in all: node-hours, excused time, speed, heartbeats."""
        text = self.page(outcome(1), outcome(2))
        for kind in ("single", "all"):
            self.assertIn(f"| {kind} | 2 | 0 | 4 | 1.00 | 0.00 | 100 | 2,000 |", text)
        self.assertIn("No world was wrong.", text)

    def test_wrong(self):
        """It names the worlds that were wrong, and why they were."""
        text = self.page(outcome(1), outcome(7, wrong="a false death"))
        self.assertIn("- single, seed 7: a false death", text)
        self.assertNotIn("No world was wrong", text)

    def test_faults(self):
        """It says how often what went wrong, and in how many of the worlds."""
        text = self.page(outcome(1), outcome(2, met=Counter({("crash", "all is well"): 5})))
        self.assertIn("| crash | 8 | 2 |", text)
        self.assertIn("| hsm | 1 | 1 |", text)

    def test_states(self):
        """It says how many pairs of a state, and of what goes wrong in it, were met."""
        text = self.page(outcome(1))
        self.assertIn("2 states were met, and 2 of 4 pairs", text)
        self.assertIn("| all is well | 3 | 1 of 2 |", text)

    def test_code(self):
        """It has the share of lines that ran in each folder, but not of other programs."""
        files = {
            "hbtd/monitor.py": {"summary": {"covered_lines": 15, "num_statements": 20}},
            "hbtd/hsm/notifier.py": {"summary": {"covered_lines": 90, "num_statements": 100}},
            "hbtd/ctl/main.py": {"summary": {"covered_lines": 0, "num_statements": 1000}},
        }
        text = self.page(outcome(1), files=files)
        self.assertIn("88 % of the lines of the daemon", text)
        self.assertIn("| `hbtd/hsm/` | 100 | 90 |", text)
        self.assertIn("- `hbtd/monitor.py`: 75 % of 20", text)
        self.assertNotIn("ctl", text)

    def test_nothing(self):
        """A night in which nothing was run has a page, too."""
        self.assertIn("| all | 0 | 0 |", self.page())
