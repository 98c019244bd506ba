"""Comparisons of HSM's table one after the other: nothing stays wrong, and nobody is wronged."""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs

from hbtd.hsm.client import HSMUnavailable
from hbtd.hsm.difference import Difference, Differences
from hbtd.hsm.listeners import Listeners
from hbtd.hsm.reconciler import ReconcileImpossible
from hbtd.hsm.table import TakeRow
from hbtd.hsm.tellings import NOTES
from hbtd.simulator.hsm_table import ComponentState
from hbtd.store.interface import StoreUnusable
from hbtd.tracker.cohorts import ORDINARY, Limits
from hbtd.tracker.transitions import Phase
from tests.support.hsm_memory import OTHER_URL, URL, WALL, lines, nodes
from tests.support.reconciler_memory import NODES, ReconcilerTestCase


class SlowClock(Clock):
    """Another turn of the reactor begins 5 ms later at the earliest."""

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        return super().callLater(max(delay, 0.005), callable, *args, **kw)


class WaitingTests(ReconcilerTestCase):
    """Who waits to be heard twice is told Ready then, whatever is compared meanwhile."""

    def wait(self) -> None:
        """Have a component wait for its second heartbeat."""
        self.begin(sm_sync=0, warntime=40, errtime=60)
        self.falsify(x0c0s0b0n0="Standby/Alert")
        self.beating.discard(NODES[0])
        answer = self.reconciler.request()
        self.pass_time(3)
        self.beat(NODES[0])
        self.pass_time(9)
        self.successResultOf(answer)
        self.assertEqual(self.reconciler.waiting, 1)

    def assertTold(self) -> None:
        """Assert that the second heartbeat has HSM told."""
        self.beat(NODES[0])
        self.pass_time(2)
        self.assertEqual(self.word(NODES[0]), "Ready/OK")
        self.assertEqual(self.reconciler.waiting, 0)

    def test_dry_run(self):
        """A dry run does not end that."""
        self.wait()
        self.report(dry_run=True)
        self.assertTold()

    def test_failed(self):
        """Nor does a comparison that fails."""
        self.wait()
        answer = self.reconciler.request()
        self.pass_time(3)
        self.hsm.behaviour.lists = False
        self.pass_time(10)
        self.failureResultOf(answer, ReconcileImpossible)
        self.assertTold()

    def test_quick(self):
        """Nor do comparisons between any two heartbeats of a component."""
        self.begin(sm_sync=30, warntime=60, errtime=120)
        self.beating = set()
        self.falsify(x0c0s0b0n0="Standby/Alert")
        for second in range(200):
            if second % 31 == 0:
                self.beat(NODES[0])
            self.advance(1)
        self.assertEqual(self.word(NODES[0]), "Ready/OK")

    def test_told_meanwhile(self):
        """Who is told while the table is read again is told once, whatever was read."""
        self.wait()
        answer = self.reconciler.request()
        self.pass_time(9)
        read = self.client.read_table

        def read_slowly(types: Iterable[str], take: TakeRow) -> Deferred[None]:
            return read(types, take).addCallback(lambda _: deferLater(self.clock, 5))

        self.client.read_table = read_slowly  # type: ignore[method-assign]
        self.pass_time(3)
        self.beat(NODES[0])
        self.pass_time(5)
        self.assertEqual(len(self.successResultOf(answer).unsettled), 1)
        self.beat(NODES[0])
        self.pass_time(3)
        self.beat(NODES[0])
        self.pass_time(20)
        self.assertEqual(self.told(), [("Ready/OK", [NODES[0]])])

    def test_told_just_before(self):
        """So is who is told just before that, and whose row is read before HSM has done it."""
        self.wait()
        answer = self.reconciler.request()
        self.pass_time(8)
        self.hsm.behaviour.cost_ms = 3500
        read = self.client.read_table

        def read_slowly(types: Iterable[str], take: TakeRow) -> Deferred[None]:
            return read(types, take).addCallback(lambda _: deferLater(self.clock, 8))

        self.client.read_table = read_slowly  # type: ignore[method-assign]
        self.beat(NODES[0])
        self.pass_time(12)
        self.assertEqual(len(self.successResultOf(answer).unsettled), 1)
        self.beat(NODES[0])
        self.pass_time(3)
        self.beat(NODES[0])
        self.pass_time(20)
        self.assertEqual(self.told(), [("Ready/OK", [NODES[0]])])

    def test_no_longer_waiting(self):
        """What was counted of a component that is not waited for does not count later."""
        at = {"x0": 1.0}
        earlier = Listeners(at.get)
        earlier.count(["x0"], 0.0)
        for at["x0"] in (2.0, 3.0):
            earlier.look(["x0"])
        earlier.wait_for(Differences(), lambda _: 60.0)
        later = Listeners(at.get, earlier)
        later.count(["x0"], 3.5)
        waiting = Differences([Difference("x0", Phase.HEALTHY, 0.0, "Off/OK")])
        later.wait_for(waiting, lambda _: 60.0)
        at["x0"] = 4.0
        later.look(["x0"])
        self.assertFalse(later.take(["x0"], 4.0))
        at["x0"] = 5.0
        later.look(["x0"])
        self.assertTrue(later.take(["x0"], 5.0))

    def test_right(self):
        """Who is right by the next comparison is not told of again."""
        self.wait()
        self.falsify(x0c0s0b0n0="Ready/OK")
        self.report()
        self.falsify(x0c0s0b0n0="Off/OK")
        self.beat(NODES[0])
        self.pass_time(2)
        self.assertEqual(self.told(), [])


