"""Tests of thresholds as they change: in the store, in the tracker, and between sweeps."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.rules.live_thresholds import KIND, NAME, LiveThresholds
from hbtd.rules.thresholds import PORTION, Thresholds, build_at_once, parse
from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.settings import Setting
from hbtd.tracker.components import Component
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase
from tests.support.hsm_memory import DIED, WARNED, nodes
from tests.support.monitor_memory import MonitorTestCase

A, B, C = nodes(3)


class BusyClock(Clock):
    """A clock on which whatever is to be done at once is done later, as on a busy machine."""

    pause = 0.0
    """The seconds until then."""

    def callLater(self, delay: float, *args: Any, **kw: Any) -> Any:
        """Call a function later."""
        return super().callLater(delay or self.pause, *args, **kw)


def table(**times: Any) -> Thresholds:
    """Return a table with a row for each argument: two times for a component or a type."""
    rows = [
        {"Match": match, "Warntime": warntime, "Errtime": errtime}
        for match, (warntime, errtime) in times.items()
    ]
    return build_at_once(parse(rows))


class LiveTestCase(SynchronousTestCase):
    """Has the thresholds in force, a store in memory, a tracker and the time."""

    def setUp(self) -> None:
        self.clock = BusyClock()
        self.clock.advance(1000)
        self.store = MemoryStore()
        self.tracker = Tracker()
        self.params = LiveParams(Params(kv_url="mem:", warntime=10, errtime=30))
        self.live = self.make()

    def make(self) -> LiveThresholds:
        """Return the thresholds of a process that starts now."""
        return LiveThresholds(self.clock, self.clock.seconds, self.tracker, self.store, self.params)

    def beat(self, *names: str) -> None:
        """Let components send a heartbeat."""
        for name in names:
            self.tracker.beat(name, self.clock.seconds(), "", "")

    def sweep(self) -> list[tuple[str, Any]]:
        """Sweep by the parameters, and return who was judged, and how."""
        judgements = self.tracker.sweep(self.clock.seconds(), 10, 30, 500)
        return [(each.component, each.transition) for each in judgements]

    def put(self, made: Thresholds) -> None:
        """Set a table, and let it come into force."""
        done = self.live.put(made)
        while not done.called:
            self.clock.advance(0)
        self.successResultOf(done)

    def judged(self, seconds: int) -> list[tuple[int, str, Any]]:
        """Sweep each second for some seconds; return who was judged when, and how."""
        found = []
        for second in range(1, seconds + 1):
            self.clock.advance(1)
            found += [(second, *each) for each in self.sweep()]
        return found


class ChangeTests(LiveTestCase):
    """Tests of what a change of the table does to components."""

    def test_new_times(self) -> None:
        """From a change on, components start and are judged by the times in the table."""
        self.put(table(**{A: (2, 4)}))
        self.beat(A, B)
        self.assertEqual(
            self.judged(30), [(2, A, WARNED), (4, A, DIED), (10, B, WARNED), (30, B, DIED)]
        )
        self.assertEqual((self.live.times(A), self.live.times(B)), ((2, 4), (10, 30)))

    def test_shortened_while_silent(self) -> None:
        """Whoever is silent when its times are shortened has all of them from then on."""
        self.beat(A, B)
        self.clock.advance(9)
        self.put(table(**{A: (2, 4)}))
        self.assertEqual(self.judged(6), [(1, B, WARNED), (2, A, WARNED), (4, A, DIED)])

    def test_lengthened_while_silent(self) -> None:
        """Whoever is silent when its times are lengthened is not judged by those before."""
        self.beat(A, B)
        self.clock.advance(9)
        self.put(table(**{A: (60, 90)}))
        self.assertEqual(
            self.judged(100), [(1, B, WARNED), (21, B, DIED), (60, A, WARNED), (90, A, DIED)]
        )

    def test_removed(self) -> None:
        """Without the table everybody is judged by the parameters, and the store has none."""
        self.put(table(**{A: (60, 90)}))
        self.beat(A)
        self.clock.advance(50)
        self.put(table())
        self.assertEqual(self.judged(40), [(10, A, WARNED), (30, A, DIED)])
        self.assertEqual(self.store.settings.texts(KIND), {})

    def test_others_stay(self) -> None:
        """Nothing changes for a component whose times are the same in both tables."""
        self.put(table(**{A: (5, 8), "Node": (20, 40)}))
        self.beat(A, B, C)
        self.clock.advance(4)
        self.put(table(**{A: (5, 8), B: (20, 40), "Node": (20, 50)}))
        self.assertEqual(self.judged(20)[:3], [(1, A, WARNED), (4, A, DIED), (16, B, WARNED)])

    def test_warned(self) -> None:
        """Whoever was warned about stays so, and is declared dead by the new time."""
        self.beat(A)
        self.clock.advance(10)
        self.assertEqual(self.sweep(), [(A, WARNED)])
        self.put(table(**{A: (60, 90)}))
        self.assertEqual(self.judged(100), [(90, A, DIED)])

    def test_spared(self) -> None:
        """Whoever is spared stays so."""
        self.beat(A)
        self.tracker.spare([A])
        self.put(table(**{A: (2, 4)}))
        self.assertEqual(self.judged(100), [])

    def test_nobody_who_beats(self) -> None:
        """However long a change takes, nobody is judged who has beaten in time meanwhile."""
        names = nodes(6 * PORTION)
        self.beat(*names)
        self.clock.pause = 0.7
        done = self.live.put(table(Node=(1, 2)))
        for _ in range(6):
            self.assertNoResult(done)
            self.clock.advance(0.7)
            self.assertEqual(self.sweep(), [])
            self.beat(*names)
        self.successResultOf(done)
        self.assertEqual({(at, what) for at, _, what in self.judged(1)}, {(1, WARNED)})

    def test_few_cohorts(self) -> None:
        """A change that takes many portions of work makes few cohorts."""
        self.beat(*nodes(20 * PORTION))
        self.clock.pause = 0.1
        done = self.live.put(table(Node=(20, 40)))
        for _ in range(20):
            self.assertNoResult(done)
            self.clock.advance(0.1)
        self.successResultOf(done)
        self.assertEqual(len(self.tracker._others), 3)

    def test_count(self) -> None:
        """The number of components of each row is counted, in portions, by the row that applies."""
        names = nodes(PORTION + 2)
        self.put(table(**{A: (1, 2), "NodeBMC": (1, 2), "Node": (2, 3), B: (5, 6)}))
        self.beat(*names)
        turns: list[int] = []

        def turn() -> Deferred[None]:
            turns.append(1)
            return succeed(None)

        counts = self.successResultOf(Deferred.fromCoroutine(self.live.count(turn)))
        self.assertEqual((counts, len(turns)), ([1, 0, PORTION + 1, 0], 1))


class _Failing(MemoryStore):
    """A store that takes no settings."""

    def write_settings(self, settings: Iterable[Setting]) -> Deferred[None]:
        return fail(StoreUnusable("disk full"))


class StoreTests(LiveTestCase):
    """Tests of what is in the store."""

    def write(self, text: str | None) -> None:
        """Write a table, as another replica does."""
        self.successResultOf(self.store.write_settings([Setting(KIND, NAME, text)]))

    def test_at_the_start(self) -> None:
        """What is in the store is in force as soon as it is known, before there are components."""
        text = table(**{A: (2, 4), "x[1-2000]": (3, 4)}).text
        with capturedLogs() as logs:
            self.store.settings.replace([(Setting(KIND, NAME, text), 0)])
        self.assertEqual(self.tracker.own_limits(A), (2, 4))
        self.assertEqual(
            [formatEvent(each) for each in logs],
            ["Thresholds in force: x0c0s0b0n0: Warntime 2 s, Errtime 4 s; x[1-2000]: Warntime 3 s,"
             " Errtime 4 s."],
        )  # fmt: skip

    def test_elsewhere(self) -> None:
        """What another replica sets comes into force here, in portions if there are components."""
        self.beat(A)
        self.write(table(**{"x[1-2000]": (3, 4), A: (2, 4)}).text)
        self.assertEqual(self.live.times(A), (10, 30))
        while self.clock.getDelayedCalls():
            self.clock.advance(0)
        self.assertEqual(self.live.times(A), (2, 4))

    def test_one_after_another(self) -> None:
        """Of changes in quick succession the last one is in force at the end."""
        self.beat(A)
        done = [self.live.put(table(**{A: (n, 60)})) for n in range(1, 6)]
        self.write(table(**{B: (7, 8)}).text)
        while not all(each.called for each in done):
            self.clock.advance(0)
        self.assertEqual([self.live.times(name) for name in (A, B)], [(10, 30), (7, 8)])
        self.assertEqual(self.judged(40), [(10, A, WARNED), (30, A, DIED)])

    def test_unusable(self) -> None:
        """A text in the store that is no table changes nothing, and is logged."""
        self.put(table(**{A: (2, 4)}))
        with capturedLogs() as logs:
            self.write('[{"Match":"nid1"}]')
        self.assertEqual(self.live.times(A), (2, 4))
        (line,) = map(formatEvent, logs)
        self.assertIn("can't be used, so those before stay in force: Row 1 matches 'nid1'", line)
        self.put(table(**{A: (3, 4)}))
        self.assertEqual(self.live.times(A), (3, 4))

    def test_store_fails(self) -> None:
        """If the table can't be stored, nothing changes, and whoever sets it is told."""
        self.store = _Failing()
        self.live = self.make()
        failure = self.failureResultOf(self.live.put(table(**{A: (2, 4)})), StoreUnusable)
        self.assertIn("disk full", str(failure.value))
        self.assertEqual(self.live.times(A), (10, 30))

    def test_failure(self) -> None:
        """After a change that fails the next one is made, and nothing waits for the failed one."""
        self.beat(A)
        self.patch(self.tracker, "apply_limits", lambda *_: 1 / 0)
        done = self.live.put(table(**{A: (2, 4)}))
        self.clock.advance(0)
        self.successResultOf(done)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(self.successResultOf(Deferred.fromCoroutine(self.live.settle())))
        del self.tracker.__dict__["apply_limits"]
        self.put(table(**{A: (3, 4)}))
        self.assertEqual(self.tracker.own_limits(A), (3, 4))

    def test_doubts(self) -> None:
        """By which rows nobody is warned about is logged, also when the parameters change."""
        made = table(**{A: (20, None)})
        with capturedLogs() as logs:
            self.put(made)
            self.params.patch({"Debug": "0", "Interval": "7"})
            self.assertEqual(list(logs), [])
            self.params.patch({"Errtime": "15"})
        (line,) = map(formatEvent, logs)
        self.assertEqual(
            line,
            f"No component of row 1 ({A}) is warned about before it is declared dead: Warntime is"
            " 20 s, Errtime 15 s.",
        )


