"""deploy/clustershell with the real `nodeset` and `clush`."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.hbtd_stand_in import CommandTestCase, component
from tests.support.processes import CHECKOUT

SOURCE = CHECKOUT / "deploy" / "clustershell" / "hbtd.conf"


class GroupTests(CommandTestCase):
    """Groups of nodes by state and by place."""

    def setUp(self) -> None:
        """Install the source of groups, and hbtctl on a path of its own."""
        super().setUp()
        folder = Path(self.mktemp()).absolute()
        groups, commands = folder / "groups.conf.d", folder / "bin"
        groups.mkdir(parents=True)
        commands.mkdir()
        (groups / "hbtd.conf").write_text(SOURCE.read_text())
        (folder / "groups.conf").write_text(f"[Main]\nconfdir: {groups}\nautodir:\n")
        hbtctl = commands / "hbtctl"
        hbtctl.write_text(f'#!/bin/sh\nexec {sys.executable} -m hbtd.ctl "$@"\n')
        hbtctl.chmod(0o755)
        self.environ = {
            "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "HBTCTL_URL": self.url,
            "CLUSTERSHELL_CFGDIR": str(folder),
            **{name: os.environ[name] for name in os.environ if name.startswith("COVERAGE_")},
        }
        self.hbtd.components = [
            *(component(f"x1000c0s0b0n{node}") for node in (0, 1)),
            component("x1000c0s1b0n0", "warned"),
            *(component(f"x1000c7s0b0n{node}", "dead") for node in (0, 1)),
        ]

    def run_command(self, *words: str) -> list[str]:
        """Run a command, and return its lines."""
        done = subprocess.run(
            words, env=self.environ, capture_output=True, text=True, check=True, timeout=60
        )
        self.assertEqual(done.stderr, "")
        return done.stdout.splitlines()

    def test_states(self) -> None:
        """Each state is a group, and so are alive and silent."""
        for group, nodes in (
            ("ok", "x1000c0s0b0n[0-1]"),
            ("dead", "x1000c7s0b0n[0-1]"),
            ("silent", "x1000c7s0b0n[0-1],x1000c0s1b0n0"),
            ("alive", "x1000c0s0b0n[0-1],x1000c0s1b0n0"),
        ):
            self.assertEqual(self.run_command("nodeset", "-f", f"@hbtd:{group}"), [nodes])

    def test_thresholds(self) -> None:
        """Thresholds take groups of this host, too; hbtd gets the names."""
        file = Path(self.mktemp())
        file.write_text('[{"Match":"@hbtd:dead","Warntime":60},{"Match":"NodeBMC","Errtime":9}]')
        self.run_command("hbtctl", "thresholds", "set", str(file))
        matches = [row["Match"] for row in self.hbtd.thresholds]
        self.assertEqual(matches, ["x1000c7s0b0n[0-1]", "NodeBMC"])

    def test_places(self) -> None:
        """Each cabinet, chassis and slot is a group by its xname."""
        found = self.run_command("nodeset", "-f", "@hbtd:x1000c7")
        self.assertEqual(found, ["x1000c7s0b0n[0-1]"])

    def test_list(self) -> None:
        """The groups can be listed, and those of a node."""
        self.assertEqual(
            self.run_command("nodeset", "-s", "hbtd", "-l"),
            ["@hbtd:alive", "@hbtd:dead", "@hbtd:ok", "@hbtd:silent", "@hbtd:warned"],
        )
        found = self.run_command("nodeset", "-s", "hbtd", "-l", "x1000c0s1b0n0")
        self.assertEqual(found, ["@hbtd:alive", "@hbtd:silent", "@hbtd:warned"])

    def test_all(self) -> None:
        """All components together are the group of all."""
        self.assertEqual(self.run_command("nodeset", "-s", "hbtd", "-c", "-a"), ["5"])

    def test_clush(self) -> None:
        """The command clush runs a command for each node of a group."""
        lines = self.run_command("clush", "-w", "@hbtd:dead", "-R", "exec", "echo", "%h")
        self.assertEqual(
            sorted(lines), ["x1000c7s0b0n0: x1000c7s0b0n0", "x1000c7s0b0n1: x1000c7s0b0n1"]
        )

    def test_in_hbtctl(self) -> None:
        """The command hbtctl takes groups of this host, and refuses those that there are not."""
        words = (sys.executable, "-m", "hbtd.ctl", "list", "--columns", "xname", "--no-headers")
        found = self.run_command(*words, "@hbtd:dead!x1000c7s0b0n0")
        self.assertEqual(found, ["x1000c7s0b0n1"])
        done = subprocess.run(
            [*words, "@nope:x"], env=self.environ, capture_output=True, text=True, timeout=60
        )
        self.assertEqual(done.returncode, 2)
        self.assertIn("@nope:x can't be used: ClusterShell says", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)
