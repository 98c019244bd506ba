"""Blocks: what they look like in etcd, and which heartbeats are written in blocks only."""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.params import Params
from hbtd.etcd.client import MAX_OPERATIONS
from hbtd.etcd.messages import Put
from hbtd.store.etcd_blocks import (
    MOST_RESTATED,
    Block,
    Blocks,
    Plan,
    block_value,
    read_block,
)
from hbtd.store.etcd_format import PRESENCE, InvalidValue
from hbtd.store.etcd_steps import transactions
from hbtd.tracker.cohorts import Limits
from hbtd.tracker.records import Record
from tests.support.hsm_memory import nodes

A, B, C = nodes(3)
W, E = 10, 30
PRESENT = Put(PRESENCE + b"5", b"me:28500 blocks", 77)

ages = st.dictionaries(st.text(), st.floats(0, 1e6))


def record(name: str, age: float = 0.0, timestamp: str = "t", *, warned: bool = False) -> Record:
    """Return a record."""
    return Record(name, age, timestamp, "OK", warned)


class ValueTests(SynchronousTestCase):
    """The values of blocks, and the marks in signs of life."""

    @given(ages, ages)
    def test_round_trip(self, heard: dict[str, float], recorded: dict[str, float]) -> None:
        """A block is read as it was written, with ages that are less than 0.1 s too young."""
        read = read_block(b"", block_value(Block(heard, recorded)))
        for before, after in zip((heard, recorded), read[:2], strict=True):
            self.assertEqual(before.keys(), after.keys())
            for name, age in before.items():
                self.assertTrue(age - 0.11 <= after[name] <= age + 1e-6, (age, after[name]))

    @given(st.dictionaries(st.text(), st.tuples(st.floats(0, 1e6), st.text(), st.text())))
    def test_starting(self, beats: dict[str, tuple[float, str, str]]) -> None:
        """Heartbeats of dead components are read whole, with ages rounded in the same way."""
        records = [Record(name, *each, False) for name, each in beats.items()]
        read = read_block(b"", block_value(Block({}, {}, records))).starting
        for before, after in zip(records, read, strict=True):
            self.assertEqual(before._replace(age=0), after._replace(age=0))
            self.assertTrue(before.age - 0.11 <= after.age <= before.age + 1e-6)

    def test_negative(self) -> None:
        """A heartbeat from the future counts as one from now."""
        self.assertEqual(read_block(b"", block_value(Block({A: -3.0}, {}))).heard, {A: 0.0})

    def test_bytes(self) -> None:
        """The value is JSON with tenths of seconds."""
        self.assertEqual(
            block_value(Block({A: 0.45}, {B: 2.0})),
            b'{"Heard":{"%s":4},"Recorded":{"%s":20}}' % (A.encode(), B.encode()),
        )
        self.assertEqual(
            block_value(Block({}, {}, [Record(A, 0.45, "t", "OK", False)])),
            b'{"Heard":{},"Recorded":{},"Starting":{"%s":[4,"t","OK"]}}' % A.encode(),
        )

    def test_invalid(self) -> None:
        """What is no block is refused; what is missing or unknown does not matter."""
        for value in (b"", b"[]", b"nonsense", b'{"Heard":[]}', b'{"Heard":{"x1":-1}}'):
            self.assertRaises(InvalidValue, read_block, b"", value)
        for age in (b"1.5", b'"1"', b"true", b"null", b"{}"):
            self.assertRaises(InvalidValue, read_block, b"", b'{"Recorded":{"x1":%s}}' % age)
        for value in (b"[]", b'"x1"', b"null", b'{"x1":3}', b'{"x1":[-1,"t","OK"]}'):
            self.assertRaises(InvalidValue, read_block, b"", b'{"Starting":%s}' % value)
        for beat in (b'[true,"t","OK"]', b'[1.5,"t","OK"]', b'[1,2,"OK"]', b'[1,"t"]', b"[]"):
            self.assertRaises(InvalidValue, read_block, b"", b'{"Starting":{"x1":%s}}' % beat)
        self.assertEqual(read_block(b"", b'{"More":1}'), Block({}, {}))


class BlocksTestCase(SynchronousTestCase):
    """A replica that writes blocks, on a clock."""

    def setUp(self) -> None:
        """Allow blocks."""
        self.now = 1000.0
        self.params = Params(warntime=W, errtime=E)
        self.blocks = Blocks(lambda: self.now, lambda: self.params)
        self.blocks.allow(True)

    def own(self, *records: Record) -> list[str]:
        """Plan, and return whose own records are to be written as heartbeats."""
        return names(self.blocks.plan(records).own)

    def restated(self) -> list[Record]:
        """Plan for no heartbeats, and return the records that are due all the same."""
        return list(self.blocks.plan([]).restated)


