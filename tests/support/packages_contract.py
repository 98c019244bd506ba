"""What is the case with hbtd's packages, of whatever kind, under a real systemd."""

import re
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from hbtd import __version__
from tests.support.packages_built import NEWER, everything, newer_packages, package
from tests.support.systemd_root import SystemdRoot

ENV = "/etc/hbtd/hbtd.env"
STORE = "/var/lib/hbtd/hbtd.sqlite"
EDITED = f"# Edited.\nHBTD_NOSM=yes\nHBTD_USE_TELEMETRY=no\nHBTD_KV_URL=sqlite:{STORE}\n"
URL = "https://127.0.0.1:28500"
XNAME = "x1000c0s0b0n0"
OWNED = "root:hbtd 750\nroot:hbtd 640"


class PackagesContract(SynchronousTestCase):
    """From the installation to the removal; subclasses say how a kind of package is handled."""

    kind: ClassVar[str]
    beside: ClassVar[str]
    """What is after the name of new options beside edited ones."""
    saved: ClassVar[str]
    """What is after the name of edited options when the package has been removed."""

    def setUp(self) -> None:
        """Boot a clean Debian, which can see both versions."""
        old, new = everything(), newer_packages()
        self.old = f"/old/{package(old, 'hbtd', self.kind).name}"
        self.new = f"/new/{package(new, 'hbtd', self.kind).name}"
        self.system = SystemdRoot(self, {old: "/old", new: "/new"})
        self.sh = self.system.run

    def install(self, path: str) -> None:
        """Install a package."""
        raise NotImplementedError

    def upgrade(self, path: str) -> None:
        """Install a newer one, without being asked about edited files."""
        raise NotImplementedError

    def remove(self) -> None:
        """Remove the package."""
        raise NotImplementedError

    def exists(self, path: str) -> bool:
        """Return whether there is something with that path in the system."""
        return self.system.status("test", "-e", path)[0] == 0

    def start(self) -> None:
        """Configure hbtd, start it, and wait until it serves."""
        self.system.write(ENV, EDITED)
        self.sh("chgrp", "hbtd", ENV)
        self.sh("chmod", "640", ENV)
        self.sh("systemctl", "enable", "--now", "hbtd")
        self.served(__version__)

    def served(self, version: str) -> None:
        """Wait until hbtd of a version serves."""
        words = f"hbtd {version} serves"
        self.system.until(lambda: words in self.system.journal("hbtd"), unit="hbtd")

    def hbtctl(self, *arguments: str) -> str:
        """Return what hbtctl prints."""
        return self.sh("hbtctl", "--url", URL, "--ca", "insecure", *arguments)

    def test_installed(self):
        """Commands, unit, user and documents are there; nothing runs before it is configured."""
        before = self.sh("find", "/", "-xdev", "-newermt", "@0", "-perm", "-2", "-type", "f")
        self.install(self.old)
        self.assertEqual(self.sh("hbtd", "--version"), f"hbtd {__version__}")
        self.assertEqual(self.sh("hbtctl", "--version"), f"hbtctl {__version__}")
        self.assertIn("hbtd-backup", self.sh("hbtd-backup", "--help"))
        self.assertIn("/opt/hbtd/bin/hbtd\n", self.sh("hbtd", "--print-unit"))
        for unit in ("hbtd.service", "hbtd.socket"):
            self.assertEqual(self.sh("systemctl", "is-enabled", unit, check=False), "disabled")
            self.assertEqual(self.sh("systemctl", "is-active", unit, check=False), "inactive")
        self.assertRegex(self.sh("getent", "passwd", "hbtd"), r":/var/lib/hbtd:.*nologin$")
        for path, expected in (
            ("/etc/hbtd", "root:hbtd 750"),
            (ENV, "root:hbtd 640"),
            ("/opt/hbtd", "root:root 755"),
            ("/opt/hbtd/bin/hbtd", "root:root 755"),
            ("/usr/lib/systemd/system/hbtd.service", "root:root 644"),
            ("/usr/share/man/man8/hbtd.8", "root:root 644"),
            ("/usr/share/man/man8/hbtd-backup.8", "root:root 644"),
            ("/usr/share/man/man1/hbtctl.1", "root:root 644"),
            ("/usr/share/bash-completion/completions/hbtctl", "root:root 644"),
            ("/usr/share/doc/hbtd/deploy/hbtd.rules.yml", "root:root 644"),
            ("/usr/share/doc/hbtd/deploy/grafana/hbtd.json", "root:root 644"),
            ("/usr/share/doc/hbtd/docs/operations.md", "root:root 644"),
        ):
            self.assertEqual(self.sh("stat", "-Lc", "%U:%G %a", path), expected, path)
        strange = ["find", "/opt/hbtd", "!", "-type", "l", "(", "-perm", "/022", "-o", "!", "-user"]
        self.assertEqual(self.sh(*strange, "root", "-o", "-perm", "/7000", ")"), "")
        self.assertEqual(self.sh("find", "/opt/hbtd", "-xtype", "l"), "")  # links to nothing
        after = self.sh("find", "/", "-xdev", "-newermt", "@0", "-perm", "-2", "-type", "f")
        self.assertEqual(after, before)

    def test_smoke(self):
        """What the package has started passes hbtd-smoke, a heartbeat and its end included."""
        self.install(self.old)
        self.start()
        asked = ("--url", URL, "--ca", "insecure", "--xname", "x1000c7s7b1n0")
        said = self.sh("hbtd-smoke", *asked)  # it ends with 0 only if all checks pass
        self.assertIn("\nok 1 - liveness", said)
        self.assertIn("x1000c7s7b1n0", said)
        self.assertNotIn("not ok", said)

    def test_paths(self):
        """No file says where the package was made, and links lead into the system."""
        self.install(self.old)
        traces = [
            "grep",
            "-rlE",
            "hbtd-packages-|hbtd[.]new|/build/(tools|wheels)",
            "/opt/hbtd",
            "/usr/bin",
        ]
        self.assertEqual(self.sh(*traces, check=False), "")
        heads = self.sh("sh", "-c", "head -qn1 /opt/hbtd/bin/[a-z]* | grep -a '^#!' | sort -u")
        self.assertEqual(heads.splitlines(), [f"#!{self.python()}"])
        self.assertEqual(self.sh("readlink", "/usr/bin/hbtd"), "/opt/hbtd/bin/hbtd")

    def test_nothing_written(self):
        """Hbtd that runs has no need to write modules or the list of plugins, also as root."""
        self.install(self.old)
        everything = self.sh("sh", "-c", "find /opt/hbtd -printf '%p %T@\\n' | sort")
        self.start()
        self.sh("hbtctl", "--help")
        self.sh("hbtd", "--help")
        self.sh("/opt/hbtd/bin/twistd", "hbtd", "--version")
        self.assertEqual(
            self.sh("sh", "-c", "find /opt/hbtd -printf '%p %T@\\n' | sort"), everything
        )
        self.assertNotIn("plugin cache", self.system.journal("hbtd"))

    def test_life(self):
        """An upgrade keeps edited options and restarts hbtd; a removal stops it, and keeps data."""
        self.install(self.old)
        self.start()
        self.assertEqual(self.sh("ps", "-o", "user=", "-C", "hbtd"), "hbtd")
        self.hbtctl("send", XNAME, "--count", "1")
        self.assertIn(XNAME, self.hbtctl("list"))
        before = self.system.show("hbtd", "MainPID")

        self.upgrade(self.new)
        self.served(NEWER)
        self.assertNotEqual(self.system.show("hbtd", "MainPID"), before)
        self.assertEqual(self.sh("hbtd", "--version"), f"hbtd {NEWER}")
        self.assertIn(XNAME, self.hbtctl("list"))
        self.assertEqual(self.sh("cat", ENV), EDITED.strip())
        self.assertIn("Of the later version", self.sh("cat", f"{ENV}{self.beside}"))
        self.assertEqual(self.sh("stat", "-c", "%U:%G %a", "/etc/hbtd", ENV), OWNED)
        self.assertFalse(self.exists("/usr/share/doc/hbtd/docs/glossary.md"))
        (metadata,) = re.findall(r"hbtd-[\d.]+\.dist-info$", self.packages(), re.MULTILINE)
        self.assertEqual(metadata, f"hbtd-{NEWER}.dist-info")

        self.remove()
        self.assertEqual(self.sh("systemctl", "is-active", "hbtd", check=False), "inactive")
        self.assertNotIn("hbtd", self.sh("ps", "-A", "-o", "comm="))
        for path in ("/opt/hbtd", "/usr/bin/hbtd", "/usr/share/doc/hbtd"):
            self.assertFalse(self.exists(path), path)
        self.assertNotIn("hbtd", self.sh("systemctl", "list-unit-files", "--no-legend"))
        self.assertNotIn("hbtd", self.sh("find", "/etc/systemd/system"))
        self.assertTrue(self.exists(STORE))
        self.assertIn("HBTD_NOSM=yes", self.sh("cat", f"{ENV}{self.saved}"))

    def test_unedited(self):
        """Options that nobody has edited are those of the new version after an upgrade."""
        self.install(self.old)
        self.upgrade(self.new)
        self.assertIn("Of the later version", self.sh("cat", ENV))
        self.assertFalse(self.exists(f"{ENV}{self.beside}"))
        self.assertEqual(self.sh("systemctl", "is-active", "hbtd", check=False), "inactive")

    def python(self) -> str:
        """Return the Python of the private environment."""
        return self.sh("sh", "-c", "ls /opt/hbtd/bin/python3.*")

    def packages(self) -> str:
        """Return what is in the private environment, one a line."""
        return self.sh("sh", "-c", "ls /opt/hbtd/lib/python3.*/site-packages")
