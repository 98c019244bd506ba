"""What hbtd tells systemd, and when."""

import os

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.app.supervision import Supervision, make_supervision
from tests.support.hsm_memory import lines


class SupervisionTests(SynchronousTestCase):
    """hbtd with a systemd that records what it is told."""

    def setUp(self) -> None:
        """Make one whose watchdog waits for two minutes."""
        self.clock = Clock()
        self.clock.advance(1000.5)
        self.told: list[str] = []
        self.fails: OSError | None = None
        self.supervision = Supervision(self.clock, self.receive, 120.0)
        self.ticks = True
        self.ticked_at = 1.0
        self.words = "Serving a"

    def receive(self, message: str) -> None:
        """Record a message, unless messages can't be sent."""
        if self.fails is not None:
            raise self.fails
        self.told.append(message)

    def start(self) -> None:
        """Start hbtd, and forget what was told until it serves."""
        self.supervision.watch(lambda: self.ticked_at)
        self.supervision.serving(lambda: self.words)
        self.told.clear()

    def wait(self, seconds: int) -> list[str]:
        """Let time pass, and the observed clock tick; return what was told meanwhile."""
        self.told.clear()
        for _ in range(seconds):
            if self.ticks:
                self.ticked_at += 1
            self.clock.advance(1)
        return self.told

    def fed(self, seconds: int) -> int:
        """Let time pass, and return how often the watchdog was fed."""
        return sum("WATCHDOG=1" in message for message in self.wait(seconds))

    def test_start(self) -> None:
        """Each step is told, with a request for more time; then that hbtd serves, once."""
        self.supervision.step("Starting the store")
        self.assertEqual(
            self.told, ["STATUS=Starting the store ...\nEXTEND_TIMEOUT_USEC=300000000"]
        )
        self.supervision.watch(lambda: 0.0)
        self.assertEqual(self.wait(2), ["EXTEND_TIMEOUT_USEC=300000000"] * 2)
        self.told.clear()
        self.supervision.serving(lambda: "Serving a")
        self.assertEqual(self.told, ["READY=1\nSTATUS=Serving a"])
        self.assertEqual(self.wait(20), [])

    def test_long_start(self) -> None:
        """While hbtd starts, the watchdog is fed although the observed clock does not tick."""
        self.supervision.watch(lambda: 0.0)
        self.ticks = False
        self.assertEqual(self.fed(300), 10)

    def test_fed(self) -> None:
        """The watchdog is fed four times in its time while the observed clock ticks."""
        self.start()
        self.assertEqual(self.fed(120), 4)

    def test_clock_stands_still(self) -> None:
        """It is not fed if the observed clock ticks no more, even though the reactor runs."""
        self.start()
        self.fed(60)
        self.ticks = False
        self.assertEqual(self.fed(240), 0)
        self.ticks = True
        self.assertEqual(self.fed(2), 1)

    def test_late(self) -> None:
        """After a pause, such as on a starved machine, it is fed at once."""
        self.start()
        self.ticked_at += 1
        self.clock.advance(110)
        self.assertEqual(self.told, ["WATCHDOG=1"])

    def test_short_watchdog(self) -> None:
        """A watchdog of less than a few seconds is fed often enough."""
        self.supervision = Supervision(self.clock, self.receive, 0.4)
        self.start()
        for _ in range(100):
            self.ticked_at += 1
            self.clock.advance(0.1)
        self.assertGreaterEqual(sum("WATCHDOG=1" in each for each in self.told), 90)

    def test_no_watchdog(self) -> None:
        """Without a watchdog it is not fed."""
        self.supervision = Supervision(self.clock, self.receive)
        self.start()
        self.assertEqual(self.wait(300), [])

    def test_status(self) -> None:
        """What hbtd serves is told when it changes, no more than every five seconds, in a line."""
        self.start()
        self.words = "Serving b\nREADY=1"
        self.assertEqual(self.wait(4), [])
        self.assertEqual(self.wait(1), ["STATUS=Serving b\\nREADY=1"])
        self.assertEqual(self.wait(20), [])
        self.words = "x" * 5000
        self.assertEqual(self.wait(6), [f"STATUS={'x' * 1000}\nWATCHDOG=1"])

    def test_reload(self) -> None:
        """A reload has a beginning, with the time, and an end, whatever comes of it."""
        self.start()
        seen: list[list[str]] = []
        self.supervision.reload(lambda: seen.append(list(self.told)))
        begun = "RELOADING=1\nMONOTONIC_USEC=1000500000"
        self.assertEqual(seen, [[begun]])
        self.assertEqual(self.told, [begun, "READY=1"])
        self.told.clear()
        self.assertRaises(ZeroDivisionError, self.supervision.reload, lambda: 1 / 0)
        self.assertEqual(self.told, [begun, "READY=1"])

    def test_reload_at_other_times(self) -> None:
        """A reload before hbtd serves, or while it stops, does not tell that it serves."""
        done: list[int] = []
        self.supervision.reload(lambda: done.append(1))
        self.start()
        self.supervision.stopping()
        self.told.clear()
        self.supervision.reload(lambda: done.append(2))
        self.assertEqual((done, self.told), ([1, 2], []))

    def test_stop(self) -> None:
        """Stopping is told, then each step; then there is nothing left to do on the reactor."""
        self.start()
        self.supervision.stopping()
        self.assertEqual(self.told, ["STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000"])
        self.assertEqual(self.wait(3), ["EXTEND_TIMEOUT_USEC=60000000"] * 3)
        self.successResultOf(self.supervision.stopped())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failed(self) -> None:
        """Why hbtd can't start is the last that is told."""
        self.supervision.failed("--tls_cert: can't be read")
        self.assertEqual(self.told, ["STATUS=Could not start: --tls_cert: can't be read"])

    def test_cut_off(self) -> None:
        """What can't be sent is sent as soon as it can be; the log says so once."""
        self.fails = ConnectionRefusedError(111, "Connection refused")
        with capturedLogs() as captured:
            self.start()
            self.wait(60)
            self.fails = None
            self.wait(40)
        self.assertIn("READY=1\nSTATUS=Serving a", self.told)
        self.assertEqual(sum("READY=1" in each for each in self.told), 1)
        (said,) = lines(captured, "warn")
        self.assertIn("(NOTIFY_SOCKET): Connection refused", said)
        self.assertEqual(lines(captured, "info"), ["hbtd can send its state to systemd again."])

    def test_latest_state(self) -> None:
        """Of what could not be sent only the latest state is."""
        self.fails = OSError(11, "Try again")
        self.start()
        self.supervision.stopping()
        self.fails = None
        (told,) = self.wait(1)
        self.assertNotIn("READY=1", told)
        self.assertIn("STOPPING=1", told)


