"""Self-checks: each finds what it is for, and nothing in an hbtd that works."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.queries.self_checks import (
    JournalCheck,
    SelfChecks,
    clock_check,
    connections_check,
    cursor_check,
    overdue_check,
    queues_check,
)
from hbtd.store.interface import StoreUnusable
from hbtd.store.uncommitted import Uncommitted
from hbtd.tracker.cohorts import Deadlines, Limits
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.hsm_memory import lines


def turn() -> Deferred[None]:
    """Let nobody else work."""
    return succeed(None)


class RunTests(SynchronousTestCase):
    """When the checks run, and what is said of them."""

    def setUp(self):
        self.clock = Clock()
        self.wrong: str | None = None
        self.error: Exception | None = None
        self.asked = 0
        self.checks = SelfChecks(self.clock, {"broken": self.broken, "fine": self.fine})
        self.checks.startService()
        self.addCleanup(self.checks.stopService)

    async def broken(self) -> str | None:
        """Find what the test says."""
        if self.error is not None:
            raise self.error
        return self.wrong

    async def fine(self) -> str | None:
        """Find nothing."""
        self.asked += 1
        return None

    def test_every_minute(self):
        """All checks run once a minute, the first time after a minute."""
        self.clock.pump([1] * 59)
        self.assertEqual(self.checks.runs, 0)
        self.clock.pump([1] * 121)
        self.assertEqual((self.checks.runs, self.asked), (3, 3))
        self.assertEqual((self.checks.failed, self.checks.failures["broken"]), ({}, 0))

    def test_twice_in_a_row(self):
        """What is wrong at one moment only is not said; twice in a row it has failed."""
        self.wrong = "x is y"
        self.clock.advance(60)
        self.wrong = None
        self.clock.advance(60)
        self.wrong = "x is z"
        self.clock.advance(60)
        self.assertEqual((self.checks.failed, self.checks.failures["broken"]), ({}, 0))
        self.clock.advance(60)
        self.assertEqual(self.checks.failed, {"broken": "x is z"})
        self.assertEqual(dict(self.checks.failures), {"broken": 1, "fine": 0})

    def test_said_once(self):
        """A failure is logged once, however long it lasts, and so is its end."""
        with capturedLogs() as events:
            self.wrong = "x is z"
            for _ in range(5):
                self.clock.advance(60)
            self.wrong = None
            self.clock.advance(60)
        (said,) = lines(events, "error")
        self.assertIn("self-check broken has failed, which is a bug in hbtd: x is z.", said)
        self.assertEqual(
            lines(events, "info"), ["The self-check broken finds nothing wrong any more."]
        )
        self.assertEqual(self.checks.failures["broken"], 4)
        self.assertEqual(self.checks.failed, {})

    def test_fails_itself(self):
        """A check that raises has failed, and the others are run nevertheless."""
        self.error = ZeroDivisionError("of a check")
        self.clock.advance(60)
        self.clock.advance(60)
        self.assertIn("ZeroDivisionError('of a check')", self.checks.failed["broken"])
        self.assertEqual(self.asked, 2)

    def test_no_store(self):
        """A check that needs the store says nothing while that can't be used."""
        self.error = StoreUnusable("etcd is away")
        self.clock.advance(60)
        self.clock.advance(60)
        self.assertEqual(self.checks.failed, {})


class CheckCase(SynchronousTestCase):
    """Runs checks at once."""

    def found(self, check: Any) -> str | None:
        """Return what a check finds."""
        said: str | None = self.successResultOf(Deferred.fromCoroutine(check()))
        return said


