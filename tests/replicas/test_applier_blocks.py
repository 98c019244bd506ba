"""What blocks of other replicas change in this one, event by event."""

from typing import Any

from hbtd.etcd.messages import Event, KeyValue
from hbtd.replicas.applier import Applier, Moment
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_blocks import BLOCK, Block, Blocks, block_value
from hbtd.store.etcd_format import LIFE, PRESENCE, StoredRecord, record_value
from hbtd.tracker.records import Record
from tests.support.hsm_memory import DIED, RESTARTED, STARTED, WARNED, nodes
from tests.support.monitor_memory import MonitorTestCase

A, B, C = nodes(3)
W, E = 10, 30
US, THEM, OTHER = 1, 2, 3
WALL = 1_790_000_000.0


class NoParams:
    """A stand-in for the shared parameters, which are not what these tests are about."""

    def reset(self) -> None:
        """Do nothing."""

    def publish_all(self) -> None:
        """Do nothing."""


def record(name: str, timestamp: str = "t", age: float = 0.0, *, warned: bool = False) -> Record:
    """Return a record."""
    return Record(name, age, timestamp, "OK", warned)


class ApplierTestCase(MonitorTestCase):
    """A leader to which another replica tells of heartbeats."""

    def setUp(self) -> None:
        """Lead, and let A start at the other replica."""
        super().setUp()
        self.start(interval=1, warntime=W, errtime=E)
        nothing: Any = None
        shared: Any = NoParams()
        blocks = Blocks(self.clock.seconds, lambda: self.params.current)
        blocks.allow(True)
        self.etcd = EtcdStore(nothing, lambda: WALL, blocks)
        self.applier = Applier(
            US,
            self.etcd,
            self.changes,
            self.monitor,
            shared,
            self.params,
            lambda: Moment(self.clock.seconds(), self.monitor._observed.now()),
            nothing,
        )
        self.revision = 10
        self.comes(THEM, records=[record(A)])
        self.advance(0.5)
        self.assertEqual(self.told(A), [STARTED])

    def comes(
        self, writer: int, block: Block | None = None, records: Any = (), deleted: str = ""
    ) -> None:
        """Apply a transaction of a replica."""
        self.revision += 1
        changes: list[tuple[bytes, bytes | None, int]] = []
        if writer:
            changes.append((PRESENCE + b"%d" % writer, b"name blocks", 77))
        if block is not None:
            changes.append((BLOCK + b"%d/0" % writer, block_value(block), 77))
        changes += [(x.component.encode(), record_value(x, WALL), 0) for x in records]
        if deleted:
            changes.append((deleted.encode(), None, 0))
        for key, value, lease in changes:
            self.applier.apply(Event(key, value, self.revision, lease))

    def timestamp(self, name: str) -> str:
        """Return the timestamp that is known of a component."""
        found = self.tracker.record(name, self.clock.seconds())
        return found.timestamp if found else ""


class HeartbeatTests(ApplierTestCase):
    """Heartbeats in blocks keep components alive, and nothing else does."""

    def test_alive(self) -> None:
        """A component that blocks tell of lives; it dies `errtime` after the last heartbeat."""
        for _ in range(20):
            self.comes(THEM, Block({A: 0.3}, {}))
            self.advance(3)
        self.assertEqual(self.told(A), [STARTED])
        self.advance(E - 3 - 2)
        self.assertEqual(self.told(A), [STARTED, WARNED])
        self.advance(3)
        self.assertEqual(self.told(A), [STARTED, WARNED, DIED])

    def test_repeated(self) -> None:
        """A record that repeats what a block has told is no heartbeat, but has the last word."""
        self.comes(THEM, Block({A: 0.0}, {}))
        self.advance(W / 2)
        self.comes(THEM, Block({}, {}), [record(A, "last", W / 2)])
        self.assertEqual(self.timestamp(A), "last")
        self.advance(W / 2 + 1.5)
        self.assertEqual(self.told(A), [STARTED, WARNED])
        self.advance(E - W)
        self.assertEqual(self.told(A), [STARTED, WARNED, DIED])

    def test_repeated_too_late(self) -> None:
        """A replica does not put right what a component has sent elsewhere since."""
        self.monitor.beat(A, "here", "OK", "10.0.0.1")
        self.comes(THEM, Block({}, {}), [record(A, "there", 5.0)])
        self.assertEqual(self.timestamp(A), "here")

    def test_with_its_record(self) -> None:
        """A heartbeat whose record comes with the block has all that was sent."""
        self.advance(W + 1)
        self.assertEqual(self.told(A), [STARTED, WARNED])
        self.comes(THEM, Block({}, {A: 0.2, B: 0.1}), [record(A, "new"), record(B, "first")])
        self.advance(0.5)
        self.assertEqual((self.told(A), self.told(B)), ([STARTED, WARNED, RESTARTED], [STARTED]))
        self.assertEqual((self.timestamp(A), self.timestamp(B)), ("new", "first"))

    def test_back_after_a_warning(self) -> None:
        """A heartbeat that was taken before the warning arrived takes the warning back."""
        self.advance(W + 1)
        self.comes(THEM, Block({A: 0.5}, {}))
        self.advance(E - 2)
        self.assertEqual(self.told(A), [STARTED, WARNED, RESTARTED, WARNED])
        self.advance(3)
        self.assertEqual(self.told(A)[-1], DIED)

    def test_old_news(self) -> None:
        """A heartbeat that is older than a warning about a later one changes nothing."""
        self.monitor.beat(A, "here", "OK", "10.0.0.1")
        self.advance(W + 1)
        for block, records in (
            (Block({A: W + 3.0}, {}), []),
            (Block({}, {A: W + 3.0}), [record(A, "old", W + 3.0)]),
        ):
            self.comes(THEM, block, records)
            self.advance(0.5)
            self.assertEqual(self.told(A), [STARTED, WARNED])

    def test_forgotten(self) -> None:
        """Blocks do not bring forgotten or dead components back; records do."""
        self.monitor.forget(A)
        self.comes(THEM, Block({A: 0.1, C: 0.1}, {}))
        self.advance(E)
        self.assertEqual((self.told(A), self.told(C)), ([STARTED], []))

    def test_warning_in_a_block(self) -> None:
        """A record of a warned component is no heartbeat, wherever it comes."""
        self.monitor.become_follower()
        self.comes(THEM, Block({}, {A: 0.0}), [record(A, warned=True)])
        self.assertEqual((self.tracker.healthy, self.tracker.warned), (0, 1))

    def test_own(self) -> None:
        """What this replica wrote itself is known already."""
        self.comes(US, Block({A: 0.0}, {B: 0.0}), [record(B)])
        self.advance(W + 1)
        self.assertEqual((self.told(A), self.told(B)), ([STARTED, WARNED], []))

    def test_nobodys(self) -> None:
        """A block that no replica has written changes nothing."""
        self.advance(3)
        self.comes(0, Block({A: 0.0}, {}))
        self.advance(W - 2)
        self.assertEqual(self.told(A), [STARTED, WARNED])

    def test_records_of_others(self) -> None:
        """A record that somebody wrote after a block, without one, is a heartbeat."""
        self.comes(THEM, Block({A: 0.0}, {}))
        self.advance(W - 2)
        self.comes(OTHER, records=[record(A)])
        self.advance(W - 2)
        self.assertEqual(self.told(A), [STARTED])

    def test_invalid(self) -> None:
        """An invalid block is skipped and counted."""
        self.applier.apply(Event(PRESENCE + b"2", b"name", 99, 77))
        self.applier.apply(Event(BLOCK + b"2/0", b"nonsense", 99, 77))
        self.applier.apply(Event(BLOCK + b"2/0", None, 100, 0))
        self.assertEqual(self.etcd.mirror.skipped_count, 1)


