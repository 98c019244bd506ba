"""The monitor: which judgements heartbeats and silence cause, and what becomes of them."""

from itertools import chain

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from hbtd.store.interface import StoreUnusable
from tests.support.hsm_memory import DIED, RESTARTED, STARTED, WARNED, judge, lines, nodes
from tests.support.monitor_memory import MonitorTestCase

A, B, C = nodes(3)


class LifeTests(MonitorTestCase):
    """The life of a component."""

    def test_life(self):
        """A component starts, goes quiet, comes back, dies and starts again."""
        self.start(warntime=10, errtime=30, interval=5)
        self.beat(A)
        self.advance(0.3)
        self.assertEqual(self.told(A), [STARTED])

        self.beat_for(60, A)
        self.assertEqual(self.told(A), [STARTED])

        self.beat(A)
        self.advance(9.8)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(self.monitor.heartbeating([A, B]), [True, False])
        self.advance(5.5)
        self.assertEqual(self.told(A), [STARTED, WARNED])
        self.assertEqual(self.monitor.heartbeating([A]), [True])

        self.beat(A)
        self.advance(0.3)
        self.assertEqual(self.told(A), [STARTED, WARNED, RESTARTED])

        self.advance(29.4)
        self.assertEqual(self.told(A)[3:], [WARNED])
        self.advance(5.5)
        self.assertEqual(self.told(A)[3:], [WARNED, DIED])
        self.assertEqual(self.monitor.heartbeating([A]), [False])
        self.advance(600)
        self.assertEqual(len(self.told(A)), 5)

        self.beat(A)
        self.advance(0.3)
        self.assertEqual(self.told(A)[5:], [STARTED])
        counts = {STARTED: 2, WARNED: 2, RESTARTED: 1, DIED: 1}
        self.assertEqual(self.monitor.judged, counts)

    def test_back_while_the_store_is_away(self):
        """Who died, and came back, while the store was away is not said to be dead afterwards."""
        self.start(warntime=10, errtime=30, interval=5)
        self.beat(A, B)
        self.advance(25)
        self.assertEqual(self.told(A), [STARTED, WARNED])
        self.store.failures = [StoreUnusable("disk full")] * 1000
        self.advance(20)
        self.beat_for(30, A)
        self.assertEqual(self.told(A), [STARTED, WARNED])
        self.store.failures = []
        self.beat_for(20, A)
        self.assertEqual(self.told(A), [STARTED, WARNED, STARTED])
        self.assertEqual(self.told(B), [STARTED, WARNED, DIED])
        # The log, and so Kafka, has it all.
        committed = [each for each in chain(*self.store.commits) if each.component == A]
        self.assertEqual([each.transition for each in committed], [STARTED, WARNED, DIED, STARTED])

    def test_gathered(self):
        """Components that start within a moment are committed and sent together."""
        self.start()
        names = nodes(80)
        for name in names:
            self.beat(name)
            self.advance(0.001)
        self.advance(0.2)
        self.assertEqual(self.store.commits, [judge(STARTED, *names)])
        self.assertEqual(self.sent(), [(STARTED, names)])

    def test_kept(self):
        """A judgement is stored before it is sent, and stays only while it is true."""
        self.start()
        self.hsm.behaviour.cost_ms = 100
        self.beat(A, B)
        self.advance(0.12)
        self.assertEqual(self.standing(), judge(STARTED, A, B))
        self.advance(0.3)
        self.assertEqual(self.standing(), [])
        self.beat_for(60, B)
        self.assertEqual(self.standing(), judge(DIED, A))
        self.assertEqual(self.successResultOf(self.store.undelivered()), [])

    def test_log(self):
        """Every judgement is logged, with the component's name."""
        with capturedLogs() as events:
            self.start()
            self.beat(A)
            self.advance(60)
        text = "\n".join(lines(events, "info"))
        for what in (STARTED, WARNED, DIED):
            self.assertIn(f"{what.message}: {A}", text)


