"""What the packages' scripts do on hosts where something is not as it should be."""

import os
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import CHECKOUT

SCRIPTS = CHECKOUT / "deploy" / "packages"
UNITS = {"hbtd": "hbtd.socket hbtd.service", "hbtd-agent": "hbtd-agent.service"}


class ScriptTests(SynchronousTestCase):
    """The scripts, with folders of the test in place of the host's, and its commands noted."""

    def setUp(self) -> None:
        """Make a host where systemd runs."""
        self.root = Path(self.mktemp()).resolve()
        self.bin = self.root / "bin"
        self.bin.mkdir(parents=True)
        self.running = self.root / "system"
        self.running.mkdir()
        self.state = self.root / "state"
        self.status: dict[str, int | str] = {
            "systemctl": 0,
            "systemd-sysusers": 0,
            "systemd-tmpfiles": 0,
        }

    def run_script(self, name: str, *arguments: str) -> tuple[int, list[str], str]:
        """Run a script; return its status, the commands that it has run, and what it has said."""
        noted = self.root / "noted"
        noted.write_text("")
        for command, status in self.status.items():
            path = self.bin / command
            path.write_text(f'#!/bin/sh\necho "{command} $*" >> {noted}\nexit {status}\n')
            path.chmod(0o755)
        text = (SCRIPTS / name).read_text()
        text = text.replace("/run/systemd/system", str(self.running))
        text = text.replace("/var/lib/hbtd", str(self.state))
        done = subprocess.run(
            ["/bin/sh", "-c", text, "sh", *arguments],
            env={"PATH": f"{self.bin}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, noted.read_text().splitlines(), done.stderr

    def test_can_not_start(self) -> None:
        """A package whose service can't be restarted now is installed, and that is said."""
        for name in UNITS:
            # daemon-reload works.
            self.status["systemctl"] = '"$([ "$1" = try-restart ] && echo 1 || echo 0)"'
            status, commands, said = self.run_script(f"{name}-postinstall.sh", "configure", "0.1")
            self.assertEqual(status, 0, said)
            self.assertEqual(commands[-1], f"systemctl try-restart {name}.service")
            self.assertIn(f"{name} is installed, but could not be restarted", said)

    def test_can_not_stop(self) -> None:
        """A package whose service can't be stopped is removed, and that is said."""
        self.status["systemctl"] = 1
        for name, units in UNITS.items():
            status, commands, said = self.run_script(f"{name}-preremove.sh", "remove")
            self.assertEqual((status, commands), (0, [f"systemctl disable --now {units}"]))
            self.assertIn("could not be stopped", said)

    def test_upgrade(self) -> None:
        """Before an upgrade nothing is stopped, by dpkg's words nor by rpm's."""
        for name in UNITS:
            for word in ("upgrade", "1"):
                status, commands, _ = self.run_script(f"{name}-preremove.sh", word)
                self.assertEqual((status, commands), (0, []))

    def test_image(self) -> None:
        """In an image that is being built, where no systemd runs, a removal disables the units."""
        self.running.rmdir()
        for name, units in UNITS.items():
            status, commands, _ = self.run_script(f"{name}-preremove.sh", "0")
            self.assertEqual((status, commands), (0, [f"systemctl disable {units}"]))
            status, commands, _ = self.run_script(f"{name}-postinstall.sh", "configure")
            self.assertEqual(status, 0)
            self.assertNotIn("systemctl", " ".join(commands))

    def test_purge(self) -> None:
        """A purge removes the records; a disk mounted there, or linked to, is no error."""
        self.state.mkdir()
        (self.state / "hbtd.sqlite").touch()
        self.assertEqual(self.run_script("hbtd-postremove.sh", "remove")[0], 0)
        self.assertTrue((self.state / "hbtd.sqlite").exists())
        rm = self.bin / "rm"
        rm.write_text(f"#!/bin/sh\n/bin/rm -r {self.state}/*; exit 1\n")
        rm.chmod(0o755)
        self.assertEqual(self.run_script("hbtd-postremove.sh", "purge")[0], 0)
        self.assertEqual(list(self.state.iterdir()), [])
        rm.write_text("#!/bin/sh\nexit 1\n")
        (self.state / "hbtd.sqlite").touch()
        self.assertNotEqual(self.run_script("hbtd-postremove.sh", "purge")[0], 0)
        rm.unlink()
        elsewhere = self.root / "elsewhere"
        self.state.rename(elsewhere)
        self.state.symlink_to(elsewhere)
        self.assertEqual(self.run_script("hbtd-postremove.sh", "purge")[0], 0)
        self.assertFalse(self.state.is_symlink())
        self.assertTrue((elsewhere / "hbtd.sqlite").exists())
