"""What every simulated world sees to: how it ends, and what is taken for a bug of hbtd."""

from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.oracle import Violation
from tests.simulation.single import SingleWorld
from tests.simulation.world import World, logged


class EndTests(SynchronousTestCase):
    """How a world comes to its end."""

    def make(self, quiet: float) -> SingleWorld:
        """Return a world of two nodes in which all goes well."""
        world = SingleWorld(1, kafka=False, with_faults=False, nodes=2, seconds=20.0)
        world.quiet = quiet
        return world

    def test_rest(self) -> None:
        """A world at whose end not all works is wrong: what holds at rest was not seen there."""
        self.make(30.0).run()
        world = self.make(30.0)

        def lose_hsm() -> None:
            world.hsm.change({"ready": False})
            world.oracle.works.set(25.0, False)

        world.clock.at(25.0, lose_hsm)
        error = self.assertRaises(Violation, world.run)
        self.assertIn("does not come to rest", str(error))

    def test_last_death(self) -> None:
        """A node dies for good once all is well, and HSM is told in time."""
        world = self.make(60.0)
        world.with_faults = True
        world._schedule_faults = lambda: None  # type: ignore[method-assign]
        world.run()
        (dead,) = [node for node in world.nodes if not node.alive]
        self.assertEqual(world.oracle.word(dead.name), "standby/alert")


class LogTests(SynchronousTestCase):
    """What hbtd's log says of its bugs."""

    def test_unhandled(self) -> None:
        """A failure of a Deferred that nobody handles is a bug, though hbtd does not log it."""
        failures: list[Any] = []
        truth = SimpleNamespace(note=lambda *_: None)
        world = cast("World", SimpleNamespace(truth=truth, fail=failures.append))
        with logged(world):
            waiting: Deferred[None] = Deferred()
            waiting.errback(ZeroDivisionError("a slip"))
            del waiting
        self.assertEqual([failure.type for failure in failures], [ZeroDivisionError])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