class OwedTests(ApplierTestCase):
    """What others write decides whose records this replica owes."""

    def setUp(self) -> None:
        """Owe the records of A and B."""
        super().setUp()
        for _ in range(2):
            self.etcd.blocks.plan([record(A), record(B)])
        self.assertEqual(self.etcd.blocks.owed, 2)

    def owed(self) -> list[str]:
        """Return whose records are owed."""
        return [each.component for each in self.etcd.blocks.plan_owed(10).restated]

    def own(self) -> list[str]:
        """Return whose next heartbeats would be written as records."""
        return [each.component for each in self.etcd.blocks.plan([record(A), record(B)]).own]

    def test_heard_elsewhere(self) -> None:
        """Who was heard elsewhere later is owed no record here."""
        self.comes(THEM, Block({A: 0.1}, {}))
        self.assertEqual(self.owed(), [B])

    def test_recorded_elsewhere(self) -> None:
        """Nor is who got a record elsewhere, with a block or without; the next is not due yet."""
        self.comes(THEM, Block({}, {A: 0.1}), [record(A)])
        self.comes(THEM, records=[record(B)])
        self.assertEqual(self.owed(), [])
        self.assertEqual(self.own(), [])

    def test_warned_or_deleted_elsewhere(self) -> None:
        """After a warning or a removal the next heartbeat is written as a record."""
        for block in (None, Block({}, {})):
            self.comes(THEM, block, [record(A, warned=True)])
            self.comes(THEM, deleted=B)
            self.assertEqual(self.owed(), [])
            self.assertEqual(self.own(), [A, B])

    def test_loaded(self) -> None:
        """After all was read, records are owed of those that still have one, and not a warning."""
        self.etcd.blocks.plan([record(C)])
        self.etcd.blocks.plan([record(C)])
        records = [record(A), record(C, warned=True)]
        self.applier.load([StoredRecord(each, 0, False) for each in records], [], first=False)
        self.assertEqual(self.owed(), [A])
        self.assertEqual(self.own(), [B])


class ReadersTests(ApplierTestCase):
    """Whether all read blocks."""

    def sees(self, key: bytes, value: bytes | None) -> bool:
        """See a change of a key; return whether all read blocks."""
        self.revision += 1
        self.applier.apply(Event(key, value, self.revision, 77))
        return self.applier.all_read_blocks

    def test_comings_and_goings(self) -> None:
        """All do while each life key has a sign of life, and each sign of life the mark."""
        mark = b"name blocks"
        self.assertTrue(self.sees(PRESENCE + b"2", mark))
        self.assertFalse(self.sees(LIFE + b"1", b"1"))
        self.assertTrue(self.sees(PRESENCE + b"1", mark))
        self.assertTrue(self.sees(PRESENCE + b"1", mark + b" waiting"))
        self.assertFalse(self.sees(PRESENCE + b"3", b"old"))
        self.assertFalse(self.sees(PRESENCE + b"3", b"old waiting"))
        self.assertTrue(self.sees(PRESENCE + b"3", None))
        self.assertFalse(self.sees(LIFE + b"12", b"1"))
        self.assertTrue(self.sees(LIFE + b"12", None))

    def test_loaded(self) -> None:
        """After all was read, only what is there counts."""
        self.sees(PRESENCE + b"3", b"old")
        items = [KeyValue(PRESENCE + b"2", b"name blocks", 1, 1, 77)]
        self.applier.load([], items, first=False)
        self.assertTrue(self.applier.all_read_blocks)
        self.applier.load([], [*items, KeyValue(LIFE + b"5", b"1", 1, 1, 77)], first=False)
        self.assertFalse(self.applier.all_read_blocks)
