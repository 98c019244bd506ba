"""Who is absent and who is off, as HSM's table says; nothing follows from it."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.hsm.second_signal import Expected, SecondSignal
from hbtd.hsm.table import TakeRow
from hbtd.simulator.hsm_table import ComponentState, Selection
from hbtd.tracker.tracker import Tracker
from tests.support.hsm_memory import OTHER_URL, URL, WALL
from tests.support.reconciler_memory import NODES, ReconcilerTestCase

UP = [f"x7c0s0b0n{number}" for number in range(4)]


class LooksTestCase(SynchronousTestCase):
    """Has a signal, whose looks at HSM's table a test makes itself."""

    def setUp(self) -> None:
        self.begin()

    def begin(self, **params: Any) -> None:
        """Begin anew, with other parameters."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.standing = 0.0
        self.tracker = Tracker()
        self.leading = True
        self.params = LiveParams(Params(**{"sm_url": URL, "boot_time": 600, **params}))
        self.signal = SecondSignal(
            self.clock,
            lambda: WALL + self.clock.seconds(),
            lambda: self.clock.seconds() - self.standing,
            self.params,
            self.tracker,
            lambda: self.leading,
        )
        self.signal.startService()
        self.addCleanup(self.signal.stopService)

    def look(self, *names: str, state: str = "On", enabled: bool = True) -> None:
        """Look at a table with these rows."""
        reading = self.signal.begin()
        for name in names:
            reading.add(name, state, enabled=enabled)
        self.signal.take(reading)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the signal review who was heard."""
        self.clock.advance(seconds)
        self.clock.pump([1.0, 0.0, 0.0])
        self.clock.pump([1.0, 0.0, 0.0])

    def hear(self, name: str) -> None:
        """Take a heartbeat."""
        self.tracker.beat(name, self.clock.seconds() - self.standing, "t", "OK")

    def absent(self) -> list[str]:
        """Return who is absent."""
        return sorted(self.signal.absent)


