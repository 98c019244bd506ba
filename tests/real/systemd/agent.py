"""The unit of hbtd-agent under a real systemd."""

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import CHECKOUT
from tests.support.systemd_root import SystemdRoot

HBTD = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b'{"Warntime":"6"}' if self.command == "GET" else b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer
http.server.ThreadingHTTPServer(("127.0.0.1", 28500), Handler).serve_forever()
"""
"""What stands for hbtd."""


class AgentTests(SynchronousTestCase):
    """hbtd-agent as it is installed, with nothing but its URL and its xname."""

    def boot(self, xname: str = "x1000c0s0b0n0") -> SystemdRoot:
        """Boot a node, and install the agent there."""
        system = SystemdRoot(self)
        node = CHECKOUT / "deploy" / "node"
        for name, target, mode in (
            ("hbtd-agent", "/usr/bin", 0o755),
            ("hbtd-agent.service", "/etc/systemd/system", 0o644),
        ):
            system.write(f"{target}/{name}", (node / name).read_text(), mode)
        settings = f"HBTD_AGENT_URL=http://127.0.0.1:28500\nHBTD_AGENT_XNAME={xname}\n"
        system.write("/etc/hbtd/hbtd-agent.env", settings)
        system.write("/etc/systemd/system/hbtd-agent.service.d/test.conf", "[Service]\n")
        system.write("/hbtd.py", HBTD)
        system.run("systemctl", "daemon-reload")
        return system

    def test_life(self) -> None:
        """It is ready before hbtd is, says how it goes, is restarted when it hangs, and stops."""
        system = self.boot()
        watched = "[Service]\nWatchdogSec=5\n"
        system.write("/etc/systemd/system/hbtd-agent.service.d/test.conf", watched)
        system.run("systemctl", "daemon-reload")
        system.run("systemctl", "start", "hbtd-agent")
        self.says(system, "Heartbeats are not taken: .* refused")
        system.run("systemd-run", "--unit=hbtd", "python3", "/hbtd.py")
        self.says(system, "Heartbeats of x1000c0s0b0n0 are taken at .*, one every 2 s")
        self.assertEqual(system.run("cat", "/run/hbtd-agent/warntime"), "6")
        system.run("systemctl", "kill", "--signal=STOP", "hbtd-agent")
        system.until(lambda: system.show("hbtd-agent", "NRestarts") == "1", unit="hbtd-agent")
        self.says(system, "Heartbeats of x1000c0s0b0n0 are taken at .*, one every 2 s")
        system.run("systemctl", "stop", "hbtd-agent")
        self.assertEqual(system.show("hbtd-agent", "Result"), "success")

    def test_wrong(self) -> None:
        """With an option that can't be used it is not started again and again."""
        system = self.boot("nonsense+")
        system.status("systemctl", "start", "hbtd-agent")
        system.until(lambda: system.show("hbtd-agent", "ActiveState") == "failed")
        self.assertEqual(system.show("hbtd-agent", "ExecMainStatus"), "2")
        self.assertEqual(system.show("hbtd-agent", "NRestarts"), "0")
        self.assertIn("HBTD_AGENT_XNAME: nonsense+ is no xname", system.journal("hbtd-agent"))

    def test_sandbox(self) -> None:
        """It is closely confined, has limits, and verifies."""
        system = self.boot()
        system.run("systemctl", "start", "hbtd-agent")
        said = system.run("systemd-analyze", "security", "--no-pager", "hbtd-agent", check=False)
        score = re.search(r"exposure level for hbtd-agent.service: ([0-9.]+)", said)
        assert score is not None
        self.assertLessEqual(float(score[1]), 1.5)
        said = system.run("systemd-analyze", "verify", "--man=no", "hbtd-agent.service")
        self.assertEqual(said, "")
        limits = [system.show("hbtd-agent", name) for name in ("Nice", "MemoryMax")]
        self.assertEqual(limits, ["5", str(64 << 20)])
        self.assertEqual(system.show("hbtd-agent", "CPUQuotaPerSecUSec"), "100ms")

    def says(self, system: SystemdRoot, pattern: str) -> None:
        """Wait until systemd shows a status."""
        system.until(
            lambda: re.search(pattern, system.show("hbtd-agent", "StatusText")), unit="hbtd-agent"
        )
