"""The packages of the agent for nodes, which need Python and nothing else."""

from typing import ClassVar

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from hbtd import __version__
from tests.support.packages_built import AGENT, NEWER, everything, newer_packages, package
from tests.support.systemd_root import DEBIAN, SystemdRoot

ENV = "/etc/hbtd/hbtd-agent.env"
EDITED = "HBTD_AGENT_URL=https://127.0.0.1:28500\nHBTD_AGENT_XNAME=x1000c0s0b0n0\n"


class DebTests(SynchronousTestCase):
    """The `.deb`, by dpkg."""

    kind: ClassVar[str] = "deb"
    upgrade: ClassVar[tuple[str, ...]] = ("dpkg", "--install", "--force-confold")
    remove: ClassVar[tuple[str, ...]] = ("dpkg", "--remove")
    saved: ClassVar[str] = ""

    def test_life(self):
        """It is installed anywhere, restarted by an upgrade, which keeps options, and removed."""
        if not AGENT:
            raise SkipTest("This checkout has no agent.")
        if not (DEBIAN / "usr" / "bin" / self.upgrade[0]).exists():
            raise SkipTest(f"The Debian root has no {self.upgrade[0]}: make systemd-root.")
        old, new = everything(), newer_packages()
        system = SystemdRoot(self, {old: "/old", new: "/new"})
        system.run(*self.upgrade, f"/old/{package(old, 'hbtd-agent', self.kind).name}")
        self.assertEqual(system.run("hbtd-agent", "--version"), f"hbtd-agent {__version__}")
        self.assertEqual(system.status("test", "-e", "/opt/hbtd")[0], 1)
        for path, mode in (("/etc/hbtd", "755"), (ENV, "644"), ("/usr/bin/hbtd-agent", "755")):
            self.assertEqual(system.run("stat", "-c", "%U:%G %a", path), f"root:root {mode}")
        system.run("test", "-f", "/usr/share/man/man8/hbtd-agent.8")
        unit = "hbtd-agent"
        self.assertEqual(system.run("systemctl", "is-enabled", unit, check=False), "disabled")
        system.write(ENV, EDITED)
        system.run("systemctl", "enable", "--now", unit)
        self.assertEqual(system.run("systemctl", "is-active", unit), "active")
        before = system.show(unit, "MainPID")
        system.run(*self.upgrade, f"/new/{package(new, 'hbtd-agent', self.kind).name}")
        self.assertEqual(system.run("hbtd-agent", "--version"), f"hbtd-agent {NEWER}")
        self.assertEqual(system.run("systemctl", "is-active", unit), "active")
        self.assertNotEqual(system.show(unit, "MainPID"), before)
        self.assertEqual(system.run("cat", ENV), EDITED.strip())
        system.run(*self.remove, unit)
        self.assertEqual(system.run("systemctl", "is-active", unit, check=False), "inactive")
        self.assertEqual(system.status("test", "-e", "/usr/bin/hbtd-agent")[0], 1)
        self.assertNotIn(unit, system.run("find", "/etc/systemd/system"))
        self.assertEqual(system.run("cat", f"{ENV}{self.saved}"), EDITED.strip())


class RpmTests(DebTests):
    """The `.rpm`, by rpm, whose database does not know what Debian has installed."""

    kind = "rpm"
    upgrade = ("rpm", "--upgrade", "--nodeps")
    remove = ("rpm", "--erase")
    saved = ".rpmsave"
