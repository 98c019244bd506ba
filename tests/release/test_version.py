"""The version of hbtd is that of everything that is published with it."""

import re
from configparser import ConfigParser

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from hbtd import __version__
from tests.support.processes import CHECKOUT


class VersionTests(SynchronousTestCase):
    """Where a version is written."""

    def test_package(self):
        """The package takes it from the module, and no other file that makes packages has one."""
        config = ConfigParser(interpolation=None)
        config.read(CHECKOUT / "setup.cfg")
        self.assertEqual(config["metadata"]["version"], "attr: hbtd.__version__")
        for path in [*(CHECKOUT / "release").glob("*.py"), *CHECKOUT.glob("deploy/packages/*")]:
            self.assertNotIn(__version__, path.read_text(), path.name)

    def test_image(self):
        """The container image is labelled with it."""
        dockerfile = (CHECKOUT / "Dockerfile").read_text()
        self.assertIn(f"\nARG VERSION={__version__}\n", dockerfile)
        self.assertIn('org.opencontainers.image.version="${VERSION}"', dockerfile)

    def test_manuals(self):
        """The manual pages that `make docs` writes name it."""
        for name in ("hbtd.8", "hbtctl.1", "hbtd-smoke.1", "hbtd-backup.8"):
            head = (CHECKOUT / "docs" / name).read_text()[:200]
            self.assertIn(f'"hbtd {__version__}"', head, f"{name}: run `make docs`")

    def test_manual_of_each_command(self):
        """Each command that is installed has a manual page, which is installed with it."""
        config = ConfigParser(interpolation=None)
        config.read(CHECKOUT / "setup.cfg")
        scripts = config["options.entry_points"]["console_scripts"].split("\n")
        commands = [each.partition("=")[0].strip() for each in scripts if each]
        self.assertGreater(len(commands), 3)
        for command in commands:
            pages = [path.name for path in (CHECKOUT / "docs").glob(f"{command}.[18]")]
            self.assertEqual(len(pages), 1, command)

    def test_agent(self):
        """The agent, a file that stands alone, has the same one."""
        path = CHECKOUT / "deploy" / "node" / "hbtd-agent"
        if not path.is_file():
            raise SkipTest("This checkout has no agent.")
        self.assertEqual(re.findall('^VERSION = "(.*)"$', path.read_text(), re.M), [__version__])
