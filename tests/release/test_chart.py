"""The archive of the Helm chart."""

import tarfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hbtd import __version__
from release import chart
from release.failures import ReleaseError
from tests.support import helm
from tests.support.processes import CHECKOUT


class ChartTests(SynchronousTestCase):
    """What `make release` makes of deploy/helm."""

    def make(self) -> Path:
        """Make the archive in a new directory; return its path."""
        out = Path(self.mktemp())
        out.mkdir()
        return chart.make(helm.CHART, __version__, out)

    def test_contents(self) -> None:
        """Each file of the chart is in it, with the alerts and the dashboard as they are."""
        made = self.make()
        self.assertEqual(made.name, f"hbtd-{__version__}.tgz")
        with tarfile.open(made) as archive:
            names = {member.name for member in archive}
            self.assertTrue(all(member.isfile() for member in archive))
            rules = archive.extractfile("hbtd/files/hbtd.rules.yml")
            assert rules is not None
            said = rules.read()
        self.assertEqual(said, (CHECKOUT / "deploy" / "hbtd.rules.yml").read_bytes())
        files = [path for path in helm.CHART.rglob("*") if path.is_file()]
        self.assertEqual(names, {f"hbtd/{path.relative_to(helm.CHART)}" for path in files})

    def test_reproducible(self) -> None:
        """It is the same to the byte when it is made again."""
        self.assertEqual(self.make().read_bytes(), self.make().read_bytes())

    def test_version(self) -> None:
        """A chart of another version is not published."""
        with self.assertRaisesRegex(ReleaseError, "is not of version 9.9.9"):
            chart.make(helm.CHART, "9.9.9", Path("."))


class InstalledTests(helm.ChartTestCase):
    """The archive, as Helm reads it."""

    def test_same(self) -> None:
        """It makes the same objects as the directory."""
        made = chart.make(helm.CHART, __version__, Path(self.mktemp()).parent).resolve()
        values = {"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}}
        self.assertEqual(helm.render(values, chart=made), helm.render(values))