class SlowTests(ReconcilerTestCase):
    """Very many wait, and it takes a while to look at each."""

    make_clock = SlowClock

    def test_looking(self):
        """Nobody is left out, wherever the looks at who was heard are when the waiting begins."""
        for offset in (0.0, 0.015, 0.03, 0.045, 0.06):
            self.begin(sm_sync=0)
            names = nodes(2000)
            self.beating.update(names)
            self.pass_time(4)
            self.falsify(**dict.fromkeys(names, "Standby/Alert"))
            self.advance(offset)
            answer = self.reconciler.request()
            self.pass_time(18)
            self.assertEqual(len(self.successResultOf(answer).waiting), len(names))
            self.assertEqual({self.word(name) for name in names}, {"Ready/OK"}, offset)


class AlarmTests(ReconcilerTestCase):
    """Deaths are told again if they are beyond doubt, and then all of them are."""

    def die(self, *names: str) -> None:
        """Have HSM know components as dead."""
        self.beat(*names)
        self.beating -= {*names}
        self.pass_time(70)
        self.assertEqual({self.word(name) for name in names}, {"Standby/Alert"})
        self.hsm.updates.clear()

    def suspend(self, seconds: float) -> None:
        """Have hbtd be suspended."""
        self.suspended += seconds
        self.clock.rightNow += seconds

    def begin(self, **params: Any) -> None:
        self.suspended = 0.0
        super().begin(**params)

    def make_reconciler(self, observed: Any, *arguments: Any) -> Any:
        return super().make_reconciler(lambda: observed() - self.suspended, *arguments)

    def test_suspended(self):
        """Who may be back since hbtd was suspended is not told dead, whenever that was."""
        for before in (3, 8):
            self.begin(sm_sync=0)
            self.die(NODES[0])
            self.falsify(x0c0s0b0n0="Ready/Warning")
            answer = self.reconciler.request()
            self.pass_time(before)
            self.falsify(x0c0s0b0n0="Ready/OK")
            self.suspend(3600)
            self.advance(3)
            self.assertEqual(self.told(), [])
            self.assertEqual(len(self.successResultOf(answer).unsettled), 1)

    def test_suspended_while_told(self):
        """Nor are those who have yet to be told then."""
        self.begin(sm_sync=0)
        names = nodes(3000)
        self.die(*names)
        self.falsify(**dict.fromkeys(names, "Ready/Warning"))
        self.hsm.behaviour.cost_ms = 20
        answer = self.reconciler.request()
        self.pass_time(12)
        self.successResultOf(answer)
        before = self.notifier.pending_count
        self.assertTrue(0 < before < len(names))
        told = self.reconciler.told_count
        self.suspend(3600)
        self.hsm.behaviour.cost_ms = 0
        self.pass_time(20)
        self.assertEqual(self.notifier.pending_count, 0)
        self.assertTrue(0 < told == self.reconciler.told_count < len(names))

    def test_slow_hsm(self):
        """A comparison that is due waits until HSM was told what an operator wants told."""
        self.begin(sm_sync=60)
        names = nodes(4000)
        self.die(*names)
        self.falsify(**dict.fromkeys(names, "Ready/OK"))
        self.hsm.behaviour.cost_ms = 40
        answer = self.reconciler.request()
        self.pass_time(260)
        self.successResultOf(answer)
        self.assertEqual({self.word(name) for name in names}, {"Standby/Alert"})

    def test_interrupted(self):
        """What an operator wants told is told to its end, if HSM or hbtd is away meanwhile."""
        for sync in (300, 0):
            for away in ("HSM", "hbtd"):
                self.begin(sm_sync=sync)
                names = nodes(3000)
                self.die(*names)
                self.falsify(**dict.fromkeys(names, "Ready/OK"))
                self.hsm.behaviour.cost_ms = 20
                answer = self.reconciler.request()
                self.pass_time(12)
                self.assertEqual(len(self.successResultOf(answer).told), 3000)
                self.assertTrue(0 < self.reconciler.told_count < 3000)
                if away == "HSM":
                    self.hsm.behaviour.ready = False
                    self.pass_time(6)
                    self.hsm.behaviour.ready = True
                else:
                    self.suspend(2)
                self.hsm.behaviour.cost_ms = 1
                self.pass_time(90)
                self.assertEqual({self.word(name) for name in names}, {"Standby/Alert"})

    def approve_early(self, sync: int) -> list[str]:
        """Have an operator want deaths told of a leader that has yet to listen; return of whom."""
        self.begin(sm_sync=sync)
        names = nodes(150)
        self.die(*names)
        self.leading = False
        self.pass_time(3)
        self.leading = True
        self.falsify(**dict.fromkeys(names, "Ready/OK"))
        self.pass_time(2)
        answer = self.reconciler.request()
        self.pass_time(25)
        self.assertEqual(len(self.successResultOf(answer).unsettled), 150)
        self.assertEqual(self.told(), [])
        return names

    def test_approved_early(self):
        """What an operator wants told is told later, too, if the leader has yet to listen."""
        for sync in (300, 0):
            names = self.approve_early(sync)
            self.pass_time(60)
            self.assertEqual({self.word(name) for name in names}, {"Standby/Alert"})

    def test_approved_for_long(self):
        """So it is if some of them may be silent for much longer than others."""
        some = set(nodes(120))
        for sync in (300, 0):
            names = self.approve_early(sync)
            self.tracker.set_limits(lambda x: Limits(100.0, 200.0) if x in some else ORDINARY)
            self.pass_time(60)
            self.assertEqual({self.word(name) for name in names[120:]}, {"Standby/Alert"})
            self.assertEqual({self.word(name) for name in some}, {"Ready/OK"})
            self.pass_time(150)
            self.assertEqual({self.word(name) for name in names}, {"Standby/Alert"})

    def test_approved_early_and_failed(self):
        """So it is if the comparison that is to tell it fails: nobody has asked for that one."""
        for sync in (300, 0):
            names = self.approve_early(sync)
            begun, read = self.reconciler.begun, self.client.read_table
            self.client.read_table = (  # type: ignore[method-assign]
                lambda types, take: fail(HSMUnavailable("503"))
            )
            while not self.reconciler.failures:
                self.pass_time(1)
            self.client.read_table = read  # type: ignore[method-assign]
            self.pass_time(400)
            self.assertEqual({self.word(name) for name in names}, {"Standby/Alert"})
            self.assertLess(self.reconciler.begun - begun, 6)

    def test_approved_for_one_hsm(self):
        """What an operator wants told one HSM is not told another one that comes in its place."""
        self.begin(sm_sync=300)
        names = nodes(3000)
        self.die(*names)
        self.falsify(**dict.fromkeys(names, "Ready/OK"))
        self.hsm.behaviour.cost_ms = 20
        answer = self.reconciler.request()
        self.pass_time(12)
        self.assertTrue(self.reconciler.told_count < len(self.successResultOf(answer).told))
        for name in names:
            self.other.components[name] = ComponentState("Ready", "OK")
        begun = self.reconciler.begun
        self.change(sm_url=OTHER_URL)
        self.pass_time(60)
        self.assertTrue(self.reconciler.begun > begun)
        assert self.reconciler.last is not None
        self.assertTrue(len(self.reconciler.last.held) > 100)

    def test_approved_in_vain(self):
        """What an operator wanted told is held again if that comparison has failed."""
        for sync in (60, 0):
            self.begin(sm_sync=sync)
            names = nodes(150)
            self.die(*names)
            self.falsify(**dict.fromkeys(names, "Ready/OK"))
            answer = self.reconciler.request()
            self.pass_time(5)
            self.hsm.behaviour.database_gone = True
            begun = self.reconciler.begun
            self.pass_time(12)
            if not answer.called:
                self.pass_time(12)
            self.failureResultOf(answer, ReconcileImpossible)
            self.hsm.behaviour.database_gone = False
            self.pass_time(90)
            self.assertEqual(self.told(), [])
            self.assertTrue(self.reconciler.begun - begun <= 3)

    def test_other_hsm_and_back(self):
        """What another HSM's table says is not told the first one when sm_url is set back."""
        self.begin(sm_sync=0)
        self.die(NODES[0])
        self.falsify(x0c0s0b0n0="Ready/OK")
        answer = self.reconciler.request()
        self.pass_time(5)
        self.falsify(x0c0s0b0n0="Off/OK")
        for name in NODES:
            self.other.components[name] = ComponentState("On", "OK")
        self.change(sm_url=OTHER_URL)
        self.other.behaviour.read_ms = 2000
        self.pass_time(6)
        self.change(sm_url=URL)
        self.pass_time(5)
        self.failureResultOf(answer, ReconcileImpossible)
        self.assertEqual(self.told(), [])


