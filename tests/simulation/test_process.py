"""The processes of the simulated worlds: what their reactors do, and when."""

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.clock import WorldClock
from tests.simulation.process import Process, ProcessReactor


class TimerTests(SynchronousTestCase):
    """Calls that a process makes later."""

    def setUp(self):
        self.clock = WorldClock()
        self.failures: list[Failure] = []
        self.process = Process(self.clock, lambda: 0.0, self.failures.append)
        self.reactor = ProcessReactor(self.process, None, "10.0.0.1")
        self.made: list[float] = []

    def tearDown(self):
        self.assertEqual(self.failures, [])

    def later(self, seconds):
        return self.reactor.callLater(seconds, lambda: self.made.append(self.clock.now))

    def at(self, time, call):
        self.clock.at(time, lambda: self.process.input(call))

    def test_put_off(self):
        """A call that is put off, also more than once, is made later."""
        call = self.later(3)
        self.at(1, lambda: call.reset(3))
        self.at(2, lambda: call.delay(1))
        self.at(4.5, lambda: call.reset(3))
        self.clock.run(20)
        self.assertEqual(self.made, [7.5])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_brought_forward(self):
        """A call that is brought forward, and put off again, is made once."""
        call = self.later(10)
        self.at(1, lambda: call.reset(2))
        self.at(2, lambda: call.reset(20))
        self.clock.run(30)
        self.assertEqual(self.made, [22.0])

    def test_cancelled(self):
        """A call that was put off and then cancelled is not made."""
        call = self.later(3)
        self.at(1, lambda: call.reset(3))
        self.at(2, call.cancel)
        self.clock.run(20)
        self.assertEqual(self.made, [])

    def test_stopped(self):
        """While the process is stopped no call is made; one that is due is made when it goes on."""
        self.later(3)
        self.clock.at(2, self.process.stop)
        self.clock.at(9, self.process.resume)
        self.clock.run(20)
        self.assertEqual(self.made, [9.0])
