"""The unit of systemd: when it starts hbtd, and when it tries again."""

import shlex
import time
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from hbtd.app.errors import CAN_PASS, WRONG_OPTION
from tests.support.processes import CHECKOUT


def settings() -> dict[str, list[str]]:
    """Return the settings of the unit, each with its values."""
    lines = (CHECKOUT / "deploy" / "systemd" / "hbtd.service").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if line and line[0] not in "#["]
    found: dict[str, list[str]] = {}
    for name, _, value in pairs:
        found.setdefault(name, []).append(value)
    return found


WAIT, PAUSE = settings()["ExecStartPre"]
"""The commands before a start: one waits for the time to be set, one pauses after failures."""


class RetryTests(TestCase):
    """The unit tries again unless that is useless."""

    def test_statuses(self) -> None:
        """Only the status of a wrong option keeps it from trying again, and no number of tries."""
        unit = settings()
        self.assertEqual(unit["Restart"], ["on-failure"])
        self.assertEqual(unit["RestartPreventExitStatus"], [str(WRONG_OPTION)])
        self.assertNotEqual(CAN_PASS, WRONG_OPTION)
        self.assertEqual(unit["StartLimitIntervalSec"], ["0"])

    async def test_pauses(self) -> None:
        """After each failed start the pause is longer, up to 30 s, and the first start has none."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        sleep = folder / "sleep"
        sleep.write_text(f"#!/bin/sh\necho $1 >> {folder}/slept\n")
        sleep.chmod(0o755)
        environ = {"PATH": f"{folder}:/usr/bin:/bin", "RUNTIME_DIRECTORY": str(folder)}
        program, *arguments = shlex.split(PAUSE.lstrip("-").replace("$$", "$"))
        said = []
        for _ in range(8):
            out, err, status = await getProcessOutputAndValue(program, arguments, env=environ)
            self.assertEqual((err, status), (b"", 0))
            said.append(out.decode())
        slept = (folder / "slept").read_text().split()
        self.assertEqual(slept, ["1", "2", "4", "8", "16", "30", "30"])
        self.assertEqual(said[0], "")
        self.assertIn("could not start: the next attempt is in 16 s", said[5])
        (served,) = settings()["ExecStartPost"]
        program, *arguments = shlex.split(served.lstrip("-"))
        arguments = [each.replace("${RUNTIME_DIRECTORY}", str(folder)) for each in arguments]
        await getProcessOutputAndValue(program, arguments)
        out, _, _ = await getProcessOutputAndValue("/bin/sh", ["-c", f"ls {folder}"])
        self.assertEqual(out.split(), [b"sleep", b"slept"])


class ClockTests(TestCase):
    """The unit waits for the time to be set."""

    timeout = 120

    def setUp(self) -> None:
        self.bin = Path(self.mktemp()).resolve()
        self.bin.mkdir()
        self.command("cut", "echo 20")

    def command(self, name: str, script: str) -> None:
        """Make a command that the unit's own finds instead of the system's."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    async def wait(self, bound: str = "60") -> tuple[float, int]:
        """Wait as the unit does, with another bound if given; return the seconds, and the status.

        The status of a command that `timeout` has ended is 124.
        """
        # Without - hbtd would not be started after 60 s; without + it could not read /proc/uptime.
        self.assertEqual(WAIT[:2], "-+")
        program, limit, *command = shlex.split(WAIT[2:].replace("$$", "$"))
        self.assertEqual(limit, "60")
        began = time.monotonic()
        _, err, status = await getProcessOutputAndValue(
            program, [bound, *command], env={"PATH": f"{self.bin}:/usr/bin:/bin"}
        )
        self.assertEqual(err, b"")
        return time.monotonic() - began, status

    async def test_set(self) -> None:
        """If the time is set, it doesn't wait."""
        self.command("timedatectl", "echo yes")
        seconds, status = await self.wait()
        self.assertLess(seconds, 20)
        self.assertEqual(status, 0)

    async def test_set_soon(self) -> None:
        """If it is not, it waits until it is."""
        mark = self.bin / "asked"
        self.command("timedatectl", f"test -e {mark} && echo yes || {{ touch {mark}; echo no; }}")
        seconds, status = await self.wait()
        self.assertGreaterEqual(seconds, 1)
        self.assertEqual(status, 0)

    async def test_never_set(self) -> None:
        """It waits no longer than the bound, which is 60 s, also if the command hangs."""
        for script in ("echo no", "sleep 20"):
            self.command("timedatectl", script)
            seconds, status = await self.wait("2")
            self.assertEqual(status, 124)
            self.assertLess(seconds, 15)

    async def test_long_after_boot(self) -> None:
        """It doesn't wait later than five minutes after the boot, on hosts that never set it."""
        self.command("timedatectl", "echo no")
        self.command("cut", "echo 301")
        seconds, status = await self.wait()
        self.assertLess(seconds, 20)
        self.assertEqual(status, 0)

    async def test_unknown(self) -> None:
        """It doesn't wait if nobody knows, as in a container."""
        self.command("timedatectl", "exit 1")
        seconds, status = await self.wait()
        self.assertLess(seconds, 20)
        self.assertEqual(status, 0)
