"""The notifier when alarms are withdrawn, when `sm_url` changes, and when it stops."""

from twisted.logger import capturedLogs

from tests.support.hsm_memory import (
    DIED,
    OTHER_URL,
    RESTARTED,
    STARTED,
    WARNED,
    StartedTestCase,
    judge,
    lines,
    nodes,
)

A, B, C, D = nodes(4)


class WithdrawTests(StartedTestCase):
    """Components that announce their shutdown."""

    def test_alarms(self):
        """An alarm that waits is not sent any more; a start or restart still is."""
        self.begin(nosm=True)
        for name, what in zip((A, B, C, D), (STARTED, WARNED, RESTARTED, DIED), strict=True):
            self.tell(what, name)
            self.notifier.withdraw(name)
        self.change(nosm=0)
        self.advance(10)
        self.assertCountEqual(self.sent(), [(STARTED, [A]), (RESTARTED, [C])])

    def test_in_flight(self):
        """An alarm in flight is not retried."""
        self.hsm.behaviour.hang = True
        self.tell(DIED, A, B)
        self.notifier.withdraw(A)
        self.hsm.behaviour.hang = False
        self.advance(30)
        self.assertEqual(self.sent(), [(DIED, [A, B]), (DIED, [B])])

    def test_unknown(self):
        """Withdrawing has no effect if nothing waits."""
        self.notifier.withdraw(A)
        self.advance(1)
        self.assertEqual(self.hsm.updates, [])


class HeardSinceTests(StartedTestCase):
    """Components that are heard again before HSM is told of their silence."""

    def test_waiting(self):
        """An alarm that waits is not sent once its component is heard; all else still is."""
        self.begin(nosm=True)
        self.tell(WARNED, A)
        self.tell(DIED, B)
        self.tell(STARTED, C)
        self.notifier.judged(judge(RESTARTED, A, C))
        self.notifier.judged(judge(DIED, B))
        self.change(nosm=0)
        self.advance(10)
        self.assertCountEqual(self.sent(), [(DIED, [B]), (STARTED, [C])])

    def test_set_aside(self):
        """The alarm of a component that is set aside stays, and with it the count of what waits."""
        self.hsm.behaviour.refuse = {A}
        self.tell(DIED, A)
        self.advance_until(lambda: self.notifier.set_aside_count == 1, 60)
        self.notifier.judged(judge(STARTED, A))
        self.assertEqual((self.notifier.set_aside_count, self.notifier.pending_count), (1, 0))
        calls = len(self.clock.getDelayedCalls())
        self.advance(600)
        self.assertLess(len(self.clock.getDelayedCalls()), calls + 5)

    def test_worse_news_waits(self):
        """A warning is told although the news of the death has yet to be committed."""
        self.uncommitted.add(judge(DIED, A))
        self.tell(WARNED, A)
        self.advance(1)
        self.assertEqual(self.sent(), [(WARNED, [A])])

    def test_committed_late(self):
        """An alarm that was committed after its component was heard is not sent at all."""
        self.uncommitted.add(judge(STARTED, A))
        self.tell(DIED, A, B)
        self.advance(1)
        self.assertEqual(self.sent(), [(DIED, [B])])
        self.uncommitted.take(1)
        self.notifier.tell(self.uncommitted.finish(passed_on=True))
        self.advance(1)
        self.assertEqual(self.sent(), [(DIED, [B]), (STARTED, [A])])


class AnotherHSMTests(StartedTestCase):
    """Changes of `sm_url`."""

    def test_pending_moves(self):
        """What waits for the old HSM is sent to the new one, as soon as that is ready."""
        self.other.behaviour.ready = False
        self.hsm.behaviour.fail_status = 500
        self.tell(STARTED, A)
        self.change(sm_url=OTHER_URL)
        self.tell(STARTED, B)
        self.advance(20)
        self.assertEqual((len(self.hsm.updates), len(self.other.updates)), (1, 0))
        self.other.behaviour.ready = True
        self.advance(5)
        self.assertEqual(set(self.other.components), {A, B})
        self.assertEqual(self.notifier.pending_count, 0)

    def test_in_flight_is_sent_again(self):
        """What is just being sent to the old HSM is sent to the new one, too."""
        for how in ({"hang": True}, {"cost_ms": 3000.0}):
            self.begin(sm_retries=0)
            vars(self.hsm.behaviour).update(how)
            self.tell(DIED, A)
            self.advance(1)
            self.change(sm_url=OTHER_URL)
            self.advance(6)
            self.assertEqual([update.names for update in self.other.updates], [[A]])
            self.assertEqual(self.acknowledged, judge(DIED, A))

    def test_not_blamed(self):
        """The failure of an update to the old HSM is not reported of the new one."""
        self.begin(sm_retries=0)
        self.hsm.behaviour.hang = True
        self.tell(DIED, A)
        self.advance(1)
        with capturedLogs() as events:
            self.change(sm_url=OTHER_URL)
            self.advance(1)
        self.assertEqual(lines(events, "warn"), [])
        self.assertEqual(set(self.other.components), {A})

    def test_logged_anew(self):
        """An outage of the new HSM is logged, even after one of the old HSM."""
        self.hsm.behaviour.ready = self.other.behaviour.ready = False
        with capturedLogs() as events:
            self.advance(10)
            self.change(sm_url=OTHER_URL)
            self.advance(10)
            warnings = lines(events, "warn")
            self.assertEqual(len(warnings), 2, warnings)
            self.assertIn("other.example", warnings[1])

    def test_old_answers(self):
        """A late answer of the old HSM about its readiness does not count."""
        self.begin(sm_timeout=4)
        self.hsm.behaviour.hang = self.hsm.behaviour.hang_ready = True
        self.advance(6)
        self.change(sm_url=OTHER_URL)
        self.advance(4)
        self.assertTrue(self.notifier.hsm_ready)