class EnvironmentTests(SynchronousTestCase):
    """Who is told, as the environment says."""

    def test_nobody(self) -> None:
        """Without systemd, nothing is done, and nothing left on the reactor."""
        for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:3"}):
            clock = Clock()
            supervision = make_supervision(clock, environ, os.getpid())
            supervision.step("Starting")
            supervision.watch(lambda: 0.0)
            supervision.serving(lambda: "")
            supervision.stopping()
            self.assertEqual(clock.getDelayedCalls(), [], environ)

    def test_garbage(self) -> None:
        """An address that can't be used is a warning that quotes it in one line."""
        with capturedLogs() as captured:
            make_supervision(Clock(), {"NOTIFY_SOCKET": "some\nwhere"}, os.getpid())
        self.assertIn("'some\\nwhere' is neither", lines(captured, "warn")[0])

    def test_too_long(self) -> None:
        """An address that is too long is a warning that says so, and is not tried again."""
        clock = Clock()
        with capturedLogs() as captured:
            supervision = make_supervision(clock, {"NOTIFY_SOCKET": "/" + "x" * 120}, os.getpid())
            supervision.serving(lambda: "")
        (said,) = lines(captured, "warn")
        self.assertIn("/xxx", said)
        self.assertIn("a path of 121 bytes is too long for a Unix socket", said)
        self.assertEqual(clock.getDelayedCalls(), [])
