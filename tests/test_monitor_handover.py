"""What the monitor does with judgements: they are committed, then sent, and may be withdrawn."""

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.tracker.forgotten import ForgottenLately
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Transition
from tests.support.hsm_memory import DIED, RESTARTED, STARTED, WARNED, judge, lines, nodes
from tests.support.monitor_memory import MonitorTestCase

A, B, C = nodes(3)


class StoreTests(MonitorTestCase):
    """A judgement is sent once it is stored, and not before."""

    def unusable(self, times: int) -> None:
        """Let the next commits fail."""
        self.store.failures = [StoreUnusable("disk full")] * times

    def test_unusable(self):
        """While the store fails nothing is sent, and then all, in order; one line is logged."""
        self.start(interval=1)
        with capturedLogs() as events:
            self.unusable(30)
            self.beat(A)
            self.advance(5)
            self.beat(B)
            self.advance(38)
            self.assertEqual(self.store.failures[1:], self.store.failures[:-1])
            self.assertEqual(self.hsm.updates, [])
            self.assertEqual(self.monitor.judged[DIED], 2)
            self.advance(10)
        committed = [each for commit in self.store.commits for each in commit]
        for name in (A, B):
            kept = [each.transition for each in committed if each.component == name]
            self.assertEqual(kept, [STARTED, WARNED, DIED])
            self.assertEqual(self.told(name)[-1], DIED)
        self.assertEqual(len(lines(events, "warn")), 1, lines(events, "warn"))
        self.assertIn("disk full", lines(events, "warn")[0])

    def test_log_from_before(self):
        """Kafka is told what has been committed since the undelivered judgements were asked for."""
        self.begin()
        self.store.commit(judge(STARTED, A))
        self.store.seconds = 1.0
        self.start_monitor()
        self.clock.advance(0.5)
        self.assertIsNone(self.publisher.led_since)
        MemoryStore.commit(self.store, judge(STARTED, B))  # at once
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.publisher.led_since, 1)

    def test_memory(self):
        """A store that reads undelivered judgements from a disk gets to share the tracker's texts.

        Otherwise a start with a million of them takes 150 MB more.
        """
        self.begin()
        self.store.commit(judge(STARTED, A), [Record(A, 0.0, "t", "OK", False)])
        self.start_monitor()
        (name,) = self.tracker.living()
        assert self.store.share is not None
        self.assertIs(self.store.share("".join(list(A)), "t")[0], name)

    def test_unusable_again(self):
        """Each outage of the store is logged."""
        self.start()
        with capturedLogs() as events:
            for name in nodes(3):
                self.unusable(2)
                self.beat(name)
                self.advance(4)
        self.assertEqual(len(lines(events, "warn")), 3)
        self.assertEqual(set(self.hsm.components), set(nodes(3)))

    def test_order(self):
        """Judgements made during a commit that fails are committed after those in it."""
        self.start()
        self.store.seconds = 1.0
        self.unusable(1)
        self.beat(A)
        self.advance(0.5)
        self.beat(B)
        self.advance(10)
        committed = [each for commit in self.store.commits for each in commit]
        self.assertEqual(committed, judge(STARTED, A, B))

    def test_unforeseen(self):
        """An unexpected exception of the store is logged, and no judgement is lost."""
        self.start()
        self.store.failures = [RuntimeError("what is this?")]
        self.beat(A)
        self.advance(5)
        self.beat(B)
        self.advance(5)
        self.flushLoggedErrors(RuntimeError)
        self.assertEqual(set(self.hsm.components), {A, B})

    def test_slow(self):
        """Judgements made during a slow commit are in the next one."""
        self.start()
        self.store.seconds = 2.0
        self.beat(A)
        self.advance(1)
        self.beat(B)
        self.beat(C)
        self.advance(1)
        self.assertEqual(self.hsm.updates, [])
        self.advance(3.5)
        self.assertEqual(self.store.commits, [judge(STARTED, A), judge(STARTED, B, C)])
        self.assertEqual(self.sent(), [(STARTED, [A]), (STARTED, [B, C])])

    def test_undelivered(self):
        """Judgements that HSM has not acknowledged are sent after a start."""
        self.successResultOf(self.store.commit([*judge(STARTED, A), *judge(DIED, B, C)]))
        self.successResultOf(self.store.delivered(judge(DIED, C)))
        self.start()
        self.advance(1)
        self.assertCountEqual(self.sent(), [(STARTED, [A]), (DIED, [B])])
        self.advance(40)
        self.assertEqual(self.standing(), judge(DIED, B, C))

    def test_undelivered_and_news(self):
        """A judgement made while the store is read is not followed by an older one of it."""
        self.successResultOf(self.store.commit(judge(DIED, A)))
        self.store.seconds = 1.0
        self.notifier.startService()
        self.start_monitor()
        self.store.seconds = 0.0
        self.beat(A)
        self.advance(5)
        self.assertEqual(self.hsm.components[A].state, "Ready")
        self.assertEqual(self.told(A)[-1], STARTED)


