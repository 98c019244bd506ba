"""The order of the components, the parts of the machine, and which of these are silent."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from hbtd.formats.nodesets import natural_key, within
from hbtd.queries.blast_radius import (
    SilentGroup,
    cabinets,
    count_wholly_silent,
    find_silent_groups,
)
from hbtd.queries.machine import LEVELS, Machine, Silence, part_of, sort_names
from hbtd.queries.summary import MachineCounts
from hbtd.simulator.fleet import node_names
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker

names = st.one_of(
    st.builds("x{}c{}s{}b0n{}".format, *[st.sampled_from([0, 1, 2, 10])] * 4),
    st.builds("x{}c{}r{}b0".format, *[st.sampled_from([0, 1, 10])] * 3),
    st.builds("x{}c{}b0".format, *[st.sampled_from([0, 1, 10])] * 2),
    st.sampled_from(["x0", "x1m0", "x10d0", "d0", "s0", "sms1", "p0.1"]),
)


class MachineTestCase(SynchronousTestCase):
    """Has a tracker and its machine; a test counts the turns of queries."""

    def begin(self) -> None:
        """Begin with nothing tracked."""
        self.tracker = Tracker()
        self.machine = Machine(self.tracker)
        self.turns = 0

    def setUp(self) -> None:
        self.begin()

    def turn(self) -> Deferred[None]:
        """Count the turns."""
        self.turns += 1
        return succeed(None)

    def beat(self, *names: str) -> None:
        """Let components send a heartbeat."""
        for name in names:
            self.tracker.beat(name, 0.0, "t", "s")

    def end(self, work: Any) -> Any:
        """Return the result of a coroutine."""
        return self.successResultOf(Deferred.fromCoroutine(work))

    def silence(self) -> Silence:
        """Return who is silent."""
        found: Silence = self.end(self.machine.silence(self.turn))
        return found

    def groups(self) -> list[tuple[str, int, int]]:
        """Return the silent groups: names, numbers of silent components and of all."""
        found: list[SilentGroup] = self.end(find_silent_groups(self.silence(), self.turn))
        return [(each.xname, each.silent, each.total) for each in found]


class OrderTests(MachineTestCase):
    """The natural order, brought up to date."""

    @given(st.lists(st.tuples(st.booleans(), st.lists(names, max_size=8)), max_size=6))
    def test_up_to_date(self, steps: list[tuple[bool, list[str]]]) -> None:
        """Whatever comes and goes, the order has what is tracked, in natural order."""
        self.begin()
        for comes, some in steps:
            for name in some:
                if comes:
                    self.beat(name)
                else:
                    self.tracker.forget(name)
            order = self.end(self.machine.order(self.turn))
            self.assertEqual(order, sorted(set(self.tracker.tracked()), key=natural_key))

    def test_many(self) -> None:
        """Many are sorted in turns, also where the order has some already."""
        many = node_names(20_000)
        self.beat(*many[::-2])
        self.end(self.machine.order(self.turn))
        self.beat(*many[::-1])
        self.turns = 0
        self.assertEqual(self.end(self.machine.order(self.turn)), many)
        self.assertGreater(self.turns, 8)
        self.turns = 0
        self.end(self.machine.order(self.turn))
        self.assertEqual(self.turns, 0)
        scattered = [f"nid{number:06}" for number in range(9000)]
        self.assertEqual(
            self.end(sort_names(scattered[::-1], self.turn)), sorted(scattered, key=natural_key)
        )

    def test_meanwhile(self) -> None:
        """Two queries at once get whole lists, while components come in between."""
        self.beat(*node_names(9000))
        waiting: list[Deferred[None]] = []

        def turn() -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        queries = [Deferred.fromCoroutine(self.machine.order(turn)) for _ in range(2)]
        self.beat("x1c9")
        while waiting:
            waiting.pop(0).callback(None)
        for query in queries:
            self.assertGreaterEqual(len(self.successResultOf(query)), 9000)
        self.assertIn("x1c9", self.end(self.machine.order(self.turn)))

    def test_cancelled(self) -> None:
        """A query whose client goes in the middle holds up no other one."""
        self.beat(*node_names(9000))
        query = Deferred.fromCoroutine(self.machine.order(Deferred))
        query.cancel()
        self.failureResultOf(query)
        self.assertEqual(len(self.end(self.machine.order(self.turn))), 9000)


class SilenceTests(MachineTestCase):
    """The parts of the machine, and which are silent."""

    @settings(max_examples=200)
    @given(st.dictionaries(names, st.sampled_from(["healthy", "warned", "dead"]), max_size=40))
    def test_counts(self, states: dict[str, str]) -> None:
        """Each part has the numbers that counting its components one by one gives.

        No component is in two groups, and each slot that is wholly silent is in one.
        """
        self.begin()
        self.beat(*states)
        for name, state in states.items():
            if state == "dead":
                self.tracker.apply_death(name)
            elif state == "warned":
                self.tracker.apply_warning(Record(name, 0.0, "t", "s", True), 0.0, 10, 30)
        silence = self.silence()
        layout = silence.layout
        whole = dict.fromkeys(LEVELS, 0)
        for level, kind in enumerate(LEVELS):
            found = {
                layout.name(level, i): silence.counts(*ends)
                for i, ends in enumerate(zip(layout.starts[level], layout.ends[level], strict=True))
            }
            expected = {}
            for part in {part_of(name, level) for name in states} - {""}:
                inside = [states[name] for name in states if within(name, part)]
                expected[part] = inside.count("warned"), inside.count("dead")
                whole[kind] += len(inside) > 1 and "healthy" not in inside
            self.assertEqual(found, expected, kind)
        self.assertEqual(self.end(count_wholly_silent(silence, self.turn)), whole)
        members = [
            name
            for group in self.end(find_silent_groups(silence, self.turn))
            for name in layout.order[group.start : group.end]
        ]
        self.assertEqual(len(members), len(set(members)))
        for slot in {part_of(name, 2) for name in states} - {""}:
            inside = [name for name in states if within(name, slot)]
            if len(inside) > 1 and all(states[name] != "healthy" for name in inside):
                self.assertTrue(set(inside) <= set(members))

    def test_blast_radius(self) -> None:
        """The largest groups are found: a cabinet, chassis, a slot, and most of a chassis."""
        fleet = node_names(4 * 512)
        self.beat(*fleet)
        cabinet = list(dict.fromkeys(part_of(name, 0) for name in fleet))

        def kill(part: str, but: int = 0) -> int:
            inside = [name for name in fleet if within(name, part)]
            for name in inside[but:]:
                self.tracker.apply_death(name)
            return len(inside)

        chassis = kill(f"{cabinet[0]}c7")
        slot = kill(f"{cabinet[1]}c0s3")
        kill(f"{cabinet[1]}c1s2b0n0")
        whole = kill(cabinet[2])
        kill(f"{cabinet[3]}c5", but=10)
        self.assertEqual(
            self.groups(),
            [
                (cabinet[2], whole, whole),
                (f"{cabinet[0]}c7", chassis, chassis),
                (f"{cabinet[3]}c5", chassis - 10, chassis),
                (f"{cabinet[1]}c0s3", slot, slot),
            ],
        )
        for name in fleet:
            self.tracker.apply_death(name)
        self.assertEqual(self.groups(), [("s0", 2048, 2048)])

    def test_due_to_one(self) -> None:
        """A part that has nearly all silent components says it better than the whole."""
        self.beat(*(f"x1c7s{slot}b0n0" for slot in range(16)), "x2c0", "x2c1")
        for slot in range(16):
            self.tracker.apply_death(f"x1c7s{slot}b0n0")
        self.tracker.apply_death("x2c0")
        self.assertEqual(self.groups(), [("x1c7", 16, 16)])

    def test_few(self) -> None:
        """A single component is no group, and half of one is not mostly silent."""
        self.beat("x1c0s0b0n0", "x1c0s0b0n1", "x1c0s1b0n0", "x1c0s1b0n1", "x1c1s0b0n0")
        for name in ("x1c0s0b0n0", "x1c0s1b0n0", "x1c1s0b0n0"):
            self.tracker.apply_death(name)
        self.assertEqual(self.groups(), [])
        counts = self.end(count_wholly_silent(self.silence(), self.turn))
        self.assertEqual(counts, dict.fromkeys(LEVELS, 0))

    def test_cabinets(self) -> None:
        """At most 256 cabinets are counted by themselves, those with silent components first."""
        self.beat(*(f"x{number}c0s{slot}" for number in range(300) for slot in (0, 1)), "sms0")
        self.tracker.apply_death("x299c0s0")
        counts = MachineCounts(self.machine)
        self.end(counts.update(self.turn))
        self.assertEqual(len(counts.cabinets), 257)
        self.assertEqual(counts.cabinets["x299"], {"healthy": 1, "warned": 0, "dead": 1})
        self.assertEqual(counts.cabinets["other"], {"healthy": 89, "warned": 0, "dead": 0})
        self.assertEqual(sum(sum(each.values()) for each in counts.cabinets.values()), 601)
        self.assertEqual(len(cabinets(self.silence())), 300)