def names(records: Iterable[Record]) -> list[str]:
    """Return the components of records."""
    return [each.component for each in records]


class RulesTests(BlocksTestCase):
    """Which heartbeats get records."""

    def test_first(self) -> None:
        """The first heartbeat is written as a record, the next are not."""
        self.assertEqual(self.own(record(A)), [A])
        self.now += 0.5
        plan = self.blocks.plan([record(A, 0.2), record(B)])
        self.assertEqual((names(plan.own), plan.heard), ([B], {A: 0.2}))

    def test_half_errtime(self) -> None:
        """Of a component that beats, a record is written every half `errtime`."""
        written = []
        for _ in range(100):
            if self.own(record(A)):
                written.append(self.now)
            self.now += 3
        pauses = [after - before for before, after in pairwise(written)]
        self.assertLessEqual(max(pauses), E / 2 + 3)
        self.assertGreaterEqual(min(pauses[1:]), E / 2 - 3)

    def test_spread(self) -> None:
        """The records of components that started together are not written together for long."""
        crowd = [record(name) for name in nodes(1000)]
        self.own(*crowd)
        counts = []
        for _ in range(int(E / 2) * 2):
            self.now += 0.5
            counts.append(len(self.own(*crowd)))
        self.assertEqual(sum(counts), 1000)
        self.assertLess(max(counts), 3 * 1000 / len(counts))

    def test_silence(self) -> None:
        """After half a `warntime` of silence the record is written, with what was sent last."""
        self.own(record(A, 0.0, "first"))
        self.now += 1
        self.own(record(A, 0.5, "second"))
        self.now += W / 2 - 0.6
        self.assertEqual(self.restated(), [])
        self.now += 0.1
        self.assertEqual(self.restated(), [record(A, W / 2, "second")])
        self.now += 100
        self.assertEqual(self.restated(), [])

    def test_silence_with_a_short_errtime(self) -> None:
        """Where `errtime` is shorter than `warntime`, half of that counts."""
        self.params = Params(warntime=W, errtime=4)
        for _ in range(2):
            self.own(record(A))
        self.now += 2
        self.assertEqual(names(self.restated()), [A])

    def test_no_silence(self) -> None:
        """A component whose record tells of its last heartbeat gets none when it falls silent."""
        self.own(record(A))
        self.now += W
        self.assertEqual(self.restated(), [])

    def test_a_crowd_falls_silent(self) -> None:
        """Of many components that fall silent, those that were heard first come first."""
        crowd = nodes(2 * MOST_RESTATED - 1)
        for _ in range(2):
            self.blocks.plan([record(name) for name in crowd])
        self.now += W
        self.assertEqual(names(self.restated()), crowd[:MOST_RESTATED])
        self.assertEqual(names(self.restated()), crowd[MOST_RESTATED:])

    def test_warned(self) -> None:
        """Records that say that a component was warned about are written as such."""
        self.own(record(A))
        plan = self.blocks.plan([record(A, warned=True)])
        self.assertEqual((names(plan.own), plan.heard), ([A], {}))

    def test_not_allowed(self) -> None:
        """While not all read blocks, each heartbeat is written as a record."""
        self.own(record(A))
        self.blocks.allow(False)
        plan = self.blocks.plan([record(A)])
        self.assertEqual((names(plan.own), plan.heard, plan.in_blocks), ([A], {}, False))

    def test_owed(self) -> None:
        """Records that are behind can be had at once, some at a time, and only once."""
        for _ in range(2):
            self.blocks.plan([record(name) for name in (A, B, C)])
        self.assertEqual(self.blocks.owed, 3)
        self.assertEqual(names(self.blocks.plan_owed(2).restated), [A, B])
        self.assertEqual(names(self.blocks.plan_owed(2).restated), [C])
        self.assertEqual(self.blocks.owed, 0)

    def test_undone(self) -> None:
        """What could not be written is written later."""
        for _ in range(2):
            self.blocks.plan([record(A, 0.0, "owed")])
        self.now += W
        plan = self.blocks.plan([record(B)])
        self.assertEqual((names(plan.restated), names(plan.own)), ([A], [B]))
        self.blocks.undo(plan)
        self.now += 1
        again = self.blocks.plan([record(B)])
        self.assertEqual(list(again.restated), [record(A, W + 1, "owed")])
        self.assertEqual(names(again.own), [B])

    def test_undone_after_another_heartbeat(self) -> None:
        """A record that could not be written does not come after a later heartbeat."""
        for _ in range(2):
            self.blocks.plan([record(A, 0.0, "old")])
        self.now += W
        plan = self.blocks.plan([])
        self.blocks.plan([record(A, 0.0, "new")])
        self.blocks.undo(plan)
        self.now += W
        self.assertEqual(self.restated(), [record(A, W, "new")])