class MoreTests(ReconcilerTestCase):
    """What else may happen meanwhile."""

    def log(self, name: str) -> None:
        """Have the log say that a component has entered its phase now."""
        phase = self.tracker.phase(name)
        self.tracker.note_judged(name, phase, WALL + self.clock.seconds(), None)

    def test_counted_while_told(self):
        """A dry run loses no count that has yet to be noted."""
        write = self.store.write_notes
        self.store.write_notes = (  # type: ignore[method-assign]
            lambda kind, notes: fail(StoreUnusable("no"))
        )
        self.falsify(x0c0s0b0n0="Standby/Alert")
        self.report()
        self.pass_time(4)
        self.assertEqual(self.told(), [("Ready/OK", [NODES[0]])])
        self.report(dry_run=True)
        self.store.write_notes = write  # type: ignore[method-assign]
        self.pass_time(2)
        notes = self.successResultOf(self.store.notes(NOTES))
        self.assertEqual(self.reconciler._retelling.tellings.text(NODES[0]), notes[NODES[0]])

    def test_new(self):
        """Who is heard first during a look is not said to be missing in HSM's table."""
        self.hsm.components["x9c0s0b0n0"] = ComponentState("On", "OK")
        notes, read = self.store.notes, Deferred[Any]()
        self.store.notes = lambda kind: read  # type: ignore[method-assign]
        answer = self.reconciler.request()
        self.pass_time(12)
        self.beat("x9c0s0b0n0")
        self.log("x9c0s0b0n0")
        self.store.notes = notes  # type: ignore[method-assign]
        read.callback({})
        self.pass_time(2)
        self.assertEqual(self.successResultOf(answer).unknown, [])

    def test_stop(self):
        """A stop while the table is read is no failure."""
        self.hsm.behaviour.read_ms = 5000
        answer = self.reconciler.request()
        self.pass_time(1)
        with capturedLogs() as events:
            self.successResultOf(self.reconciler.stopService())
        self.failureResultOf(answer, ReconcileImpossible)
        self.assertEqual((self.reconciler.failures, lines(events, "warn")), (0, []))

    def test_unknown_type(self):
        """An HSM that does not know the type of one component is asked for all of them."""
        self.begin(sm_sync=0)
        self.hsm.behaviour.unknown_types = {"VirtualNode"}
        self.falsify(x0c0s0b0n0="Standby/Alert", x0c0s0b0n0v0="Standby/Alert")
        self.beat("x0c0s0b0n0v0")
        self.report()
        self.pass_time(4)
        self.assertEqual(self.word(NODES[0]), "Ready/OK")

    def test_contested_and_changed(self):
        """What has changed is no longer contested, whether it was compared again or not."""
        self.log(NODES[0])
        for _ in range(4):
            self.falsify(x0c0s0b0n0="Ready/Warning")
            self.report()
            self.pass_time(4)
        self.assertEqual(self.reconciler.contested, 1)
        self.assertIn("1 component, first x0c0s0b0n0", self.reconciler.trouble() or "")
        self.beating.discard(NODES[0])
        self.pass_time(12)
        self.beating.add(NODES[0])
        self.pass_time(4)
        self.log(NODES[0])
        self.assertEqual((self.reconciler.contested, self.reconciler.trouble()), (0, None))

    def test_nosm(self):
        """With nosm the report and the log say what would be told."""
        self.change(nosm=True)
        self.falsify(x0c0s0b0n0="Standby/Alert")
        with capturedLogs() as events:
            report = self.report()
        self.assertTrue(report.nosm)
        self.assertIn(
            "would be told again once heard twice: x0c0s0b0n0", str(lines(events, "warn"))
        )
