"""hbtctl as a process of its own."""

import os
import pty
import signal
import subprocess
import sys
import threading

from tests.support.hbtd_stand_in import CommandTestCase, component
from tests.support.processes import CHECKOUT

COMMAND = (sys.executable, "-m", "hbtd.ctl")


class ProcessTests(CommandTestCase):
    """What only a process shows."""

    def environ(self, **variables: str) -> dict[str, str]:
        """Return the environment of the process."""
        measured = {name: os.environ[name] for name in os.environ if name.startswith("COVERAGE_")}
        common = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "HBTCTL_URL": self.url}
        return {**common, **measured, **variables}

    def test_imports(self) -> None:
        """No command that is not asked to imports Twisted, rich or ClusterShell."""
        self.hbtd.components = [component("x1000c0s0b0n0")]
        program = (
            "import sys\nfrom hbtd.ctl.main import run\n"
            f"run(['list'], {{'HBTCTL_URL': {self.url!r}}}, *[sys.stdin, sys.stdout, sys.stderr])\n"
            "print(sorted({'twisted', 'rich', 'ClusterShell'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=self.environ(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.assertEqual(done.stdout.splitlines()[-1], "[]")

    def test_status(self) -> None:
        """The exit status is that of the command, and there is no traceback."""
        done = subprocess.run(
            [*COMMAND, "status", "--url", "http://localhost:1"],
            env=self.environ(), capture_output=True, text=True,
        )  # fmt: skip
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_closed_pipe(self) -> None:
        """A reader of the output that ends early is no error."""
        self.hbtd.components = [component(f"x1000c0s{i}b0n0") for i in range(5000)]
        line = f"{' '.join(COMMAND)} list -o wide | head -n 1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", line],
            env=self.environ(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.assertEqual(done.stdout.splitlines()[1], str(128 + signal.SIGPIPE))
        self.assertEqual(done.stderr, "")

    def test_interrupted(self) -> None:
        """Ctrl-C ends `send` with status 0, and what was sent is said."""
        process = subprocess.Popen(
            [*COMMAND, "send", "x1000c0s0b0n0", "--period", "60"],
            env=self.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.addCleanup(process.kill)
        self.assertTrue(self.hbtd.heartbeats.acquire(timeout=20))
        assert process.stdout is not None
        self.assertIn("beats every 60 s", process.stdout.readline())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        self.assertEqual((process.returncode, out, err), (0, "1 heartbeats sent\n", ""))

    def test_terminal(self) -> None:
        """On a terminal there is a table in colours; a terminal in ASCII gets escapes."""
        self.hbtd.components = [component("x1000c0s0b0n0", "dead", Hostname="größe")]
        text = self._on_terminal("list", "-o", "wide", PYTHONIOENCODING="ascii")
        self.assertIn("\x1b[31m", text)
        self.assertIn(r"gr\xf6\xdfe", text)

    def _on_terminal(self, *words: str, **variables: str) -> str:
        """Run a command on a pseudo-terminal; return what it printed there."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, *words],
            env=self.environ(TERM="xterm", COLUMNS="250", **variables),
            stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        timer = threading.Timer(30, process.kill)
        timer.start()
        text = b""
        try:
            while chunk := os.read(ours, 65536):
                text += chunk
        except OSError:  # the other side is closed
            pass
        process.wait()
        timer.cancel()
        os.close(ours)
        self.assertEqual(process.returncode, 0, text)
        return text.decode()
