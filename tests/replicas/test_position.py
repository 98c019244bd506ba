"""How far a replica has followed etcd."""

from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from hbtd.replicas.position import Position, State


class PositionTests(SynchronousTestCase):
    """The states, one after another."""

    def setUp(self) -> None:
        """Read all keys, as of revision 10, and begin to watch."""
        self.position = Position()
        self.assertEqual((self.position.state, self.position.revision), (State.LOADING, 0))
        self.position.loaded(10)
        self.position.watching()

    def test_write_reported(self) -> None:
        """A replica is synchronized once the watch has reported its first write, not before."""
        self.assertFalse(self.position.applied(11))
        self.assertFalse(self.position.wrote(13))
        self.assertFalse(self.position.wrote(15))
        self.assertFalse(self.position.applied(12))
        self.assertTrue(self.position.applied(13))
        self.assertTrue(self.position.synchronized)
        self.assertFalse(self.position.applied(14), "it has become so once")

    def test_reported_before_the_answer(self) -> None:
        """The watch may report a write before etcd has answered it."""
        self.assertFalse(self.position.applied(13))
        self.assertTrue(self.position.wrote(13))

    def test_watch_ended(self) -> None:
        """After the watch has ended only a write in the next one counts."""
        self.position.wrote(11)
        self.position.applied(11)
        self.assertTrue(self.position.fall_behind())
        self.assertFalse(self.position.fall_behind())
        self.position.watching()
        self.assertFalse(self.position.applied(12))
        self.assertTrue(self.position.wrote(12))

    def test_unloaded(self) -> None:
        """While all keys have to be read, nothing makes a replica synchronized."""
        self.position.unload()
        self.assertEqual((self.position.state, self.position.revision), (State.LOADING, 0))
        self.assertFalse(self.position.wrote(11))
        self.assertFalse(self.position.synchronized)

    def test_lost(self) -> None:
        """An etcd whose revision is lower than one seen has lost its data, if that was complete."""
        self.assertFalse(self.position.lost(9))
        self.position.wrote(11)
        self.position.applied(11)
        self.position.unload()
        self.assertTrue(self.position.lost(10))
        self.assertFalse(self.position.lost(11))


class Story(RuleBasedStateMachine):
    """Any order of events."""

    def __init__(self) -> None:
        super().__init__()
        self.position = Position()
        self.newest = 1
        self.first_write = 0
        self.watched = False

    @rule()
    def load(self) -> None:
        """Read all keys, and watch."""
        self.position.loaded(self.newest)
        self.position.watching()
        self.watched, self.first_write = True, 0

    @rule()
    def write(self) -> None:
        """Write, as long as a watch goes on."""
        if self.watched:
            self.newest += 1
            self.first_write = self.first_write or self.newest
            self.position.wrote(self.newest)

    @rule()
    def others_write(self) -> None:
        """Let another replica write."""
        self.newest += 1

    @rule()
    def report(self) -> None:
        """Report one more revision."""
        if self.watched and self.position.revision < self.newest:
            self.position.applied(self.position.revision + 1)

    @rule()
    def end(self) -> None:
        """End the watch, so that all keys have to be read."""
        self.position.fall_behind()
        self.position.unload()
        self.watched = False

    @invariant()
    def synchronized(self) -> None:
        """Check that it is synchronized exactly if this watch has reported its first write."""
        expected = self.watched and 0 < self.first_write <= self.position.revision
        assert self.position.synchronized == expected


class StoryTests(SynchronousTestCase):
    """Stories of all kinds."""

    def test_any_story(self) -> None:
        """A replica is synchronized exactly while it must be."""
        run_state_machine_as_test(Story)
