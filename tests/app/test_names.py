"""hbtd as a process on a host whose nameservers are silent."""

import re
import shutil
import subprocess
import sys
from datetime import datetime
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import CHECKOUT

UNSHARE = ["unshare", "--map-root-user", "--net", "--mount"]


def _can_unshare() -> bool:
    """Return whether this host lets a test have namespaces of its own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@skipUnless(_can_unshare(), "needs namespaces (unshare)")
class SilentTests(SynchronousTestCase):
    """What hbtd does while a look-up takes its time, here up to 40 s."""

    def run_hbtd(self, answers: str, said: str, *options: str) -> str:
        """Run hbtd until its log has `said`, and then stop it; return the log."""
        command = [sys.executable, "-m", "tests.support.silent_names", answers, said]
        ended = subprocess.run(
            [*UNSHARE, *command, "--use_telemetry=no", *options],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        self.assertNotIn("Traceback", ended.stdout + ended.stderr)
        return ended.stdout

    def seconds_to_end(self, said: str, *options: str) -> float:
        """Stop hbtd when its log has `said`; return the seconds until it had ended."""
        began = datetime.now().astimezone()
        log = self.run_hbtd("none", said, *options)
        ended = datetime.now().astimezone()
        stopping = re.search(r"(\S+) info .* hbtd is stopping", log)
        assert stopping is not None, log
        stopped = datetime.fromisoformat(stopping[1].replace("Z", "+00:00"))
        self.assertLess(began, stopped)
        return (ended - stopped).total_seconds()

    def test_etcd(self) -> None:
        """SIGTERM ends hbtd in bounded time while etcd's name is looked up, a heartbeat taken."""
        options = ("--kv_url=http://etcd.example:2379", "--nosm", "--sm_timeout=1")
        took = self.seconds_to_end("The store can't be used", *options)
        self.assertLess(took, 20)

    def test_hsm_and_keys(self) -> None:
        """SIGTERM ends hbtd in bounded time while the names of HSM and an issuer are looked up."""
        took = self.seconds_to_end(
            "HSM at .* its name was not looked up within 1 s",
            "--kv_url=mem:",
            "--sm_timeout=1",
            "--sm_url=http://hsm.example/hsm/v2",
            "--node_access=any+jwt:https://spire.example/keys",
        )
        self.assertLess(took, 20)

    def test_second_nameserver(self) -> None:
        """If only the second nameserver answers, after 4 s, HSM is reached all the same."""
        log = self.run_hbtd(
            "second",
            "HSM at .* (refused|is ready)",
            "--kv_url=mem:",
            "--sm_timeout=2",
            "--sm_url=http://hsm.example:1/hsm/v2",
        )
        self.assertIn("its name was not looked up within 2 s", log)
        self.assertIn("refused", log)
