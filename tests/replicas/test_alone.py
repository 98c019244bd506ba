"""Leadership, and the replica that has it all the time."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.replicas.alone import Alone
from hbtd.replicas.leadership import Leadership


class LeadershipTests(SynchronousTestCase):
    """Leadership is held until a moment, or until it is released."""

    def setUp(self):
        """Make one that is not held yet."""
        self.clock = Clock()
        self.leadership = Leadership(self.clock.seconds)

    def test_until(self):
        """It ends at its moment, unless it is prolonged before or after that."""
        self.assertFalse(self.leadership.held())
        self.leadership.hold(10.0)
        self.clock.advance(9.9)
        self.assertTrue(self.leadership.held())
        self.clock.advance(0.1)
        self.assertFalse(self.leadership.held())
        self.leadership.hold(11.0)
        self.assertTrue(self.leadership.held())

    def test_release(self):
        """It ends when it is released."""
        self.leadership.hold(10.0)
        self.leadership.release()
        self.assertFalse(self.leadership.held())

    def test_alone(self):
        """A replica that is alone leads from its start to its stop, without waiting."""
        alone = Alone(self.leadership, "hbtd-1:28500")
        self.assertFalse(self.leadership.held())
        self.assertIsNone(alone.leader)
        alone.startService()
        self.successResultOf(Deferred.fromCoroutine(alone.wait_until_synchronized(5.0)))
        self.clock.advance(1e9)
        self.assertEqual(alone.leader, "hbtd-1:28500")
        self.assertTrue(self.leadership.held())
        self.successResultOf(alone.stopService())
        self.assertFalse(self.leadership.held())