class LeadTests(MonitorTestCase):
    """A replica becomes the leader after another one."""

    def test_back(self):
        """An alarm that the last leader did not send is not sent about a component that is back."""
        self.start()
        self.monitor.become_follower()
        self.successResultOf(self.store.commit([*judge(DIED, A, B), *judge(WARNED, C)]))
        for name in (A, C):
            self.changes.apply_heartbeat(Record(name, 0.0, "t", "OK", False))
        self.successResultOf(Deferred.fromCoroutine(self.monitor.become_leader()))
        self.advance(2)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(self.told(B), [DIED])
        self.assertEqual(self.told(C), [RESTARTED])

    def test_back_and_being_told(self):
        """A return is sent again later, since HSM may still work on the old alarm."""
        self.start()
        self.monitor.become_follower()
        self.successResultOf(self.store.commit(judge(DIED, A)))
        self.changes.apply_heartbeat(Record(A, 0.0, "t", "OK", False))
        self.successResultOf(Deferred.fromCoroutine(self.monitor.become_leader()))
        for _ in range(10):
            self.advance(4)
            self.beat(A)
        self.assertEqual(self.told(A), [STARTED, STARTED])

    def test_in_the_middle_of_a_sweep(self):
        """A replica that leads again during its last sweep sweeps as usual."""
        self.start(warntime=10, errtime=10, interval=5)
        self.beat(*nodes(5000))
        self.advance_until(lambda: self.monitor.judged[DIED], within=20)
        self.monitor.become_follower()
        self.successResultOf(Deferred.fromCoroutine(self.monitor.become_leader()))
        self.advance(20)
        self.monitor.become_follower()
        swept = list(self.tracker.swept_at)
        self.advance(20)
        self.assertEqual(self.tracker.swept_at, swept)
        self.assertEqual(self.tracker.dead, 5000)