class TrackerTests(CheckCase):
    """Checks of what is tracked."""

    def setUp(self):
        self.tracker = Tracker()
        self.now = 0.0
        self.observed: Any = SimpleNamespace(now=lambda: self.now, ticked_at=0.0)
        self.params = LiveParams(Params(warntime=10, errtime=30, interval=5))
        self.leading = True
        self.overdue = overdue_check(
            self.tracker, self.observed, self.params, lambda: self.leading, turn
        )
        self.queues = queues_check(self.tracker, turn)

    def beat(self, count: int = 1) -> None:
        """Take a heartbeat of some components."""
        for number in range(count):
            self.tracker.beat(f"x{number}c0s0b0n0", self.now, "", "")

    def test_life(self):
        """While components beat, are warned about, die and return, nothing is found."""
        self.beat(5000)
        for self.now in range(5, 100, 5):
            self.tracker.beat("x1c0s0b0n0", self.now, "", "")
            self.tracker.sweep(self.now, 10, 30, 3000)
            self.assertIsNone(self.found(self.queues))
            self.assertIsNone(self.found(self.overdue))
        self.assertEqual((self.tracker.dead, self.tracker.healthy), (4999, 1))
        self.now += 100_000
        self.tracker.sweep(self.now, 10, 30, 3000)
        self.assertIsNone(self.found(self.overdue))

    def test_not_judged(self):
        """A component that is silent for much longer than Errtime and lives is found."""
        self.beat(5000)
        self.now = 3 * 30 + 3 * 5 + 60.0
        self.assertIsNone(self.found(self.overdue))
        self.now += 1
        said = self.found(self.overdue)
        self.assertEqual(said, "x0c0s0b0n0 has been silent for 166 s and is not declared dead")
        self.leading = False
        self.assertIsNone(self.found(self.overdue))

    def test_warned(self):
        """One that was warned about, and never declared dead, is found, too."""
        self.beat()
        self.tracker.sweep(10, 10, 1000, 3000)
        self.now = 200
        self.assertIn("has been silent for 200 s", str(self.found(self.overdue)))

    def test_own_limits(self):
        """A component with limits of its own is found when it is beyond those, and not before."""
        self.tracker.set_limits(lambda _: Limits(100, 200))
        self.beat()
        self.now = 200 + 2 * 30 + 3 * 5 + 60.0
        self.assertIsNone(self.found(self.overdue))
        self.now += 1
        self.assertIn("has been silent for 336 s", str(self.found(self.overdue)))

    def test_deadlines(self):
        """One that is judged anew, or not at all, is found only when its deadline is over."""
        self.beat(2)
        self.tracker.spare(["x0c0s0b0n0", "x1c0s0b0n0"])
        self.now = 1000.0
        self.tracker.judge_anew(["x1c0s0b0n0"], self.now, (10.0, 30.0))
        self.now += 3 * 30 + 3 * 5 + 60.0
        self.assertIsNone(self.found(self.overdue))
        self.now += 1
        self.assertIn("x1c0s0b0n0 has been silent for 1166 s", str(self.found(self.overdue)))

    def test_held(self):
        """A component whose death is held back is found when its deadline is long over."""
        self.beat()
        self.tracker.sweep(31, 10, 30, 3000, held={"x0c0s0b0n0": Deadlines(1000, 1000, held=True)})
        self.now = 1000 + 2 * 30 + 3 * 5 + 60.0
        self.assertIsNone(self.found(self.overdue))
        self.now += 1
        self.assertIn("has been silent for 1136 s", str(self.found(self.overdue)))

    def test_spared(self):
        """One that is spared is not expected to be declared dead."""
        self.beat()
        self.tracker.spare(["x0c0s0b0n0"])
        self.now = 100_000.0
        self.assertIsNone(self.found(self.overdue))

    def test_two_queues(self):
        """A component in two queues is found."""
        self.beat(5000)
        self.assertIsNone(self.found(self.queues))
        self.tracker._dead["x4999c0s0b0n0"] = self.tracker._healthy["x4999c0s0b0n0"]
        self.assertEqual(
            self.found(self.queues), "x4999c0s0b0n0 is tracked twice, in two different states"
        )


class OtherTests(CheckCase):
    """Checks of the clock, the journal, Kafka's cursor and the connections."""

    def test_clock(self):
        """A clock that is not wound for ten seconds is found, unless hbtd has stopped."""
        observed: Any = SimpleNamespace(ticked_at=100.0)
        now, running = 110.0, True
        check = clock_check(observed, lambda: now, lambda: running)
        self.assertIsNone(self.found(check))
        now = 111.0
        self.assertIn("has not been wound for 11 s", str(self.found(check)))
        running = False
        self.assertIsNone(self.found(check))

    def test_journal(self):
        """The same judgement at the head for a minute is found, unless the store is to blame."""
        uncommitted, usable = Uncommitted(), True
        check = JournalCheck(uncommitted, lambda: usable)
        self.assertIsNone(self.found(check))
        judgements = [Judgement(f"x{n}c0s0b0n0", Transition.DIED, "") for n in range(3)]
        uncommitted.add(judgements)
        self.assertIsNone(self.found(check))
        self.assertIn("3 judgements, from that on x0c0s0b0n0 on,", str(self.found(check)))
        uncommitted.take(1)
        self.assertIn("3 judgements, from that on x0c0s0b0n0 on,", str(self.found(check)))
        uncommitted.finish(passed_on=True)
        self.assertIsNone(self.found(check))
        usable = False
        self.assertIsNone(self.found(check))
        usable = True
        self.assertIsNone(self.found(check))
        self.assertIn("2 judgements", str(self.found(check)))

    def test_cursor(self):
        """A cursor beyond the end of the log is found, on the replica that judges."""
        at: dict[str, Any] = {"cursor": succeed(None), "last": 7}
        store: Any = SimpleNamespace(
            usable=lambda: True,
            cursor=lambda reader: at["cursor"],
            last_number=lambda: at["last"],
        )
        judging = True
        check = cursor_check(store, "kafka", lambda: judging)
        self.assertIsNone(self.found(check))
        at["cursor"] = succeed(7)
        self.assertIsNone(self.found(check))
        at["cursor"] = succeed(8)
        self.assertEqual(
            self.found(check), "the cursor of kafka is at 8, beyond the end of the log at 7"
        )
        judging = False
        self.assertIsNone(self.found(check))
        judging, at["cursor"] = True, fail(StoreUnusable("gone"))
        self.failureResultOf(Deferred.fromCoroutine(check()), StoreUnusable)

    def test_connections(self):
        """A count of an address that is too high or too low is found."""
        present = [SimpleNamespace(host=host) for host in ("a", "a", "b", None)]
        for counted, said in (
            ({"a": 2, "b": 1}, None),
            ({"a": 3, "b": 1}, "a has 2 connections, but 3 are counted"),
            ({"a": 2}, "b has 1 connections, but 0 are counted"),
            ({"a": 2, "b": 1, "c": 1}, "c has 0 connections, but 1 are counted"),
        ):
            check = connections_check(Counter(counted).copy, present, turn)
            self.assertEqual(self.found(check), said)
