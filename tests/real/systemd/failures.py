"""What keeps hbtd from starting, under a real systemd: what is tried again, and what is not."""

import re
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import make_identity, write_identity
from tests.support.systemd_hbtd import SystemdHbtd

NODE = "x1000c0s0b0n0"


class FailureTests(SynchronousTestCase):
    """Starts that fail."""

    def test_wrong_option(self) -> None:
        """With an option that can't be used it is not tried again; the log says which it is."""
        system = SystemdHbtd(self, WARNTIME="never")
        self.assertNotEqual(system.status("systemctl", "start", "hbtd")[0], 0)
        self.assertEqual(system.state, "failed")
        self.assertEqual(system.show("hbtd", "ExecMainStatus"), "2")
        self.assertEqual(system.restarts, 0)
        self.assertIn("HBTD_WARNTIME='never' can't be used", system.journal("hbtd"))

    def test_wrong_option_with_socket(self) -> None:
        """Heartbeats don't start it again and again; mended, it serves after a restart of both."""
        system = SystemdHbtd(self, WARNTIME="never")
        system.run("systemctl", "start", "hbtd.socket")
        system.client(_KNOCK)
        system.until(lambda: system.show("hbtd.socket", "ActiveState") == "failed", unit="hbtd")
        self.assertEqual(system.show("hbtd.socket", "Result"), "trigger-limit-hit")
        self.assertLessEqual(system.journal("hbtd").count("Starting hbtd.service"), 6)
        system.options({})
        time.sleep(10)  # as long as systemd remembers the attempts, even over a restart
        system.run("systemctl", "stop", "hbtd.socket", "hbtd.service")
        system.run("systemctl", "start", "hbtd.socket", "hbtd.service")
        self.assertEqual(system.beat(NODE), 200)
        self.assertEqual(system.show("hbtd.socket", "ActiveState"), "active")

    def test_certificate_comes(self) -> None:
        """A file that is missing is waited for with growing pauses; the first start has none."""
        where = "/etc/hbtd"
        system = SystemdHbtd(self, TLS_CERT=f"{where}/cert.pem", TLS_KEY=f"{where}/key.pem")
        system.run("systemctl", "start", "--no-block", "hbtd")
        system.until(lambda: system.restarts >= 3, unit="hbtd")
        said = system.journal("hbtd")
        self.assertIn("cert.pem", said)
        pauses = re.findall(r"next attempt is in (\d+) s", said)
        self.assertEqual(pauses[:2], ["1", "2"])
        write_identity(make_identity("localhost"), system.path / "etc" / "hbtd")
        system.run("sh", "-c", "chgrp hbtd /etc/hbtd/*.pem; chmod 640 /etc/hbtd/*.pem")
        system.until(lambda: system.state == "active", unit="hbtd")
        self.assertEqual(system.beat(NODE), 200)
        self.assertFalse((system.path / "run/hbtd/failed-starts").exists())
        self.assertNotIn("next attempt", said.partition("hbtd.service: Scheduled")[0])

    def test_stop_resets(self) -> None:
        """Stopped and started by hand, it is tried at once, whatever came before."""
        system = SystemdHbtd(self, TLS_CERT="/etc/hbtd/cert.pem", TLS_KEY="/etc/hbtd/key.pem")
        system.run("systemctl", "start", "--no-block", "hbtd")
        system.until(lambda: system.restarts >= 2, unit="hbtd")
        system.run("systemctl", "stop", "hbtd")
        self.assertFalse((system.path / "run/hbtd/failed-starts").exists())
        self.assertEqual(system.state, "inactive")

    def test_full_disk(self) -> None:
        """On a full disk it can't start, and does so once there is space."""
        system = SystemdHbtd(self)
        system.run("mkdir", "-p", "/var/lib/hbtd")
        system.run("mount", "-t", "tmpfs", "-o", "size=8k,mode=755", "tmpfs", "/var/lib/hbtd")
        system.run("systemctl", "start", "--no-block", "hbtd")
        system.until(lambda: system.restarts >= 1, unit="hbtd")
        self.assertRegex(system.journal("hbtd"), "status=75")
        self.assertRegex(system.journal("hbtd"), "can't use its store")
        system.run("mount", "-o", "remount,size=10m", "/var/lib/hbtd")
        system.until(lambda: system.state == "active", unit="hbtd")
        self.assertEqual(system.beat(NODE), 200)

    def test_second_instance(self) -> None:
        """A second hbtd can have neither the port nor the store; it does not disturb the first."""
        system = SystemdHbtd(self)
        unit = (system.path / "lib/systemd/system/hbtd.service").read_text()
        system.write("/etc/systemd/system/second.service", unit)
        system.run("systemctl", "daemon-reload")
        system.run("systemctl", "start", "hbtd")
        system.run("systemctl", "start", "--no-block", "second")
        system.until(lambda: int(system.show("second", "NRestarts")) >= 1, unit="second")
        self.assertIn("can't listen: port 28500", system.journal("second"))
        system.run("systemctl", "stop", "second")
        system.options({"PORT": "28501"})
        system.run("systemctl", "start", "--no-block", "second")
        system.until(lambda: int(system.show("second", "NRestarts")) >= 1, unit="second")
        self.assertIn("hbtd can't use its store", system.journal("second"))
        self.assertEqual(system.state, "active")
        self.assertEqual(system.restarts, 0)
        self.assertEqual(system.beat(NODE), 200)

    def test_stopped_during_start(self) -> None:
        """Stopped while it starts, it ends in order, and is not started again."""
        system = SystemdHbtd(self)
        for pause in ("0.05", "0.3", "0.6", "0.8"):
            system.run("systemctl", "start", "--no-block", "hbtd")
            system.run("sleep", pause)
            system.run("systemctl", "stop", "hbtd")
            self.assertEqual(system.state, "inactive", pause)
            self.assertEqual(system.show("hbtd", "Result"), "success", pause)
        self.assertEqual(system.restarts, 0)

    def test_datagram_socket(self) -> None:
        """A socket that can't be served is an error that names it, and is not tried again."""
        system = SystemdHbtd(self)
        system.drop_in("[Socket]\nListenDatagram=28501\n", "hbtd.socket")
        system.run("systemctl", "start", "hbtd.socket")
        self.assertNotEqual(system.status("systemctl", "start", "hbtd")[0], 0)
        self.assertEqual(system.show("hbtd", "ExecMainStatus"), "2")
        self.assertRegex(system.journal("hbtd"), r"file descriptor \d, which systemd has passed")


_KNOCK = """
import socket, time
while True:
    try:
        socket.create_connection(("127.0.0.1", 28500), timeout=5).close()
    except OSError:
        pass
    time.sleep(0.05)
"""
