"""An environment that belongs to a package of the host is left alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.processes import CHECKOUT


class OwnersTests(SynchronousTestCase):
    """A root in which there is an environment of hbtd."""

    def setUp(self) -> None:
        """Make the root."""
        self.root = Path(self.mktemp()).resolve()
        self.metadata = self.root / "opt/hbtd/lib/python3.11/site-packages/hbtd-1.2.dist-info"
        self.metadata.mkdir(parents=True)
        (self.metadata / "METADATA").write_text("Version: 1.2\n")
        (self.root / "opt/hbtd/pyvenv.cfg").touch()

    def ask(self, command: str, *options: str) -> tuple[int, list[str]]:
        """Run a command of `python -m release` on the root; return its status and its lines."""
        done = subprocess.run(
            [sys.executable, "-m", "release", command, f"--destdir={self.root}", *options],
            cwd=CHECKOUT,
            env={**os.environ, "PATH": f"{self.root}/commands:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout.splitlines()

    def check_left_alone(self, package: str) -> None:
        """Check that nothing is removed or replaced, and that one line names the package."""
        for command in ("uninstall", "install"):
            status, (line,) = self.ask(command)
            self.assertEqual(status, 1)
            self.assertIn(f"{self.root}/opt/hbtd belongs to the package {package}: remove", line)
            self.assertTrue((self.metadata / "METADATA").exists())

    def test_deb(self) -> None:
        """That of a .deb is neither removed nor replaced; another environment may be."""
        if not shutil.which("dpkg-query"):
            raise SkipTest("there is no dpkg")
        database = self.root / "var/lib/dpkg"
        (database / "info").mkdir(parents=True)
        (database / "info/format").write_text("1\n")
        (database / "info/hbtd.list").write_text("/.\n/opt/hbtd\n/opt/hbtd/pyvenv.cfg\n")
        (database / "status").write_text(
            "Package: hbtd\nStatus: install ok installed\nVersion: 1.2\nArchitecture: all\n"
            "Maintainer: A <a@example>\nDescription: a package\n"
        )
        self.check_left_alone("hbtd (dpkg)")
        status, (line,) = self.ask("uninstall", "--envdir=/srv/hbtd")
        self.assertEqual(status, 1)
        self.assertIn("nothing is installed", line)

    def test_rpm(self) -> None:
        """That of an .rpm, as a stand-in for rpm has it, is neither removed nor replaced."""
        (self.root / "var/lib/rpm").mkdir(parents=True)
        rpm = self.root / "commands/rpm"
        rpm.parent.mkdir()
        rpm.write_text(f"""#!/bin/sh
[ "$1" = --root={self.root} ] || exit 3
[ "$*" = "$1 --query --queryformat=%{{NAME}} --file /opt/hbtd/pyvenv.cfg" ] && echo hbtd
""")
        rpm.chmod(0o755)
        self.check_left_alone("hbtd (rpm)")
