"""A soak of a minute and a half: that it works, not what hours show."""

import csv
import sys
from pathlib import Path
from unittest import skipIf

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.support.etcd_server import why_not
from tests.support.processes import CHECKOUT

SEED = 2963
"""One that has faults of many kinds within a minute."""


@skipIf(why_not() is not None, why_not() or "")
class SoakTests(TestCase):
    """`make soak`, for a short while and with few nodes."""

    timeout = 400

    async def test_short(self) -> None:
        """Faults happen, no promise is broken, and samples and a drawing are left."""
        out = Path(self.mktemp()).absolute()
        arguments = ["--hours=0.0277", f"--seed={SEED}", "--nodes=200", "--agents=5"]
        said, errors, status = await getProcessOutputAndValue(
            sys.executable,
            ["-m", "tests.soak", *arguments, f"--out={out}"],
            {"PYTHONPATH": str(CHECKOUT)},
            str(CHECKOUT),
        )
        folder = out / str(SEED)
        story = (folder / "story.txt").read_text()
        self.assertEqual(status, 0, (said, errors, story))
        self.assertIn(b"no promise was broken", said)
        for kind in ("freeze", "kill", "hsm"):
            self.assertIn(f": {kind} ", story)
        with (folder / "samples.csv").open() as file:
            rows = list(csv.DictReader(file))
        self.assertGreater(len(rows), 20)
        self.assertGreater(float(rows[-1]["replicas.told"]), 150)
        self.assertTrue((folder / "soak.svg").exists())
        self.assertEqual((folder / "soak.log").read_text(), "")
