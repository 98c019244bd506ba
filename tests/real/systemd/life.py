"""The unit's life under a real systemd: start, reload, stop, stall, and restarts on its socket."""

import json
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import make_identity, write_identity
from tests.support.systemd_hbtd import SystemdHbtd

NODE = "x1000c0s0b0n0"

STREAM = """
import json, socket, ssl, sys, time
context = ssl._create_unverified_context()
counts = {}
until = time.monotonic() + float(sys.argv[1])
body = {"Component": "x1000c0s0b0n0", "Hostname": "h", "NID": "1", "Status": "OK"}
body = json.dumps({**body, "Timestamp": "t"}).encode()
request = b"POST /v1/heartbeat HTTP/1.1\\r\\nHost: h\\r\\nContent-Type: application/json\\r\\n"
request += b"Connection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body
while time.monotonic() < until:
    try:
        with socket.create_connection(("127.0.0.1", 28500), timeout=20) as plain:
            with context.wrap_socket(plain) as client:
                client.sendall(request)
                result = client.recv(100)[9:12].decode() or "unanswered"
    except OSError as error:
        result = type(error).__name__
    counts[result] = counts.get(result, 0) + 1
    time.sleep(0.005)
print(json.dumps(counts))
"""

_CHECK = (
    *("setpriv", "--reuid=hbtd", "--regid=hbtd", "--init-groups"),
    *("--inh-caps=+sys_ptrace", "--ambient-caps=+sys_ptrace"),
    *("sh", "-c", "set -a; . /etc/hbtd/hbtd.env; exec /opt/hbtd/bin/hbtd --check"),
)
"""What docs/operations.md does with systemd-run, which takes a bus, and there is none."""


class UnitTests(SynchronousTestCase):
    """hbtd's unit on its own."""

    def test_start_reload_stop(self) -> None:
        """It tells when it serves, and what; when it has reloaded; and when it stops."""
        system = SystemdHbtd(self)
        system.run("systemctl", "start", "hbtd")
        self.assertEqual(system.state, "active")
        self.assertEqual(system.show("hbtd", "Type"), "notify")
        self.assertIn("Serving https://[::]:28500: 0 heart", system.show("hbtd", "StatusText"))
        self.assertEqual(system.beat(NODE), 200)
        system.until(lambda: ": 1 heartbeating, 0 warned" in system.show("hbtd", "StatusText"))
        process = system.show("hbtd", "MainPID")
        system.run("systemctl", "reload", "hbtd")
        system.until(lambda: "Change by SIGHUP" in system.journal("hbtd"))
        system.until(lambda: system.state == "active")
        self.assertEqual(system.show("hbtd", "MainPID"), process)
        system.run("systemctl", "stop", "hbtd")
        self.assertEqual(system.state, "inactive")
        self.assertEqual(system.show("hbtd", "Result"), "success")
        self.assertIn("hbtd has stopped", system.journal("hbtd"))

    def test_sandbox(self) -> None:
        """It is closely confined, writes nothing that others can read, and verifies."""
        system = SystemdHbtd(self)
        system.run("systemctl", "start", "hbtd")
        said = system.run("systemd-analyze", "security", "--no-pager", "hbtd", check=False)
        score = re.search(r"exposure level for hbtd.service: ([0-9.]+)", said)
        assert score is not None
        self.assertLessEqual(float(score[1]), 1.5)
        # There are no manual pages in that system.
        said = system.run("systemd-analyze", "verify", "--man=no", "hbtd.service", "hbtd.socket")
        self.assertEqual(said, "")
        files = system.run("sh", "-c", "stat -c '%U %G %a' /var/lib/hbtd/* /var/lib/hbtd")
        self.assertEqual(set(files.splitlines()), {"hbtd hbtd 600", "hbtd hbtd 750"})
        self.assertEqual(
            system.run("stat", "-c", "%U %G %a", "/etc/hbtd/hbtd.env"), "root hbtd 640"
        )

    def test_credentials(self) -> None:
        """It serves with a certificate that only root can read, by LoadCredential=."""
        where = "/run/credentials/hbtd.service"
        system = SystemdHbtd(self, TLS_CERT=f"{where}/cert.pem", TLS_KEY=f"{where}/key.pem")
        write_identity(make_identity("localhost"), system.path / "etc" / "hbtd")
        system.run("sh", "-c", "chown root:root /etc/hbtd/*.pem; chmod 600 /etc/hbtd/*.pem")
        system.drop_in(
            "[Service]\nLoadCredential=cert.pem:/etc/hbtd/cert.pem\n"
            "LoadCredential=key.pem:/etc/hbtd/key.pem\n"
        )
        system.run("systemctl", "start", "hbtd")
        self.assertEqual(system.beat(NODE), 200)
        self.assertNotIn("self-signed", system.journal("hbtd"))

    def test_check(self) -> None:
        """The check is content before the first start, and while the unit has the port."""
        system = SystemdHbtd(self)
        self.assertIn("ok: can listen: port 28500 of ::\n", system.run(*_CHECK))
        system.run("systemctl", "start", "hbtd")
        self.assertIn("port 28500 of ::; hbtd.service, process", system.run(*_CHECK))
        system.run("systemctl", "stop", "hbtd")
        system.run("systemctl", "start", "hbtd.socket")
        # By root: the capability does not do for what belongs to root.
        said = system.run(*_CHECK[-3:])
        self.assertIn("port 28500 of ::; systemd listens there", said)

    def test_stall(self) -> None:
        """An hbtd that hangs is restarted, and knows its components as before."""
        system = SystemdHbtd(self)
        # A stopped process doesn't even end when it is told to.
        system.drop_in("[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n")
        system.run("systemctl", "start", "hbtd")
        self.assertEqual(system.beat(NODE), 200)
        system.until(lambda: ": 1 heartbeating" in system.show("hbtd", "StatusText"))
        before = system.show("hbtd", "MainPID")
        self.assertEqual(system.restarts, 0, "before it hangs the watchdog is fed")
        system.run("kill", "-STOP", before)
        system.until(lambda: system.restarts == 1, unit="hbtd")
        system.until(lambda: system.state == "active", unit="hbtd")
        self.assertNotEqual(system.show("hbtd", "MainPID"), before)
        self.assertIn("Watchdog timeout", system.journal("hbtd"))
        self.assertIn(": 1 heartbeating", system.show("hbtd", "StatusText"))

    def test_dynamic_user(self) -> None:
        """The records of the unit that had a dynamic user are those of the present unit."""
        system = SystemdHbtd(self)
        system.drop_in("[Service]\nUser=\nGroup=\nDynamicUser=yes\nRuntimeDirectoryPreserve=no\n")
        system.run("mv", "/lib/sysusers.d/hbtd.conf", "/srv")
        system.run("sh", "-c", "sed -i /^hbtd:/d /etc/passwd /etc/group /etc/shadow /etc/gshadow")
        system.run("systemctl", "start", "hbtd")
        self.assertEqual(system.beat(NODE), 200)
        system.run("systemctl", "stop", "hbtd")
        self.assertTrue((system.path / "var/lib/hbtd").is_symlink())
        system.run("mv", "/srv/hbtd.conf", "/lib/sysusers.d/")
        system.run("systemd-sysusers")
        system.run("systemd-tmpfiles", "--create", "hbtd.conf")
        system.drop_in("")
        system.run("systemctl", "start", "hbtd")
        self.assertIn(": 1 heartbeating", system.show("hbtd", "StatusText"))
        files = system.run("sh", "-c", "stat -c %U /var/lib/hbtd/* /var/lib/hbtd/.")
        self.assertEqual(set(files.split()), {"hbtd"})


