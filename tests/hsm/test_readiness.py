"""The readiness probe of HSM."""

from twisted.logger import capturedLogs

from tests.support.hsm_memory import OTHER_URL, HSMTestCase, lines


class ProbeTests(HSMTestCase):
    """When HSM is probed, and what follows from its answers."""

    @property
    def asked(self) -> list[float]:
        """When HSM was probed, in seconds from the beginning."""
        return [round(at - 1000, 6) for at in self.hosts.asked]

    def test_interval(self):
        """HSM is probed at once, and then every 5 seconds, whatever it answers."""
        self.notifier.startService()
        self.advance(11)
        self.hsm.behaviour.ready = False
        self.advance(10)
        self.assertEqual(self.asked, [0, 5, 10, 15, 20])

    def test_health(self):
        """The health text has HSM's readiness."""
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
        """An HSM that does not answer is not ready, and gets one probe at a time."""
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
        """With `nosm` HSM is not probed; when that ends, it is at once."""
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
        """A stopped notifier probes no more."""
        self.notifier.startService()
        self.advance(1)
        self.successResultOf(self.notifier.stopService())
        self.advance(60)
        self.assertEqual(self.asked, [0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_log(self):
        """Readiness is logged at the start and at every change."""
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
        """Changes of other parameters cause no probe."""
        self.notifier.startService()
        self.advance(1)
        self.change(sm_timeout=3, sm_retries=1, warntime=7)
        self.advance(1)
        self.assertEqual(self.asked, [0])
        self.assertTrue(self.notifier.hsm_ready)

    def test_another_hsm(self):
        """After a change of `sm_url` only the new HSM's answers count, and it is probed at once."""
        self.begin(sm_timeout=12)
        self.hsm.behaviour.hang = self.hsm.behaviour.hang_ready = True
        self.notifier.startService()
        self.advance(1)
        self.change(sm_url=OTHER_URL)
        self.advance(0.1)
        self.assertEqual(self.asked, [0, 1])
        self.assertTrue(self.notifier.hsm_ready)
        self.advance(4.9)
        self.assertEqual(self.asked, [0, 1, 6])
        self.advance(20)
        self.assertTrue(self.notifier.hsm_ready)

    def test_stopped_during_a_probe(self):
        """A notifier that stops cancels the probe in progress."""
        self.hsm.behaviour.hang = self.hsm.behaviour.hang_ready = True
        self.notifier.startService()
        self.advance(1)
        with capturedLogs() as events:
            self.successResultOf(self.notifier.stopService())
            self.advance(60)
        self.assertEqual(lines(events, "warn"), [])
        self.assertEqual(self.asked, [0])
