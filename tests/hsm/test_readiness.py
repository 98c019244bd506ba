"""Whether HSM is ready, which HSM is meant, what is withdrawn, and the end of the notifier."""

from twisted.logger import capturedLogs

from tests.support.hsm_memory import (
    DIED,
    OTHER_URL,
    RESTARTED,
    STARTED,
    WARNED,
    HSMTestCase,
    StartedTestCase,
    judge,
    lines,
    nodes,
)

A, B, C, D = nodes(4)


class ProbeTests(HSMTestCase):
    """How HSM is asked whether it is ready."""

    @property
    def asked(self) -> list[float]:
        """When HSM was asked, in seconds from the beginning."""
        return [round(at - 1000, 6) for at in self.hosts.asked]

    def test_interval(self):
        """It is asked at once, and from then on every 5 seconds, whatever it says."""
        self.notifier.startService()
        self.advance(11)
        self.hsm.behaviour.ready = False
        self.advance(10)
        self.assertEqual(self.asked, [0, 5, 10, 15, 20])

    def test_health(self):
        """People are told how it is."""
        self.assertEqual(self.notifier.health(), "Not ready")
        self.notifier.startService()
        self.assertEqual(self.notifier.health(), "Ready")
        self.hsm.behaviour.ready = False
        self.advance(5)
        self.assertEqual((self.notifier.health(), self.notifier.hsm_ready), ("Not ready", False))
        self.hsm.behaviour.ready = True
        self.advance(5)
        self.assertEqual((self.notifier.health(), self.notifier.hsm_ready), ("Ready", True))

    def test_hanging(self):
        """One that does not answer is not ready, is asked one question at a time, and returns."""
        self.begin(sm_timeout=12)
        self.hsm.behaviour.hang = self.hsm.behaviour.hang_ready = True
        self.notifier.startService()
        self.advance(29)
        self.assertEqual(self.asked, [0, 15])
        self.assertFalse(self.notifier.hsm_ready)
        self.hsm.behaviour.hang = False
        self.advance(5)
        self.assertTrue(self.notifier.hsm_ready)

    def test_nosm(self):
        """With `nosm` it is not asked; once that ends, at once."""
        self.begin(nosm=True)
        self.notifier.startService()
        self.advance(30)
        self.assertEqual(self.asked, [])
        self.change(nosm=0)
        self.assertEqual(self.asked, [30])
        self.change(nosm=1)
        self.assertEqual(self.notifier.health(), "Not ready")
        self.advance(30)
        self.assertEqual(self.asked, [30])

    def test_stopped(self):
        """When the notifier has stopped, nobody is asked any more."""
        self.notifier.startService()
        self.advance(1)
        self.successResultOf(self.notifier.stopService())
        self.advance(60)
        self.assertEqual(self.asked, [0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_log(self):
        """The log has a line at the beginning and one at every change."""
        with capturedLogs() as events:
            self.hsm.behaviour.ready = False
            self.notifier.startService()
            self.advance(60)
            self.assertEqual(len(lines(events, "warn")), 1)
            for count in range(1, 4):
                self.hsm.behaviour.ready = True
                self.advance(60)
                self.assertEqual(len(lines(events, "info")), count)
                self.hsm.behaviour.ready = False
                self.advance(60)
                self.assertEqual(len(lines(events, "warn")), count + 1)

    def test_other_parameters(self):
        """Changes of other parameters leave it in peace."""
        self.notifier.startService()
        self.advance(1)
        self.change(sm_timeout=3, sm_retries=1, warntime=7)
        self.advance(1)
        self.assertEqual(self.asked, [0])
        self.assertTrue(self.notifier.hsm_ready)


class WithdrawTests(StartedTestCase):
    """A component that says goodbye."""

    def test_alarms(self):
        """An alarm that waits is raised no more, a start that waits is told all the same."""
        self.begin(nosm=True)
        for name, what in zip((A, B, C, D), (STARTED, WARNED, RESTARTED, DIED), strict=True):
            self.tell(what, name)
            self.notifier.withdraw(name)
        self.change(nosm=0)
        self.advance(10)
        self.assertCountEqual(self.sent(), [(STARTED, [A]), (RESTARTED, [C])])

    def test_in_flight(self):
        """An alarm on its way is not raised again when that fails."""
        self.hsm.behaviour.hang = True
        self.tell(DIED, A, B)
        self.notifier.withdraw(A)
        self.hsm.behaviour.hang = False
        self.advance(30)
        self.assertEqual(self.sent(), [(DIED, [A, B]), (DIED, [B])])

    def test_unknown(self):
        """Of one about whom there is nothing to say, nothing is withdrawn."""
        self.notifier.withdraw(A)
        self.advance(1)
        self.assertEqual(self.hsm.updates, [])


class AnotherHSMTests(StartedTestCase):
    """`sm_url` changes."""

    def test_pending_moves(self):
        """What waits for the old HSM is told to the new one, as soon as that is ready."""
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

    def test_in_flight_is_told_again(self):
        """What the old HSM is just being told is told to the new one, too."""
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
        """The new HSM is not said to be in trouble for what was under way with the old one."""
        self.begin(sm_retries=0)
        self.hsm.behaviour.hang = True
        self.tell(DIED, A)
        self.advance(1)
        with capturedLogs() as events:
            self.change(sm_url=OTHER_URL)
            self.advance(1)
        self.assertEqual(lines(events, "warn"), [])
        self.assertEqual(set(self.other.components), {A})

    def test_old_answers(self):
        """What the old HSM says of its readiness later counts no more."""
        self.begin(sm_timeout=4)
        self.hsm.behaviour.hang = self.hsm.behaviour.hang_ready = True
        self.advance(6)
        self.change(sm_url=OTHER_URL)
        self.advance(4)
        self.assertTrue(self.notifier.hsm_ready)


class StopTests(StartedTestCase):
    """The end of the notifier: what waits is told, but not for ever."""

    def test_nothing_waits(self):
        """With nothing to say it stops at once."""
        self.tell(STARTED, A)
        self.successResultOf(self.notifier.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_flush(self):
        """What waits is told first, and then it stops at once."""
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
        """Whatever is the matter with HSM, it stops when `sm_timeout` is up, and says so."""
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
            self.assertIn("HSM was not notified of 2 components.", lines(events, "warn"))
            sent = len(self.hsm.updates)
            self.hsm.behaviour = type(self.hsm.behaviour)()
            self.advance(60)
            self.assertEqual(len(self.hsm.updates), sent, "it goes on")
            self.hsm.stop()
            self.assertEqual(self.clock.getDelayedCalls(), [], how)

    def test_returns_in_time(self):
        """When HSM returns in the meantime it is told, and then there is nothing to wait for."""
        self.hsm.behaviour.ready = False
        self.advance(5)
        self.tell(DIED, A)
        stopped = self.notifier.stopService()
        self.hsm.behaviour.ready = True
        self.advance(5)
        self.successResultOf(stopped)
        self.assertEqual(self.acknowledged, judge(DIED, A))

    def test_set_aside(self):
        """It does not wait for HSM to change its mind about those whom it refuses."""
        self.hsm.behaviour.refuse = {A}
        self.tell(STARTED, A, B)
        self.assertEqual(self.notifier.set_aside_count, 1)
        self.successResultOf(self.notifier.stopService())

    def test_nosm(self):
        """With `nosm` there is nobody to wait for, from the beginning or later."""
        self.begin(nosm=True)
        self.tell(STARTED, A)
        self.successResultOf(self.notifier.stopService())

    def test_withdrawn(self):
        """It does not wait for what is withdrawn."""
        self.hsm.behaviour.ready = False
        self.advance(5)
        self.tell(DIED, A)
        stopped = self.notifier.stopService()
        self.advance(1)
        self.notifier.withdraw(A)
        self.successResultOf(stopped)
