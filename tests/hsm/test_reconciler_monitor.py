"""The comparison of HSM's table beside a monitor: who is forgotten, and what the log has."""

from typing import Any

from twisted.internet.task import deferLater

from hbtd.hsm.reconciler import State
from hbtd.simulator.hsm_table import ComponentState
from hbtd.tracker.transitions import Transition
from tests.support.hsm_memory import DIED, STARTED, WARNED, nodes
from tests.support.monitor_memory import MonitorTestCase

LIVING, WARY, DYING = NODES = nodes(3)
PERIOD = 2.0
"""Seconds between two heartbeats of a node."""


class ComparisonTestCase(MonitorTestCase):
    """Has one node of each kind, and an HSM whose table is wrong about all of them."""

    def begin(self, **params: Any) -> None:
        super().begin(**{"sm_sync": 0, "warntime": 20, "errtime": 60, "interval": 5, **params})
        self.reconciler = self.make_reconciler(self.observed.now, self.tracker, self.store)
        self.start()
        self.addCleanup(self.notifier.stopService)
        self.reconciler.startService()
        self.addCleanup(self.reconciler.stopService)
        self.beat_for(4, *NODES, every=PERIOD)
        self.beat_for(50, LIVING, WARY, every=PERIOD)
        self.beat_for(25, LIVING, every=PERIOD)
        self.assertEqual([self.told(name)[-1] for name in NODES], [STARTED, WARNED, DIED])
        self.hsm.updates.clear()
        for name, row in zip(NODES, (("Off", "OK"), ("On", "OK"), ("Ready", "OK")), strict=True):
            self.hsm.components[name] = ComponentState(*row)

    def request(self) -> None:
        """Request a comparison; each reading of the table takes two seconds, and a note one."""
        self.hsm.behaviour.read_ms = 2000
        write = self.store.write_notes
        self.store.write_notes = lambda *notes: (  # type: ignore[method-assign]
            deferLater(self.clock, 1).addCallback(lambda _: write(*notes))
        )
        self.reconciler.request()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in which one node sends heartbeats."""
        self.beat_for(seconds, LIVING, every=PERIOD)

    def told_again(self) -> list[list[Transition]]:
        """Return what HSM was told of each node since its table was falsified."""
        return [self.told(name) for name in NODES]


class ForgottenTests(ComparisonTestCase):
    """Who is being forgotten is not told again, in whichever phase it was."""

    def forget(self) -> None:
        """Have all nodes forgotten, by a slow store; none is heard any more."""
        self.store.seconds = 5.0
        for name in NODES:
            self.monitor.forget_on_request(name)

    def assert_not_told(self) -> None:
        """Check that HSM is told nothing until the comparison has ended, and a while after that."""
        self.advance(30)
        self.assertEqual((self.reconciler.comparisons, self.reconciler.state), (1, State.IDLE))
        self.assertEqual(self.told_again(), [[], [], []])
        self.assertEqual((self.reconciler.waiting, self.notifier.pending_count), (0, 0))

    def test_not_forgotten(self) -> None:
        """All of these would be told again."""
        self.request()
        self.pass_time(20)
        self.assertEqual(self.told_again(), [[STARTED], [WARNED], [DIED]])

    def test_before(self) -> None:
        """The store is still about to forget them when the comparison begins."""
        self.forget()
        self.request()
        self.assert_not_told()

    def test_first_look(self) -> None:
        """They are forgotten while the table is read for the first time."""
        self.request()
        self.pass_time(1)
        self.assertIs(self.reconciler.state, State.FIRST_LOOK)
        self.forget()
        self.assert_not_told()

    def test_between(self) -> None:
        """They are forgotten between the two looks."""
        self.request()
        self.pass_time(8)
        self.assertIs(self.reconciler.state, State.PAUSE)
        self.forget()
        self.assert_not_told()

    def test_second_look(self) -> None:
        """They are forgotten while the table is read for the second time."""
        self.request()
        self.pass_time(13)
        self.assertIs(self.reconciler.state, State.SECOND_LOOK)
        self.forget()
        self.assert_not_told()

    def test_compared(self) -> None:
        """They are forgotten after the table was compared, while the store notes the difference."""
        self.request()
        self.pass_time(14.5)
        self.assertIs(self.reconciler.state, State.SECOND_LOOK)
        self.forget()
        self.assert_not_told()

    def test_heard_again(self) -> None:
        """Who is forgotten and heard again between the looks is told once, as any newcomer is."""
        self.request()
        self.pass_time(8)
        self.forget()
        self.store.seconds = 0.0
        self.pass_time(22)
        self.assertEqual(self.told_again(), [[STARTED], [], []])


class LogTests(ComparisonTestCase):
    """What is told again has not happened again."""

    def test_log(self) -> None:
        """It gets no entry in the log of transitions, from which Kafka and the events are fed."""
        before = self.successResultOf(self.store.log(0, 1000))
        self.assertEqual(len(before), 6)
        commits = len(self.store.commits)
        self.request()
        self.pass_time(30)
        self.assertEqual(self.told_again(), [[STARTED], [WARNED], [DIED]])
        self.assertEqual(self.successResultOf(self.store.log(0, 1000)), before)
        self.assertEqual(len(self.store.commits), commits)