class SweepTests(MonitorTestCase):
    """When sweeps happen, and what can't prevent them."""

    def test_interval(self):
        """A sweep happens every `interval` seconds."""
        self.start(interval=7)
        self.advance(30)
        self.assertEqual(self.tracker.swept_at, [7, 14, 21, 28])

    def test_arrived_before(self):
        """What arrives before the reactor has looked at the sockets once more still counts."""
        self.start(warntime=10, errtime=30, interval=7)
        self.beat(A)
        # A sweep is due at 14 s; the heartbeat is read in the same round of the reactor.
        self.clock.callLater(13.5, lambda: self.clock.callLater(0.5, self.beat, A))
        self.advance(16)
        self.assertEqual(self.told(A), [STARTED])

    def test_interval_changes(self):
        """A new interval counts from the moment of the change."""
        self.start(interval=1000)
        self.advance(500)
        self.change(interval=4)
        self.advance(13)
        self.assertEqual(self.tracker.swept_at, [504, 508, 512])
        self.change(interval=100, warntime=11)
        self.advance(105)
        self.assertEqual(self.tracker.swept_at[3:], [613])

    def test_other_parameters(self):
        """Changes of other parameters don't move the next sweep."""
        self.start(interval=10)
        self.advance(6)
        self.change(sm_timeout=7, warntime=12)
        self.advance(5)
        self.assertEqual(self.tracker.swept_at, [10])

    def test_times_change(self):
        """New values of `warntime` and `errtime` apply from the next sweep on."""
        self.start(warntime=1000, errtime=2000, interval=5)
        self.beat(A)
        self.advance(50)
        self.change(warntime=20)
        self.advance(5.3)
        self.assertEqual(self.told(A), [STARTED, WARNED])
        self.change(errtime=40)
        self.advance(5.3)
        self.assertEqual(self.told(A), [STARTED, WARNED, DIED])

    def test_fails(self):
        """A sweep that fails is logged, and the next one comes when it is due."""
        self.start()
        self.beat(A)
        self.tracker.failures = [ValueError("one"), KeyError("two")]
        self.advance(60)
        self.assertEqual(len(self.flushLoggedErrors(ValueError, KeyError)), 2)
        self.assertEqual(self.told(A)[-1], DIED)

    def test_portions(self):
        """While a whole machine dies, the reactor runs between batches of judgements."""
        self.start(warntime=10, errtime=10)
        components = nodes(10_000)
        self.beat(*components)
        self.advance(1)
        self.tracker.dead_a_turn_later.clear()
        self.advance(30)
        self.assertEqual(self.tracker.dead, 10_000)
        growing = self.tracker.dead_a_turn_later
        steps = [later - earlier for earlier, later in zip([0, *growing], growing, strict=False)]
        self.assertLessEqual(max(steps), 1000)
        self.assertLessEqual(max(len(commit) for commit in self.store.commits), 1000)
        self.assertEqual({each.state for each in self.hsm.components.values()}, {"Standby"})
        self.assertEqual(len(self.hsm.components), 10_000)

    def test_slow_start(self):
        """Silence counts only from when heartbeats arrive, however long the start takes before."""
        self.begin(warntime=10, errtime=30, interval=5)
        self.notifier.startService()
        now = self.monitor.now()
        self.successResultOf(Deferred.fromCoroutine(self.monitor.start()))
        self.beat(A)
        self.advance(100)
        self.assertEqual(self.told(A), [STARTED])
        self.assertLess(self.monitor.now(), now + 1)
        self.monitor.start_observing()
        self.beat_for(20, A)
        self.advance(16)
        self.assertEqual(self.told(A), [STARTED, WARNED])

    def test_stall(self):
        """However long hbtd itself is stopped, no component is judged for it."""
        for seconds in (0.6, 3, 9, 12, 31, 100, 3600, 1e6, 1e9):
            self.start(warntime=10, errtime=30, interval=5)
            self.beat_for(20, A, B)
            self.clock.advance(seconds)
            self.beat_for(9, A)
            self.beat_for(60, A, B)
            self.assertEqual(self.told(A), [STARTED], seconds)
            self.assertEqual(self.told(B), [STARTED], seconds)

    def test_stall_and_death(self):
        """A component that dies while hbtd is stopped is declared dead in time."""
        self.start(warntime=10, errtime=30, interval=5)
        self.beat_for(20, A, B)
        self.clock.advance(100)
        self.beat_for(10 + 30 + 5.3, A)
        self.assertEqual(self.told(B)[-1], DIED)
        self.assertEqual(self.told(A), [STARTED])
