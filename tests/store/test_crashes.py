"""hbtd is killed at any moment, and HSM ends up with the truth all the same."""

from collections.abc import Callable
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.store.interface import StoreUnusable
from tests.support.crashing import Verdict, World
from tests.support.hsm_memory import STARTED, nodes

A, B, C, D = nodes(4)
PERIODS = {A: 0.9, B: 2.3, C: 0.4, D: 1.7}
TIMES = {"warntime": 3, "errtime": 6, "interval": 1}


class EveryPointTests(SynchronousTestCase):
    """One story, with a kill before and after each write of the store."""

    def world(self) -> World:
        """Make a world for the story."""
        return World({A: 0.9, B: 1.3}, warntime=2, errtime=4, interval=1)

    def story(self, world: World) -> None:
        """Let B start, be warned about, come back, die and start again, while A is healthy."""
        steps: tuple[tuple[Callable[..., None], str, float], ...] = (
            (world.start, A, 1.3),
            (world.start, B, 1.6),
            (world.silence, B, 3.2),
            (world.start, B, 1.6),
            (world.silence, B, 6.2),
            (world.start, B, 1.6),
            (world.forget, B, 1.6),
            (world.start, B, 1.6),
        )
        for step, name, seconds in steps:
            step(name)
            # A process that was killed by a write is restarted a moment later.
            for _ in range(round(seconds * 10)):
                world.advance(0.1)
                if world.process is None:
                    world.advance(0.5)
                    world.up()

    def settle(self, world: World) -> None:
        """Restart hbtd, and leave it the time to judge everything."""
        world.restart(1.0)
        world.advance(9)

    def writes(self) -> int:
        """Return the number of writes in the story."""
        world = self.world()
        world.up()
        self.story(world)
        self.settle(world)
        self.assertEqual(Verdict(world).faults(), [])
        return len(world.disk.writes)

    def test_every_point(self):
        """Wherever the story is cut, HSM ends up with the truth, and A is never warned about."""
        writes = self.writes()
        for ending in ("beats", "silent"):
            for crash_after in (False, True):
                for number in range(writes):
                    world = self.world()
                    process = world.up()
                    process.store.crash_in = number
                    process.store.crash_after = crash_after
                    self.story(world)
                    if ending == "silent":
                        world.silence(B)
                    self.settle(world)
                    where = (ending, crash_after, number)
                    self.assertEqual(Verdict(world).faults(), [], where)
                    self.assertEqual(set(world.kinds(A)), {STARTED}, where)


name = st.sampled_from([B, C, D])
moment = st.sampled_from([0.1, 0.3, 0.7, 1.0, 2.0, 3.1, 4.5, 7.0, 9.0])
step = st.one_of(
    st.tuples(st.just("silence"), name, moment),
    st.tuples(st.just("start"), name, moment),
    st.tuples(st.just("forget"), name, moment),
    st.tuples(st.just("kill"), moment, moment),
    st.tuples(st.just("crash"), st.tuples(st.integers(0, 6), st.booleans()), moment),
    st.tuples(st.just("store"), st.booleans(), moment),
    st.tuples(st.just("hsm"), st.booleans(), moment),
    st.tuples(st.just("wait"), st.none(), moment),
)


SENT_AGAIN = [
    ("silence", C, 0.1),
    *[("silence", B, 0.1)] * 4,
    ("wait", None, 0.1),
    *[("silence", B, 0.1)] * 3,
    ("store", True, 0.1),
    ("wait", None, 0.1),
    ("silence", B, 0.1),
    ("silence", B, 0.3),
    ("hsm", False, 7.0),
    ("crash", (0, True), 4.5),
    ("store", False, 7.0),
    ("silence", B, 0.1),
    ("silence", B, 1.0),
    ("silence", B, 9.0),
    ("hsm", True, 9.0),
    ("forget", B, 2.0),
]
"""A component is forgotten while its death is to be sent again, because of an update in doubt."""


class StoryTests(SynchronousTestCase):
    """Any story: nodes come and go, hbtd is killed, the store or HSM fails."""

    def play(self, world: World, what: str, argument: Any) -> None:
        """Let one event happen."""
        if what in ("silence", "start", "forget"):
            getattr(world, what)(argument)
        elif what == "kill":
            world.restart(argument)
        elif what == "crash":
            assert world.process is not None
            world.process.store.crash_in, world.process.store.crash_after = argument
        elif what == "store":
            world.disk.failing = argument
        elif what == "hsm":
            world.hsm.behaviour.ready = argument

    @example(SENT_AGAIN)
    @settings(max_examples=150)
    @given(st.lists(step, max_size=25))
    def test_any_story(self, story):
        """In the end HSM knows the truth, and got no alarm about a healthy component."""
        world = World(PERIODS, **TIMES)
        world.up()
        world.start(A, B)
        for what, argument, seconds in story:
            self.play(world, what, argument)
            for _ in range(round(seconds * 10)):
                world.advance(0.1)
                if world.process is None:
                    world.advance(0.7)
                    world.up()
        world.disk.failing = False
        world.hsm.behaviour.ready = True
        world.advance(2)
        world.restart(1.0)
        world.advance(6 + 3 + 1 + 6)
        # Deliveries could not be marked while the store failed.
        self.flushLoggedErrors(StoreUnusable)
        self.assertEqual(Verdict(world).faults(), [], story)