class AbsentTests(LooksTestCase):
    """Nodes that never arrived."""

    def test_absent(self) -> None:
        """A node that is up in the table, and not heard for boot_time since, is absent."""
        self.look(*UP[:2])
        self.pass_time(590)
        self.assertEqual((self.absent(), self.signal.health()), ([], None))
        self.hear(UP[1])
        self.pass_time(10)
        self.assertEqual(self.absent(), UP[:1])
        self.assertEqual(
            self.signal.health(),
            f"1 node, first {UP[0]}: enabled and On or Ready in HSM's table, and not heard for"
            " 600 s",
        )
        self.hear(UP[0])
        self.pass_time(1)
        self.assertEqual(self.absent(), [])

    def test_who(self) -> None:
        """Only nodes are expected that are enabled, On or Ready in any case, and not tracked."""
        self.hear(UP[3])
        reading = self.signal.begin()
        for name, state, enabled in (
            ("X7C0S0B0N00", "READY", True),
            (UP[1], "on", True),
            (UP[2], "On", False),
            (UP[3], "On", True),
            ("x7c0s1b0n0", "Off", True),
            ("x7c0s2b0n0", "Standby", True),
            ("x7c0s3b0n0", "Populated", True),
            ("x7c0s0b0", "On", True),
            ("x7c0", "On", True),
            ("not an xname", "On", True),
        ):
            reading.add(name, state, enabled=enabled)
        self.signal.take(reading)
        self.pass_time(700)
        self.assertEqual(self.absent(), UP[:2])
        self.assertEqual(self.signal.expected(UP[0]), Expected("Ready", 1000.0, absent=True))
        self.assertEqual(self.signal.expected(UP[1]), Expected("On", 1000.0, absent=True))
        self.assertIsNone(self.signal.expected(UP[2]))
        self.assertIsNone(self.signal.expected(UP[3]))

    def test_down_between(self) -> None:
        """The time counts from the first of successive looks that find the node up."""
        self.look(*UP[:2])
        self.pass_time(400)
        self.look(UP[0])
        self.look(*UP[:2])
        self.pass_time(300)
        self.assertEqual(self.absent(), UP[:1])
        self.look(UP[1])
        self.pass_time(1)
        self.assertEqual(self.absent(), [])

    def test_deaf(self) -> None:
        """Time in which hbtd could not hear does not count."""
        self.look(UP[0])
        self.standing = 300.0
        self.pass_time(700)
        self.assertEqual(self.absent(), [])
        self.pass_time(300)
        self.assertEqual(self.absent(), UP[:1])

    def test_in_maintenance(self) -> None:
        """Who is in maintenance is not absent, and has all of boot_time from its end."""
        self.look(*UP[:2])
        self.pass_time(600)
        self.assertEqual(self.absent(), UP[:2])
        self.tracker.spare(UP[:1])
        self.pass_time(1)
        self.assertEqual(self.absent(), UP[1:2])
        self.pass_time(1000)
        self.look(*UP[:2])
        expected = self.signal.expected(UP[0])
        assert expected is not None
        self.assertFalse(expected.absent)
        self.tracker.judge_anew(UP[:1], self.clock.seconds(), (10.0, 30.0))
        self.pass_time(590)
        self.assertEqual(self.absent(), UP[1:2])
        self.pass_time(10)
        self.assertEqual(self.absent(), UP[:2])

    def test_forgotten(self) -> None:
        """Who was heard and is forgotten is expected anew, from the next look on."""
        self.look(UP[0])
        self.hear(UP[0])
        self.pass_time(500)
        self.tracker.forget(UP[0])
        self.look(UP[0])
        self.pass_time(400)
        self.assertEqual(self.absent(), [])
        self.pass_time(300)
        self.assertEqual(self.absent(), UP[:1])

    def test_bounded(self) -> None:
        """No more nodes are expected than components may be tracked."""
        self.begin(max_components=3)
        self.look(*UP)
        self.pass_time(700)
        self.assertEqual(self.absent(), UP[:3])

    def test_nobody(self) -> None:
        """With boot_time=0 nobody is expected."""
        self.begin(boot_time=0)
        self.look(*UP)
        self.pass_time(10)
        self.assertEqual(self.absent(), [])
        self.assertIsNone(self.signal.expected(UP[0]))

    def test_follower(self) -> None:
        """A replica that ceases to lead knows nothing any more, and begins anew when it leads."""
        self.look(UP[0])
        self.pass_time(700)
        reading = self.signal.begin()
        reading.add(UP[0], "On", enabled=True)
        self.leading = False
        self.pass_time(1)
        self.assertEqual((self.absent(), self.signal.at), ([], 0.0))
        self.leading = True
        self.signal.take(reading)
        self.pass_time(1)
        self.assertEqual((self.absent(), self.signal.at), ([], 0.0))

    def test_other_hsm(self) -> None:
        """What was found at one HSM, also in a look that has yet to end, is not true of another."""
        self.look(UP[0])
        self.pass_time(700)
        reading = self.signal.begin()
        reading.add(UP[0], "On", enabled=True)
        self.params.patch({"sm_url": OTHER_URL})
        self.assertEqual(self.absent(), [])
        self.signal.take(reading)
        self.pass_time(1)
        self.assertEqual(self.absent(), [])

    @given(
        st.lists(
            st.one_of(
                st.sets(st.sampled_from(UP)),
                st.tuples(st.sampled_from(("hear", "forget")), st.sampled_from(UP)),
                st.floats(3.0, 400.0),
            ),
            max_size=30,
        )
    )
    def test_any(self, events: list[Any]) -> None:
        """Whatever happens, those are absent of whom all looks and no heartbeats say so."""
        self.begin()
        since: dict[str, float] = {}
        for event in events:
            if isinstance(event, float):
                self.pass_time(event)
            elif isinstance(event, set):
                now = self.clock.seconds()
                since = {
                    name: since.get(name, now) for name in sorted(event) if name not in self.tracker
                }
                self.look(*event)
            elif event[0] == "hear":
                self.hear(event[1])
                since.pop(event[1], None)
                self.pass_time(1)
            else:
                self.tracker.forget(event[1])
            self.pass_time(0)
            # A review is up to a second old.
            now = self.clock.seconds()
            certain = {name for name, at in since.items() if now - at >= 603}
            possible = {name for name, at in since.items() if now - at >= 600}
            self.assertLessEqual(certain, set(self.absent()))
            self.assertLessEqual(set(self.absent()), possible)


class OffTests(LooksTestCase):
    """Silent components that HSM says are off."""

    def test_off(self) -> None:
        """The time is that of the first of successive looks that found the component off."""
        self.hear(UP[0])
        self.hear(UP[1])
        self.pass_time(10)
        first = WALL + self.clock.seconds()
        self.look("X7C0S0B0N0", UP[1], UP[2], state="Off")
        self.assertEqual(self.signal.off_since(UP[0]), first)
        self.assertIsNone(self.signal.off_since(UP[2]))
        self.pass_time(300)
        self.look(UP[0], state="OFF")
        self.assertEqual(self.signal.off_since(UP[0]), first)
        self.assertIsNone(self.signal.off_since(UP[1]))
        self.look(UP[0], state="On")
        self.assertIsNone(self.signal.off_since(UP[0]))

    def test_heard_since(self) -> None:
        """Of who was heard since the last look it is not known, and counts from the next one."""
        self.hear(UP[0])
        self.pass_time(10)
        self.look(UP[0], state="Off")
        self.pass_time(10)
        self.hear(UP[0])
        self.assertIsNone(self.signal.off_since(UP[0]))
        self.pass_time(300)
        self.assertIsNone(self.signal.off_since(UP[0]))
        self.look(UP[0], state="Off")
        self.assertEqual(self.signal.off_since(UP[0]), WALL + self.clock.seconds())


