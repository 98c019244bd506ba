"""The life cycle: parts stop in the reverse order of their start, whatever happens."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.app.life_cycle import LifeCycle
from tests.support.hsm_memory import lines


class LifeCycleTests(SynchronousTestCase):
    """Parts that note what is done to them."""

    def setUp(self):
        """Make a life cycle without parts."""
        self.clock = Clock()
        self.life_cycle = LifeCycle(self.clock, lambda: 5.0)
        self.events = []

    def start(self, name, start=None, stop=None):
        """Start a part; the result of starting it, and that of stopping it, may be given."""

        def started():
            self.events.append(f"start {name}")
            return start

        def stopped():
            self.events.append(f"stop {name}")
            if isinstance(stop, Exception):
                raise stop
            return stop

        return Deferred.fromCoroutine(self.life_cycle.start(name, started, stopped))

    def stop(self):
        """Stop the parts."""
        self.events.clear()
        return Deferred.fromCoroutine(self.life_cycle.stop())

    def test_order(self):
        """Parts start in order, each after the one before it, and stop in the reverse order."""
        waiting: Deferred[None] = Deferred()
        leaving: Deferred[None] = Deferred()
        self.successResultOf(self.start("a"))
        started = self.start("b", start=waiting, stop=leaving)
        self.assertNoResult(started)
        waiting.callback(None)
        self.successResultOf(started)
        self.successResultOf(self.start("c"))
        self.assertEqual(self.events, ["start a", "start b", "start c"])
        stopped = self.stop()
        self.assertEqual(self.events, ["stop c", "stop b"])
        leaving.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.events, ["stop c", "stop b", "stop a"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_start_fails(self):
        """A part whose start fails is stopped, too, and so are those before it."""
        waiting: Deferred[None] = Deferred()
        self.start("a")
        started = self.start("b", start=waiting)
        waiting.errback(ValueError("no"))
        self.failureResultOf(started, ValueError)
        self.successResultOf(self.stop())
        self.assertEqual(self.events, ["stop b", "stop a"])

    def test_start_cancelled(self):
        """A part whose start is cancelled is stopped, and none is started any more."""
        self.start("a")
        started = self.start("b", start=Deferred())
        started.cancel()
        self.failureResultOf(started, CancelledError)
        self.successResultOf(self.stop())
        self.assertEqual(self.events, ["stop b", "stop a"])
        self.failureResultOf(self.start("c"), CancelledError)
        self.assertEqual(self.events, ["stop b", "stop a"])

    def test_stop_fails(self):
        """A part that can't be stopped is logged, and does not keep the others from stopping."""
        self.start("a")
        self.start("b", stop=ValueError("stuck"))
        self.start("c", stop=Deferred())
        with capturedLogs() as events:
            stopped = self.stop()
            self.clock.advance(4.9)
            self.assertEqual(self.events, ["stop c"])
            self.clock.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(self.events, ["stop c", "stop b", "stop a"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertIn("Stopping c takes more than 5 s", lines(events, "error")[0])

    def test_stopped_twice(self):
        """Stopping again does nothing."""
        self.start("a")
        self.successResultOf(self.stop())
        self.successResultOf(self.stop())
        self.assertEqual(self.events, [])