class AwakeTests(StartedTestCase):
    """The notifier never waits while there is something to send."""

    def test_withdrawn_in_a_pause(self) -> None:
        """After a failure, and a withdrawal during the pause, the next judgement is sent."""
        self.hsm.behaviour.fail_status = 500
        self.tell(DIED, A)
        self.advance(0.1)
        self.notifier.withdraw(A)
        self.advance(30)
        self.hsm.behaviour.fail_status = None
        self.tell(DIED, B)
        self.advance(30)
        self.assertIn(B, self.hsm.components)

    def test_rejected_after_a_failure(self) -> None:
        """After a failure and a rejection, the next judgement is sent."""
        self.hsm.behaviour.fail_status = 500
        self.tell(DIED, A)
        self.advance(0.1)
        self.hsm.behaviour.fail_status = None
        self.hsm.behaviour.refuse = {A}
        self.advance(30)
        self.tell(DIED, B)
        self.advance(1)
        self.assertEqual(self.acknowledged, judge(DIED, B))


class StopTests(StartedTestCase):
    """Stopping: what waits is sent, for a limited time."""

    def test_nothing_waits(self):
        """With nothing to send it stops at once."""
        self.tell(STARTED, A)
        self.successResultOf(self.notifier.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drained(self):
        """What waits is sent first, and then it stops at once."""
        self.hsm.behaviour.cost_ms = 1000
        self.tell(STARTED, A)
        self.tell(DIED, B, C)
        stopped = self.notifier.stopService()
        self.advance(2.9)
        self.assertNoResult(stopped)
        self.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(self.sent(), [(STARTED, [A]), (DIED, [B, C])])
        self.assertEqual(len(self.acknowledged), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bounded(self):
        """However HSM fails, it stops after `sm_timeout`, and logs what was not sent."""
        for retries, how in (
            (3, {"hang": True}),
            (0, {"hang": True}),
            (3, {"hang": True, "hang_ready": True}),
            (3, {"fail_status": 500}),
            (0, {"fail_status": 500}),
            (3, {"fail_status": 500, "ready": False}),
            (3, {"cost_ms": 1e6}),
        ):
            self.begin(sm_timeout=6, sm_retries=retries)
            vars(self.hsm.behaviour).update(how)
            self.tell(DIED, A, B)
            self.advance(1)
            with capturedLogs() as events:
                stopped = self.notifier.stopService()
                self.advance(5.9)
                self.assertNoResult(stopped)
                self.advance(0.2)
            self.assertIsNone(self.successResultOf(stopped), how)
            self.assertIn(
                "HSM was not notified of 2 components before hbtd stopped. It will be notified"
                " after the next start; with --kv_url=mem:, it never will be.",
                lines(events, "warn"),
            )
            sent = len(self.hsm.updates)
            self.hsm.behaviour = type(self.hsm.behaviour)()
            self.advance(60)
            self.assertEqual(len(self.hsm.updates), sent, "it goes on")
            self.hsm.stop()
            self.assertEqual(self.clock.getDelayedCalls(), [], how)

    def test_returns_in_time(self):
        """If HSM becomes ready in the meantime, what waits is sent."""
        self.hsm.behaviour.ready = False
        self.advance(5)
        self.tell(DIED, A)
        stopped = self.notifier.stopService()
        self.hsm.behaviour.ready = True
        self.advance(5)
        self.successResultOf(stopped)
        self.assertEqual(self.acknowledged, judge(DIED, A))

    def test_set_aside(self):
        """It does not wait for components that are set aside."""
        self.hsm.behaviour.refuse = {A}
        self.tell(STARTED, A, B)
        self.advance(1)
        self.assertEqual(self.notifier.set_aside_count, 1)
        self.successResultOf(self.notifier.stopService())

    def test_nosm(self):
        """With `nosm` it stops at once."""
        self.begin(nosm=True)
        self.tell(STARTED, A)
        self.successResultOf(self.notifier.stopService())

    def test_withdrawn(self):
        """It does not wait for alarms that are withdrawn."""
        self.hsm.behaviour.ready = False
        self.advance(5)
        self.tell(DIED, A)
        stopped = self.notifier.stopService()
        self.advance(1)
        self.notifier.withdraw(A)
        self.successResultOf(stopped)