class SettleTests(LiveTestCase):
    """Tests of waiting for a change."""

    def settle(self) -> Deferred[bool]:
        """Wait for a change, and return whether it was necessary."""
        return Deferred.fromCoroutine(self.live.settle())

    def test_nothing(self) -> None:
        """Without a change nothing is waited for."""
        self.assertFalse(self.successResultOf(self.settle()))
        self.put(table(**{A: (2, 4)}))
        self.assertFalse(self.successResultOf(self.settle()))

    def test_change(self) -> None:
        """While a change comes into force it is waited for, and not longer."""
        self.beat(*nodes(2 * PORTION))
        self.clock.pause = 0.1
        self.live.put(table(**{A: (2, 4)}))
        waiting = [self.settle(), self.settle()]
        self.clock.advance(0.1)
        self.assertNoResult(waiting[0])
        self.clock.advance(0.1)
        self.assertEqual([self.successResultOf(each) for each in waiting], [True, True])
        self.assertFalse(self.successResultOf(self.settle()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_without_end(self) -> None:
        """Changes that follow one another without end hold nobody for more than five seconds."""
        self.beat(A)
        self.clock.pause = 0.1
        held = 0.0
        for number in range(200):
            self.live.put(table(**{A: (2 + number % 2, 4)}))
            waiting = self.settle()
            if not waiting.called:
                held += 0.1
            self.clock.advance(0.1)
            self.assertTrue(waiting.called)
        self.assertApproximates(held, 10, 0.5)

    def test_too_long(self) -> None:
        """A change that takes too long is not waited for."""
        self.beat(*nodes(10 * PORTION))
        self.clock.pause = 1.0
        done = self.live.put(table(**{A: (2, 4)}))
        waiting = self.settle()
        self.clock.advance(4.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.assertTrue(self.successResultOf(waiting))
        self.assertFalse(self.successResultOf(self.settle()))
        self.clock.pump([1.0] * 10)
        self.successResultOf(done)


class SweepTests(MonitorTestCase):
    """Tests of sweeps of a monitor while a change comes into force."""

    clock: BusyClock

    def make_clock(self) -> BusyClock:
        return BusyClock()

    def test_held(self) -> None:
        """No sweep judges by times that are just being lengthened, nor is one left out."""
        names = nodes(6 * PORTION - 1)
        self.start(warntime=10, errtime=30, interval=1)
        self.beat(*names, "x0c0s0b0")
        self.advance(9.5)
        self.clock.pause = 0.6
        done = self.thresholds.put(table(Node=(60, 90)))
        self.advance(3.5)
        self.assertEqual(self.monitor.judged[WARNED], 0)
        self.assertNoResult(done)
        self.advance(0.2)
        self.successResultOf(done)
        self.advance(0.8)
        self.assertEqual(self.monitor.judged[WARNED], 1)
        self.assertEqual(self.tracker.phase("x0c0s0b0"), Phase.WARNED)
        self.clock.pause = 0.0
        self.advance(56)
        self.assertEqual(self.monitor.judged[WARNED], 1)
        self.advance(5.5)
        self.assertEqual(self.monitor.judged[WARNED], 1 + len(names))


class _Counted(Component):
    """A component that counts how often it is looked at."""

    __slots__ = ("_at",)
    looks = 0

    @property
    def last_heard(self) -> float:
        """The time of the last heartbeat."""
        _Counted.looks += 1
        return self._at

    @last_heard.setter
    def last_heard(self, at: float) -> None:
        self._at = at


class CostTests(LiveTestCase):
    """Tests of what judging costs with a hundred thresholds."""

    def looks(self, members: int) -> tuple[int, int]:
        """Return how many looks at components two sweeps take: of nobody, and of three overdue.

        There are a hundred thresholds, with so many members each.
        """
        self.setUp()
        self.patch(_Counted, "looks", 0)
        import hbtd.tracker.tracker as module

        self.patch(module, "Component", _Counted)
        rows = {f"x{row}c0s[0-{members - 1}]b0n0": (row + 10, row + 20) for row in range(99)}
        self.put(table(**rows, Node=(500, 600)))
        self.clock.advance(1)
        overdue = ["x0c0s0b0n0", "x1c0s0b0n0", "x2c0s0b0n0"]
        self.beat(*overdue)
        self.clock.advance(12)
        self.beat(*(f"x{row}c0s{n}b0n0" for row in range(101) for n in range(1, members)))
        self.beat("x1c0s0b0")
        _Counted.looks = 0
        self.assertEqual(len(self.sweep()), 3)
        with_changes, _Counted.looks = _Counted.looks, 0
        self.assertEqual(self.sweep(), [])
        return _Counted.looks, with_changes

    def test_sweep(self) -> None:
        """A sweep looks at as many entries, however many components have times of their own."""
        few, many = self.looks(5), self.looks(50)
        self.assertEqual(few, many)
        nobody, with_changes = many
        self.assertLessEqual(nobody, 2 * 101 + 3)
        self.assertLess(with_changes, nobody + 20)

    def test_beat(self) -> None:
        """A heartbeat looks at no other component, and at no row."""
        self.put(table(**{f"x{row}": (row + 1, row + 2) for row in range(99)}, Node=(500, 600)))
        self.beat(*nodes(50))
        limits_of = self.tracker._limits_of
        self.tracker.set_limits(lambda _: self.fail("a row was looked for"))
        self.beat(*nodes(50))
        self.tracker.set_limits(limits_of)
        (cohort,) = self.tracker._others.values()
        self.assertIsInstance(cohort.healthy, OrderedDict)
        self.assertEqual(list(cohort.healthy), nodes(50))