class OwnLimitsTests(BlocksTestCase):
    """Components whose limits differ from the parameters."""

    def setUp(self) -> None:
        """Give A shorter limits, and C longer ones."""
        super().setUp()
        self.limits = {A: Limits(4.0, 8.0), C: Limits(60.0, 120.0)}
        self.blocks = Blocks(
            lambda: self.now, lambda: self.params, lambda x: self.limits.get(x, Limits())
        )
        self.blocks.allow(True)

    def test_silence(self) -> None:
        """A record is due after half a warntime of the component's own, in whatever order."""
        for _ in range(2):
            self.own(record(C), record(B), record(A))
        self.assertEqual(self.blocks.owed, 3)
        due = []
        for at in range(32):
            due += [(at, name) for name in names(self.restated())]
            self.now += 1
        self.assertEqual(due, [(2, A), (W // 2, B), (30, C)])
        self.assertEqual((self.blocks.owed, len(self.blocks._owed._others)), (0, 0))

    def test_beating(self) -> None:
        """Of a component that beats, a record is written every half of its own errtime."""
        written = {A: 0, B: 0, C: 0}
        for _ in range(360):
            for name in self.own(record(A), record(B), record(C)):
                written[name] += 1
            self.now += 1
        self.assertEqual(written, {A: 91, B: 24, C: 7})

    def test_changed(self) -> None:
        """The limits that a component has when it is heard count, and those before no more."""
        for _ in range(2):
            self.own(record(A), record(B))
        self.limits = {B: Limits(2.0, 3.0)}
        self.own(record(A), record(B))
        self.now += 1
        self.assertEqual(names(self.restated()), [B])
        self.blocks.note_heard_elsewhere([A])
        self.assertEqual((self.blocks.owed, A in self.blocks._owed), (0, False))

    def test_undone(self) -> None:
        """What could not be written comes before what was heard later, and only so much at once."""
        self.limits[B] = self.limits[A]
        for _ in range(2):
            self.own(record(A), record(B))
        self.now += 2
        plan = self.blocks.plan([])
        self.blocks.undo(plan)
        self.assertEqual(names(self.blocks.plan_owed(1).restated), [A])
        self.assertEqual(names(self.blocks.plan_owed(1).restated), [B])


class ElsewhereTests(BlocksTestCase):
    """What other replicas do counts."""

    def setUp(self) -> None:
        """Owe the record of A."""
        super().setUp()
        for _ in range(2):
            self.blocks.plan([record(A)])

    def test_record_written_elsewhere(self) -> None:
        """After another replica has written a record, the next is due half an `errtime` later."""
        self.now += 100
        self.blocks.note_records([A, B])
        self.assertEqual(self.restated(), [])
        self.assertEqual(self.own(record(A), record(B)), [])

    def test_heard_elsewhere(self) -> None:
        """The record of a component is left to the replica that has heard it last."""
        self.blocks.note_heard_elsewhere([A, B])
        self.now += W
        self.assertEqual(self.restated(), [])

    def test_changes(self) -> None:
        """The heartbeat after a warning, a death or a removal is written as a record."""
        self.blocks.note_change(A)
        self.now += W
        self.assertEqual(self.restated(), [])
        self.assertEqual(self.own(record(A)), [A])

    def test_read_anew(self) -> None:
        """After etcd was read, only records that are still there are put right."""
        for _ in range(2):
            self.blocks.plan([record(B)])
        self.blocks.reset({A, C})
        self.now += W
        self.assertEqual(names(self.restated()), [A])
        self.assertEqual(self.own(record(B), record(C)), [B, C])


class StepsTests(SynchronousTestCase):
    """The steps by which plans are written."""

    def plan(self, heard: int, own: int, restated: int) -> Plan:
        """Return a plan of so many components of each kind."""
        crowd = nodes(heard + own + restated)
        records = [record(name, 1.0) for name in crowd[heard:]]
        ages = dict.fromkeys(crowd[:heard], 0.5)
        return Plan(ages, records[:own], records[own:], True)

    @given(st.integers(0, 1200), st.integers(0, 450), st.integers(0, 450))
    def test_in_blocks(self, heard: int, own: int, restated: int) -> None:
        """Every heartbeat is in one block, which comes before the record if there is one."""
        plan = self.plan(heard, own, restated)
        found: dict[str, float] = {}
        repeated: list[bytes] = []
        steps = plan.steps(PRESENT, 1e9)
        for step in steps:
            put, *puts = step.operations
            assert isinstance(put, Put)
            self.assertTrue(put.key.startswith(b"hbtd/block/5/"))
            self.assertEqual(put.lease, 77)
            block = read_block(put.key, put.value)
            keys = [each.key for each in puts]
            self.assertTrue({name.encode() for name in block.recorded} <= set(keys))
            repeated += [key for key in keys if key.decode() not in block.recorded]
            for name, age in (*block.heard.items(), *block.recorded.items()):
                self.assertNotIn(name, found)
                found[name] = age
            self.assertLess(len(step.operations), MAX_OPERATIONS)
        self.assertEqual(found.keys(), plan.heard.keys() | set(names(plan.own)))
        self.assertEqual(repeated, [name.encode() for name in names(plan.restated)])
        for batch in transactions(steps):
            keys = [each.key for step in batch for each in step.operations]
            self.assertEqual(len(keys), len(set(keys)))

    def test_five_hundred(self) -> None:
        """The heartbeats of five hundred components are one key of less than 20 bytes for each."""
        (step,) = self.plan(500, 0, 0).steps(PRESENT, 1e9)
        (put,) = step.operations
        assert isinstance(put, Put)
        self.assertLess(len(put.value), 500 * 20)

    def test_warned(self) -> None:
        """A warning is in no block: it is no heartbeat."""
        (step,) = Plan({}, [record(A, warned=True)], [], True).steps(PRESENT, 1e9)
        assert isinstance(step.operations[0], Put)
        self.assertEqual(read_block(b"", step.operations[0].value), Block({}, {}))

    def test_as_records(self) -> None:
        """Without blocks, heartbeats are plain records; what is repeated is marked as such."""
        plan = self.plan(0, 3, 2)._replace(in_blocks=False)
        operations = [step.operations for step in plan.steps(PRESENT, 1e9)]
        self.assertEqual([len(each) for each in operations], [1, 1, 1, 3])
        self.assertEqual(len(plan.steps(None, 1e9)), 5)

    def test_starting(self) -> None:
        """Heartbeats of the dead follow in blocks of their own, allowed or not; without records."""
        dead = [record(name) for name in nodes(250)]
        for allowed, before in ((True, 1), (False, 3)):
            plan = self.plan(0, 2, 0)._replace(in_blocks=allowed, starting=dead[:200])
            steps = plan.steps(PRESENT, 1e9)[before - 1 :]
            keys = [each.operations[0].key for each in steps]
            self.assertEqual(len(set(keys)), len(steps))
            values = [each.operations for each in steps if each.operations[0].key.startswith(b"h")]
            blocks = [read_block(b"", put.value) for put, *_ in values if isinstance(put, Put)]
            starting = [x for each in blocks for x in each.starting]
            self.assertEqual(starting, dead[:200])
            self.assertTrue(all(len(x) == 1 for x, b in zip(values, blocks, strict=True) if b[2]))
        self.assertEqual(len(plan.steps(None, 1e9)), 2)
        self.assertEqual(Blocks(float, Params).plan([], dead).starting, dead)

    def test_nothing(self) -> None:
        """Nothing is written of nothing."""
        self.assertEqual(Plan({}, (), (), True).steps(PRESENT, 1e9), [])


class StalenessTests(SynchronousTestCase):
    """What somebody who reads only records knows, in any story."""

    @given(
        st.lists(
            st.tuples(st.sampled_from((A, B, C)), st.floats(0.1, 12), st.booleans()), max_size=80
        )
    )
    def test_never_too_old(self, story: list[tuple[str, float, bool]]) -> None:
        """A record is never older than its component's last heartbeat by more than is promised.

        That is half an `errtime` and half a `warntime`, and nothing once the silence has lasted for
        half a `warntime`.
        """
        now = 0.0
        blocks = Blocks(lambda: now, lambda: Params(warntime=W, errtime=E))
        blocks.allow(True)
        written: dict[str, float] = {}
        heard: dict[str, float] = {}
        tick = 0.5

        def write(records: list[Record], *, fails: bool) -> None:
            plan = blocks.plan(records)
            if fails:
                blocks.undo(plan)
                plan = blocks.plan(records)
            for each in (*plan.own, *plan.restated):
                written[each.component] = now - each.age

        for name, pause, fails in story:
            for _ in range(int(pause / tick)):
                now += tick
                write([], fails=False)
                for each, at in heard.items():
                    self.assertLessEqual(at - written[each], E / 2 + W / 2 + 2 * tick)
                    if now - at >= W / 2 + tick:
                        self.assertAlmostEqual(written[each], at)
            heard[name] = now
            write([record(name)], fails=fails)