class SocketTests(SynchronousTestCase):
    """hbtd's unit on hbtd.socket."""

    def test_restart(self) -> None:
        """While it is restarted new TLS connections wait; none is refused."""
        system = SystemdHbtd(self)
        system.run("systemctl", "start", "hbtd.socket")
        system.run("systemctl", "start", "hbtd")
        self.assertIn("Serving on 1 socket that systemd has passed", system.journal("hbtd"))
        client = system.client(STREAM, "6")
        before = system.show("hbtd", "MainPID")
        for _ in range(2):
            system.run("systemctl", "restart", "hbtd")
        said, _ = client.communicate(timeout=40)
        self.assertNotEqual(system.show("hbtd", "MainPID"), before)
        counts = json.loads(said)
        # One that was accepted just before hbtd stops may be closed before its request arrives.
        closed = counts.pop("unanswered", 0) + counts.pop("ConnectionResetError", 0)
        self.assertLessEqual(closed, 2)
        self.assertEqual(list(counts), ["200"], counts)
        self.assertGreater(counts["200"], 50)

    def test_activation(self) -> None:
        """The first connection starts it; when it stops, the sockets are as they were."""
        system = SystemdHbtd(self)
        system.drop_in("[Socket]\nListenStream=/run/hbtd.sock\nSocketMode=0600\n", "hbtd.socket")
        system.run("systemctl", "start", "hbtd.socket")
        self.assertEqual(system.state, "inactive")
        self.assertEqual(system.beat(NODE), 200)
        self.assertIn("Serving on 2 sockets that systemd has passed", system.journal("hbtd"))
        self.assertIn("unix:/run/hbtd.sock", system.show("hbtd", "StatusText"))
        mode = ("stat", "-c", "%U %a %F", "/run/hbtd.sock")
        self.assertEqual(system.run(*mode), "root 600 socket")
        # Without --no-block it would say that the socket may start it again.
        system.run("systemctl", "stop", "hbtd")
        self.assertEqual(system.run(*mode), "root 600 socket")
        self.assertEqual(system.beat(NODE), 200)
        queue = system.run("ss", "-Hltn", "sport", "=", ":28500").split()[2]
        self.assertEqual(queue, "4096")
