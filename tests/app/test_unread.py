"""Whose heartbeats may wait to be read, here and at other replicas."""

from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from hbtd.app.unread import UnreadHeartbeats
from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.replicas.applier import source_of
from hbtd.replicas.sign_of_life import MOST_NAMED, Waiting
from hbtd.tracker.components import Unheard
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker
from tests.support.hsm_memory import nodes

A, B, C, D = nodes(4)
HERE, THERE = "10.0.0.1", "10.0.0.2"


class UnreadTests(SynchronousTestCase):
    """A replica of which one address waits, and what others say of theirs."""

    def setUp(self) -> None:
        """Let A beat from `HERE`, B from `THERE`, C on a connection of its own; D did earlier."""
        self.tracker = Tracker()
        self.waiting: set[str | None] = set()
        self.overload = SimpleNamespace(queue_full=False)
        self.checkpointer = SimpleNamespace(late=False, slow=True, behind=9.0, unstored=set)
        self.usable = True
        self.elsewhere: dict[int, Waiting] = {}
        clock = Clock()
        observed = ObservedClock(clock.seconds, lambda: 10.0)
        scheduler = SimpleNamespace(waiting_long=lambda: set(self.waiting))
        for name, source, fresh in ((A, HERE, False), (B, THERE, False), (C, "10.0.0.3", True)):
            self.tracker.beat(name, -100.0, "t", "OK", source, fresh)
        self.tracker.beat(D, -100.0, "t", "OK")
        self.unread = UnreadHeartbeats(
            clock,
            cast("Any", scheduler),
            cast("Any", self.overload),
            self.tracker,
            observed,
            LiveParams(Params()),
            cast("Any", self.checkpointer),
            lambda: self.usable,
            lambda: self.elsewhere,
        )

    def says(self, *components: str, **more: Any) -> None:
        """Check what the sign of life says: this, of those that wait here."""
        addresses = frozenset(address for address in self.waiting if address)
        expected = Waiting(addresses, frozenset(components), **more)
        self.assertEqual(self.unread.waiting(), expected)

    def test_nobody(self) -> None:
        """While nobody waits anywhere, all were heard."""
        self.says()
        self.assertEqual(self.unread.unheard(), Unheard())

    def test_here(self) -> None:
        """Who last beat from an address that waits here is unheard, and who has yet to beat."""
        self.waiting = {HERE}
        self.says(A, D)
        self.assertEqual(self.unread.unheard(), Unheard({HERE, None}))
        self.overload.queue_full = True
        self.says(A, C, D, fresh=True)
        self.assertEqual(self.unread.unheard(), Unheard({HERE, None}, fresh=True))

    def test_elsewhere(self) -> None:
        """So it is if the address, or a full queue, is elsewhere."""
        self.elsewhere = {7: Waiting(frozenset({THERE}))}
        self.says(B, D)
        self.assertEqual(self.unread.unheard(), Unheard({THERE, None}))
        self.elsewhere = {7: Waiting(fresh=True)}
        self.says(C, D)
        self.assertEqual(self.unread.unheard(), Unheard({None}, fresh=True))

    def test_named_elsewhere(self) -> None:
        """Who is named elsewhere is unheard, but is not named here in turn."""
        self.elsewhere = {7: Waiting(components=frozenset({A})), 8: Waiting(everybody=True)}
        self.says()
        expected = Unheard(components=frozenset({A}), everybody=True)
        self.assertEqual(self.unread.unheard(), expected)
        self.elsewhere = {7: Waiting(heard_here=True)}
        self.says()
        self.assertEqual(self.unread.unheard(), Unheard({source_of(7), None}))

    def test_many(self) -> None:
        """Instead of too many components, all that were heard here are named."""
        crowd = nodes(MOST_NAMED)
        self.tracker = self.unread._tracker = Tracker()
        for name in crowd:
            self.tracker.beat(name, -100.0, "t", "OK", HERE)
        self.waiting = {HERE}
        self.says(*crowd)
        self.tracker.beat("s0", -100.0, "t", "OK", HERE)
        self.says(heard_here=True)
        # Those warned about count as well.
        self.tracker.sweep(-80.0, 10.0, 60.0, 1)
        self.says(heard_here=True)

    def test_unstored(self) -> None:
        """Who was heard here is named while that is late to be stored, or all if they are many."""
        self.checkpointer.unstored = lambda: {A, C}
        self.says()
        self.checkpointer.late = True
        self.says(A, C)
        # Here their heartbeats are known.
        self.assertEqual(self.unread.unheard(), Unheard())
        self.checkpointer.unstored = lambda: set(nodes(MOST_NAMED + 1))
        self.says(everybody=True)

    def test_said(self) -> None:
        """A slow store is said once, and when it is over; one that fails is said elsewhere."""
        said: list[str] = []

        def observe(event: LogEvent) -> None:
            if str(event.get("log_namespace")).startswith("hbtd.app.unread"):
                said.append(str(event["log_format"])[:20])

        globalLogPublisher.addObserver(cast("ILogObserver", observe))
        self.addCleanup(globalLogPublisher.removeObserver, cast("ILogObserver", observe))
        for usable, late, slow in (
            (False, True, True),
            (True, True, False),  # it has just failed
            (True, False, False),
            (True, True, True),
            (True, True, True),
            (True, False, False),
        ):
            self.usable = usable
            self.checkpointer.late, self.checkpointer.slow = late, slow
            self.unread.waiting()
        self.assertEqual(said, ["etcd is slow: heartb", "etcd is fast enough "])

    def test_everybody(self) -> None:
        """Everybody is unheard of whom a replica says so."""
        unheard = Unheard(everybody=True)
        self.assertEqual(self.tracker.sweep(-5.0, 10.0, 90.0, 9, unheard), [])
        self.assertEqual(len(self.tracker.sweep(-5.0, 10.0, 90.0, 9)), 4)