class ForgetTests(MonitorTestCase):
    """A component that is forgotten raises no alarm."""

    def test_alive(self):
        """A healthy component that is forgotten is neither warned about nor declared dead."""
        self.start()
        self.beat(A, B)
        self.advance(5)
        self.monitor.forget(A)
        self.assertEqual(self.monitor.heartbeating([A, B]), [False, True])
        self.advance(120)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(self.told(B), [STARTED, WARNED, DIED])

    def test_warned(self):
        """A component forgotten after a warning is not declared dead, nor kept in the store."""
        self.start()
        self.beat(A)
        self.advance(20)
        self.assertEqual(self.standing(), judge(WARNED, A))
        self.monitor.forget(A)
        self.advance(120)
        self.assertEqual(self.told(A), [STARTED, WARNED])
        self.assertEqual(self.standing(), [])

    def test_returns(self):
        """A heartbeat after that starts it again."""
        self.start()
        self.beat(A)
        self.advance(20)
        self.monitor.forget(A)
        self.beat(A)
        self.advance(1)
        self.assertEqual(self.told(A), [STARTED, WARNED, STARTED])

    def test_once_in_errtime(self):
        """A request to forget a component again too soon has no effect, while it is tracked."""
        self.start()
        self.beat(A, B)
        self.monitor.forget_on_request(A)
        self.monitor.forget_on_request(A)
        self.beat(A)
        error = self.assertRaises(ForgottenLately, self.monitor.forget_on_request, A)
        self.assertEqual(error.seconds, self.params.current.errtime)
        self.assertIn(A, self.tracker)
        self.monitor.forget_on_request(B)
        self.advance(1)
        self.assertEqual(self.told(A), [STARTED])
        self.advance(self.params.current.errtime - 1)
        self.monitor.forget_on_request(A)
        self.assertNotIn(A, self.tracker)

    def test_once_on_all_replicas(self):
        """What another replica was asked to forget counts, whoever leads."""
        self.start()
        for leading in (True, False):
            if not leading:
                self.monitor.become_follower()
                self.advance(self.params.current.errtime)
            self.beat(A)
            self.changes.apply_forget(A)
            self.monitor.forget_on_request(A)
            self.beat(A)
            self.assertRaises(ForgottenLately, self.monitor.forget_on_request, A)
            self.changes.apply_forget(A)
            self.assertNotIn(A, self.tracker)

    def test_unknown(self):
        """Forgetting an unknown component does nothing."""
        self.start()
        self.monitor.forget(A)
        self.advance(1)
        self.assertEqual(self.hsm.updates, [])

    def _judged(self, what: Transition) -> None:
        """Let time pass until A has been judged so."""
        self.advance_until(lambda: self.monitor.judged[what], within=60)

    def test_judged_and_not_committed(self):
        """An alarm that is not committed yet is withdrawn."""
        self.start()
        self.beat(A)
        self._judged(WARNED)
        self.assertEqual(self.told(A), [STARTED])
        self.monitor.forget(A)
        self.advance(60)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(self.standing(), [])

    def test_store_unusable(self):
        """An alarm is withdrawn while the store is unusable."""
        self.start()
        self.beat(A)
        self.advance(1)
        self.store.failures = [StoreUnusable("disk full")] * 30
        self._judged(DIED)
        self.monitor.forget(A)
        self.advance(60)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(self.standing(), [])

    def test_while_it_is_committed(self):
        """An alarm is withdrawn while it is being committed."""
        self.start()
        self.beat(A)
        self.advance(1)
        self.store.seconds = 1.0
        self._judged(WARNED)
        self.advance(0.5)
        self.monitor.forget(A)
        self.advance(60)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(self.standing(), [])

    def test_hsm_away(self):
        """An alarm that waits for HSM is withdrawn; a start is sent."""
        self.hsm.behaviour.ready = False
        self.start()
        self.beat(A)
        self.advance(60)
        self.beat(B)
        self.advance(1)
        self.monitor.forget(A)
        self.monitor.forget(B)
        self.hsm.behaviour.ready = True
        self.advance(10)
        self.assertEqual(self.sent(), [(STARTED, [B])])


class StopTests(MonitorTestCase):
    """Stopping the monitor."""

    def test_judged(self):
        """All judgements are committed and passed on before it stops."""
        self.start()
        self.beat(A)
        stopped = self.stop_monitor()
        self.advance(0.3)
        self.successResultOf(stopped)
        self.assertEqual(self.store.commits, [judge(STARTED, A)])
        self.assertEqual(self.told(A), [STARTED])

    def test_idle(self):
        """Without judgements it stops at once, and sweeps no more."""
        self.start()
        self.beat(A)
        self.advance(7)
        self.successResultOf(self.stop_monitor())
        self.successResultOf(self.notifier.stopService())
        self.advance(60)
        self.assertEqual(self.tracker.swept_at, [5])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_in_a_sweep(self):
        """During a sweep it stops with the judgements made so far."""
        self.start(warntime=10, errtime=10)
        self.beat(*nodes(5000))
        self.advance(14)
        self.clock.callLater(0.999, lambda: stopped.append(self.stop_monitor()))
        stopped: list[Deferred[None]] = []
        self.advance(3)
        self.successResultOf(stopped[0])
        self.assertEqual(len(self.hsm.components), 5000)

    def test_store_unusable(self):
        """An unusable store does not keep it from stopping."""
        self.start()
        self.beat(A)
        self.store.failures = [StoreUnusable("disk full")] * 10_000
        self.advance(1)
        stopped = self.stop_monitor()
        self.advance(self.params.current.sm_timeout + 5)
        self.successResultOf(stopped)
