"""What nfpm is told to make packages of."""

from configparser import ConfigParser
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from release.packages import configured
from tests.support.processes import CHECKOUT


class ConfigurationTests(SynchronousTestCase):
    """The configurations in deploy/packages, filled in."""

    def test_maintainer(self):
        """The maintainer of all packages is that of the Python package, and no user of a host."""
        config = ConfigParser(interpolation=None)
        config.read(CHECKOUT / "setup.cfg")
        name, address = (config["metadata"][each] for each in ("maintainer", "maintainer_email"))
        self.assertNotIn("localhost", address)
        for path in sorted((CHECKOUT / "deploy" / "packages").glob("*.yaml")):
            text = configured(path.stem, "1.2", Path("/root"), (2, 5))
            self.assertIn(f"\nmaintainer: {name} <{address}>\n", text)
            self.assertNotIn("${", text)
