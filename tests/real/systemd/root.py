"""The system that the other tests of this folder boot."""

from twisted.trial.unittest import SynchronousTestCase

from tests.support.systemd_root import SystemdRoot


class RootTests(SynchronousTestCase):
    """A Debian with its own systemd runs beside this host's."""

    def test_booted(self) -> None:
        """It is up, has its own processes and network, and is gone after the test."""
        system = SystemdRoot(self)
        state = system.run("systemctl", "is-system-running", check=False)
        self.assertIn(state, ("running", "degraded"))
        self.assertEqual(system.run("ps", "-o", "comm=", "1"), "systemd")
        self.assertIn("lo", system.run("ip", "-br", "link"))
        system.write("/etc/hbtd/some", "text")
        self.assertEqual(system.run("cat", "/etc/hbtd/some"), "text")
        self.assertEqual(system.status("false")[0], 1)
        system.kill()
        self.assertFalse(system.path.exists())
