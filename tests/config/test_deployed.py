"""The files of `deploy/` that are installed along with hbtd."""

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.deployed import deployed_files, deployed_text
from tests.support.processes import CHECKOUT


class DeployedTests(SynchronousTestCase):
    """What `hbtd --print-unit` prints."""

    def test_names(self):
        """No two files have one name, and all are there but those of packages and of the chart."""
        deploy = CHECKOUT / "deploy"
        files = [each for each in deploy.rglob("*") if each.is_file()]
        files = [each for each in files if deploy / "helm" not in each.parents]
        self.assertEqual(len({path.name for path in files}), len(files))
        missing = {path.name for path in files if path.parent.name != "packages"}
        self.assertEqual(missing - set(deployed_files()), set())

    def test_environment(self):
        """The environment that hbtd is installed in replaces the one of the packages."""
        self.assertTrue((Path(sys.prefix) / "bin" / "hbtd").exists())
        text = deployed_text("hbtd.service")
        self.assertIn(f"\nExecStart={sys.prefix}/bin/hbtd\n", text)
        self.assertNotIn("/opt/hbtd/bin", text)

    def test_unknown(self):
        """A name that there is not raises an error that says which there are."""
        error = self.assertRaises(LookupError, deployed_text, "nothing")
        self.assertIn("hbtd.service", str(error))