class ReadTests(ReconcilerTestCase):
    """Beside a reconciler, which reads the table."""

    def begin(self, **params: Any) -> None:
        super().begin(**{"sm_sync": 30, "boot_time": 40, **params})
        self.signal = self.reconciler.second_signal
        self.signal.startService()
        self.addCleanup(self.signal.stopService)
        self.hsm.components[UP[0]] = ComponentState("On", "OK")
        self.hsm.components[UP[1]] = ComponentState("On", "OK", enabled=False)
        self.asked: list[Selection] = []
        select = self.hsm.table.select

        def record(selection: Selection) -> Any:
            self.asked.append(selection)
            return select(selection)

        self.hsm.table.select = record  # type: ignore[method-assign]

    def test_nothing_follows(self) -> None:
        """Who is absent is told to nobody, and not tracked."""
        self.pass_time(90)
        self.assertEqual(list(self.signal.absent), UP[:1])
        self.assertEqual((self.told(), sorted(self.tracker.tracked())), ([], NODES))
        self.assertEqual(self.hsm.components[UP[0]], ComponentState("On", "OK"))
        self.assertEqual({selection.state_only for selection in self.asked}, {False})

    def test_nobody_tracked(self) -> None:
        """Nodes are looked for although none was heard yet."""
        for name in NODES:
            self.tracker.forget(name)
        self.beating = set()
        self.pass_time(90)
        self.assertEqual(set(self.signal.absent), {UP[0], *NODES})

    def test_state_only(self) -> None:
        """With boot_time=0 HSM is asked for states alone, and not at all if nobody is tracked."""
        self.begin(boot_time=0)
        self.pass_time(90)
        self.assertEqual(list(self.signal.absent), [])
        self.assertEqual({selection.state_only for selection in self.asked}, {True})
        for name in NODES:
            self.tracker.forget(name)
        self.beating = set()
        self.asked.clear()
        self.pass_time(70)
        self.assertEqual(self.asked, [])

    def test_types_refused(self) -> None:
        """An HSM that refuses the types is asked for all, as whole rows."""
        self.hsm.behaviour = self.hsm.behaviour.merged({"unknown_types": ["Node"]})
        self.pass_time(90)
        self.assertEqual(list(self.signal.absent), UP[:1])

    def test_on_request(self) -> None:
        """With sm_sync=0 the table is looked at on request only, also for a dry run."""
        self.begin(sm_sync=0)
        self.pass_time(60)
        self.assertEqual((list(self.signal.absent), self.signal.at), ([], 0.0))
        self.report(dry_run=True)
        self.pass_time(45)
        self.assertEqual(list(self.signal.absent), UP[:1])

    def test_cut_off(self) -> None:
        """A look that fails changes nothing: its rows may not be all, or not be right."""
        self.pass_time(90)
        read, at = self.client.read_table, self.signal.at

        def fail(types: Iterable[str], take: TakeRow) -> Deferred[None]:
            take(UP[2], "On", "OK", True)
            self.hsm.behaviour.database_gone = True
            return read(types, take)

        self.client.read_table = fail  # type: ignore[method-assign]
        failures = self.reconciler.failures
        self.pass_time(50)
        self.assertGreater(self.reconciler.failures, failures)
        self.assertEqual((list(self.signal.absent), self.signal.at), (UP[:1], at))

    def test_off(self) -> None:
        """HSM's Off is known of who has fallen silent, from the first look that sees it."""
        self.beating.remove(NODES[0])
        self.pass_time(15)
        self.falsify(x0c0s0b0n0="Off/OK")
        began = WALL + self.clock.seconds()
        self.report(dry_run=True)
        since = self.signal.off_since(NODES[0])
        assert since is not None
        self.assertTrue(began <= since < began + 3, since - began)
        self.assertIsNone(self.signal.off_since(NODES[1]))

    def test_slow_look(self) -> None:
        """Who is heard while a look goes on is not off, whatever that has read."""
        self.beating.remove(NODES[0])
        self.pass_time(15)
        self.falsify(x0c0s0b0n0="Off/OK")
        read = self.client.read_table

        def read_slowly(types: Iterable[str], take: TakeRow) -> Deferred[None]:
            return read(types, take).addCallback(lambda _: deferLater(self.clock, 5))

        self.client.read_table = read_slowly  # type: ignore[method-assign]
        self.reconciler.request(dry_run=True).addErrback(lambda _: None)  # the test ends before
        self.pass_time(3)
        self.beat(NODES[0])
        self.pass_time(4)
        self.assertIsNone(self.signal.off_since(NODES[0]))
        self.assertGreater(self.signal.at, 0.0)
