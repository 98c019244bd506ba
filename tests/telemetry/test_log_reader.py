"""The reader of the log: what it puts into the backlog, and where it leaves Kafka's cursor."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.value_types import TelemetryAddress
from hbtd.store.interface import LogEntry, NotLeading, StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.trimming import MAX_WAITING
from hbtd.telemetry.backlog import CAPACITY, Backlog
from hbtd.telemetry.log_reader import KAFKA, LogReader
from hbtd.tracker.transitions import Judgement
from tests.support.telemetry import entries, numbered

ADDRESS = TelemetryAddress("kafka", 9092, "topic")


class TroubledStore(MemoryStore):
    """A store that fails when told to, and counts how often its log is read."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.reads = 0
        self.moves: list[int] = []
        self.held: list[Deferred[None]] | None = None

    def log(self, after: int, most: int) -> Deferred[Sequence[LogEntry]]:
        """Return entries as they are now, once the test releases `held`, or fail."""
        self.reads += 1
        if self.error is not None:
            return fail(self.error)
        found = super().log(after, most)
        if self.held is None:
            return found
        waiting: Deferred[None] = Deferred()
        self.held.append(waiting)
        return waiting.addCallback(lambda _: found)

    def move_cursor(self, reader: str, number: int) -> Deferred[None]:
        """Move the cursor, or fail."""
        if self.error is not None:
            return fail(self.error)
        self.moves.append(number)
        return super().move_cursor(reader, number)


class LogReaderTestCase(SynchronousTestCase):
    """Has a store in memory, a backlog, and readers of the log."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = TroubledStore()
        self.store.open()
        self.backlog = Backlog()
        self.backlog.send_to(ADDRESS)
        self.reader = self.read()

    def read(self, undelivered: Sequence[Judgement] = (), since: int = 0) -> LogReader:
        """Start a reader in place of the last one."""
        self.reader = LogReader(
            self.clock, self.store, self.backlog, undelivered, since, lambda: 0.0
        )
        self.reader.start()
        return self.reader

    def commit(self, numbers: range) -> None:
        """Commit judgements, and tell the reader."""
        self.store.commit(numbered(numbers))
        self.reader.committed()

    def publish(self, most: int = 10**9) -> list[int]:
        """Do as the thread does when Kafka works; return the timestamps that were published."""
        found: list[int] = []
        while self.backlog.pending and len(found) < most:
            batch = self.backlog.take()
            found += (int(each.judgement.timestamp) for each in batch)
            self.backlog.settle(batch, [True] * len(batch))
            self.reader.progressed()
        return found

    @property
    def cursor(self) -> int | None:
        """The stored cursor."""
        return self.successResultOf(self.store.cursor(KAFKA))


class ReadTests(LogReaderTestCase):
    """What is read."""

    def test_all_in_order(self):
        """Everything is read in the order of the log, a bounded part of it ahead of Kafka."""
        self.commit(range(20_000))
        self.assertLessEqual(self.backlog.pending, CAPACITY)
        self.assertGreater(self.backlog.pending, CAPACITY // 2)
        self.assertEqual(self.reader.pending, 20_000)
        self.assertEqual(self.publish(), list(range(20_000)))
        self.assertEqual(self.reader.pending, 0)
        self.assertTrue(self.backlog.empty)

    def test_committed_while_reading(self):
        """What is committed while the store is read is read, too."""
        self.store.held = []
        self.commit(range(1))
        self.commit(range(1, 2))
        while self.store.held:
            self.store.held.pop(0).callback(None)
        self.assertEqual(self.publish(), [0, 1])

    def test_gap(self):
        """A log whose last number has no entry is not read again and again, and nothing waits."""
        self.commit(range(3))
        self.publish()
        self.store._log.last_number += 5
        self.reader.committed()
        self.clock.advance(1)
        reads = self.store.reads
        self.clock.pump([1.0] * 20)
        self.assertEqual((self.store.reads, self.reader.pending), (reads, 0))
        self.assertTrue(self.backlog.empty)
        self.commit(range(3, 4))
        self.assertEqual(self.publish(), [3])

    def test_entry_behind_a_gap(self):
        """An entry that gets into the log below its known end is read when it is announced."""
        self.store.commit(numbered(range(2)))
        late = self.store._log._entries.pop()
        self.reader.committed()
        self.assertEqual(self.publish(), [0])
        self.store._log._entries.append(late)
        self.reader.committed()
        self.assertEqual(self.publish(), [1])

    def test_too_many(self):
        """When too many wait, the oldest are dropped and counted, with a line a minute at most."""
        with capturedLogs() as said:
            for first in range(0, MAX_WAITING + 5000, 5000):
                self.commit(range(first, first + 5000))
            self.assertEqual((self.reader.pending, self.reader.dropped_count), (MAX_WAITING, 5000))
            self.commit(range(MAX_WAITING + 5000, MAX_WAITING + 5100))
        self.assertEqual((self.reader.pending, self.reader.dropped_count), (MAX_WAITING, 5100))
        self.assertEqual([each["messages"] for each in said], ["5000 messages were"])
        self.assertEqual(self.publish(), list(range(5100, MAX_WAITING + 5100)))

    def test_too_many_with_a_batch_in_hand(self):
        """A batch that Kafka has already is not dropped, and the reader does not spin."""
        self.commit(range(1000))
        batch = self.backlog.take()
        self.store.commit(numbered(range(1000, MAX_WAITING + 1000)))
        self.reader.committed()
        self.assertEqual(self.reader.dropped_count, 500)
        self.assertEqual(self.reader.pending, MAX_WAITING + 500)
        self.backlog.settle(batch, [True] * 500)
        self.reader.progressed()
        self.clock.advance(1)
        self.assertEqual(self.cursor, 1000)

    def test_store_fails(self):
        """While the store fails, reading is tried again with pauses; that is said once."""
        self.store.error = StoreUnusable("disk full")
        with capturedLogs() as said:
            self.commit(range(10))
            self.clock.pump([0.1] * 100)
            self.assertLess(self.store.reads, 15)
            self.store.error = None
            self.clock.advance(2)
        self.assertEqual(self.publish(), list(range(10)))
        self.assertEqual(len(said), 2, said)
        self.assertIn("disk full", said[0]["error"])

    def test_no_longer_leading(self):
        """A leader that is about to follow says nothing, and goes on if it leads again."""
        self.commit(range(10))
        self.publish()
        self.store.error = NotLeading("another")
        with capturedLogs() as said:
            self.clock.pump([0.1] * 30)
        self.assertEqual(list(said), [])
        self.store.error = None
        self.clock.advance(2)
        self.assertEqual(self.cursor, 10)


class CursorTests(LogReaderTestCase):
    """Where the cursor is."""

    def test_moves(self):
        """The cursor follows what Kafka has acknowledged, once a second at most."""
        self.assertEqual(self.cursor, 0)
        self.clock.advance(1)
        self.commit(range(2000))
        self.assertEqual(self.cursor, 0)
        self.publish(500)
        self.assertEqual(self.cursor, 500)
        self.publish(500)
        self.publish(500)
        self.assertEqual(self.cursor, 500)
        self.clock.advance(1)
        self.assertEqual(self.cursor, 1500)
        self.clock.pump([1.0] * 10)
        self.assertEqual(self.store.moves, [0, 500, 1500])

    def test_not_beyond_what_waits(self):
        """The cursor stays behind a message that Kafka has refused, until that is given up."""
        self.clock.advance(1)
        self.commit(range(3))
        order = self.backlog.order
        while self.backlog.refuse(order) == (0, False) and not self.backlog._refusals.aside:
            self.backlog.take()
        batch = self.backlog.take()
        self.assertEqual([each.number for each in batch], [2])
        self.backlog._refusals._doubted.clear()
        self.assertEqual(self.backlog.done, 0)
        self.backlog.settle(batch, [True])
        self.reader.progressed()
        self.clock.advance(1)
        self.assertEqual(self.cursor, 0)
        self.backlog.take()
        self.assertEqual(self.backlog.refuse(order), (1, False))
        self.assertEqual(self.backlog.done, 2)

    def test_goes_on(self):
        """Another reader goes on from the cursor, whatever the last one had in memory."""
        self.clock.advance(1)
        self.commit(range(2000))
        self.publish(1000)
        self.clock.advance(1)
        self.reader.stop()
        self.read(numbered(range(7)), since=2000)
        self.assertEqual(self.publish(), list(range(1000, 2000)))

    def test_stopped_while_reading(self):
        """What the store returns to a reader that was stopped has no effect."""
        self.store.held = []
        self.commit(range(10))
        self.reader.stop()
        self.backlog.clear()
        held, self.store.held = self.store.held, None
        self.read()
        for each in held:
            each.callback(None)
        self.assertEqual(self.publish(), list(range(10)))

    def test_not_beyond_what_was_dropped(self):
        """A reader that is stopped while it reads leaves the cursor where Kafka has been told."""
        self.commit(range(1500))
        self.clock.advance(1)
        self.store.held = []
        self.commit(range(1500, 1600))
        self.publish(500)
        self.reader.stop()
        self.backlog.clear()
        held, self.store.held = self.store.held, None
        held[0].callback(None)
        self.assertEqual(self.cursor, 0)
        self.read()
        self.assertEqual(self.publish(), list(range(1600)))

    def test_new(self):
        """A store of an earlier version: first what is not delivered, then what follows."""
        self.reader.stop()
        self.store = TroubledStore()
        self.store.commit(numbered(range(5)))
        self.read(numbered(range(3, 5)), since=5)
        self.assertEqual(self.cursor, 5)
        self.commit(range(5, 7))
        self.assertEqual(self.reader.pending, 4)
        self.assertEqual(self.backlog.done, 4)
        self.assertEqual(self.publish(), [3, 4, 5, 6])
        self.clock.advance(1)
        self.assertEqual(self.cursor, 7)

    def test_unlogged(self):
        """What is not delivered is in memory only until Kafka has it, at most 100,000, and counted.

        None of it is kept longer.
        """
        self.reader.stop()
        self.store = TroubledStore()
        undelivered = numbered(range(MAX_WAITING + 10))
        self.read(undelivered, since=0)
        self.commit(range(5))
        self.assertEqual(self.reader.unlogged, MAX_WAITING)
        self.assertEqual(self.reader.pending, MAX_WAITING + 5)
        self.assertEqual(self.reader.dropped_count, 10)
        self.publish(MAX_WAITING)
        self.assertEqual((self.reader.unlogged, self.reader.pending), (0, 5))
        self.assertEqual(len(self.reader._undelivered), 0)

    def test_another_log(self):
        """A cursor beyond the end of the log, which has been replaced, hides nothing."""
        self.reader.stop()
        self.store = TroubledStore()
        self.store.move_cursor(KAFKA, 1000)
        self.read()
        self.commit(range(3))
        self.assertEqual(self.publish(), [0, 1, 2])
        self.clock.advance(1)
        self.assertEqual(self.cursor, 3)
        # Nor does it hide what is committed until the next start.
        self.reader.stop()
        self.store.commit(numbered(range(3, 6)))
        self.read()
        self.assertEqual(self.publish(), [3, 4, 5])

    def test_far_behind(self):
        """A leader that finds too many behind the cursor drops the oldest, and says so once."""
        self.reader.stop()
        self.store.commit(numbered(range(MAX_WAITING + 10)))
        with capturedLogs() as said:
            self.read(since=MAX_WAITING + 10)
        self.assertEqual(self.reader.dropped_count, 10)
        self.assertEqual(len(said), 1)
        self.assertEqual(self.publish()[:2], [10, 11])

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("crpkta"), st.integers(1, 900)), max_size=40))
    def test_at_least_once(self, steps):
        """Over kills at any moment everything is published; a kill repeats one second at most."""
        self.setUp()
        committed, published = 0, list[int]()
        for what, count in steps:
            if what == "c":
                self.commit(range(committed, committed + count))
                committed += count
            elif what == "p":
                published += self.publish(count)
            elif what == "t":
                self.clock.advance(1)
            elif what == "a":
                self.backlog.send_to(ADDRESS._replace(port=count))
            elif what == "r" and self.backlog.take():
                self.backlog.refuse(self.backlog.order)
                self.backlog.send_to(ADDRESS)
            else:  # killed, or another leads
                self.reader.stop()
                self.backlog = Backlog()
                self.backlog.send_to(ADDRESS)
                self.assertLessEqual(self.cursor or 0, len(set(published)))
                self.read(since=committed)
        published += self.publish()
        self.assertEqual(list(dict.fromkeys(published)), list(range(committed)))


class BacklogTests(SynchronousTestCase):
    """What the backlog says of how far Kafka has been told."""

    @settings(max_examples=300)
    @given(
        st.integers(1, 60),
        st.sets(st.integers(0, 59), max_size=20),
        st.lists(st.integers(0, 3), max_size=200),
    )
    def test_done(self, count, bad, steps):
        """Nothing up to `done` waits, and everything behind it does or was told out of turn."""
        backlog = Backlog()
        backlog.send_to(ADDRESS)
        backlog.begin(0)
        backlog.put(entries(range(count)), more=False)
        told: set[int] = set()
        for step in steps:
            if step == 3:
                backlog.send_to(ADDRESS)
                continue
            batch = backlog.take()
            if any(each.number - 1 in bad for each in batch):
                before = {each.number for each in batch}
                refused = backlog.refused_count
                backlog.refuse(backlog.order)
                if backlog.refused_count > refused:
                    told |= before
            else:
                overtaken = {each.number for each in backlog._refusals.aside}
                backlog.settle(batch, [True] * len(batch))
                told |= {each.number for each in batch}
                waits = {each.number for each in (*backlog._waiting, *backlog._refusals.aside)}
                told |= overtaken - waits
            self.assertEqual(backlog.pending, count - len(told))
            self.assertEqual(
                backlog.done,
                next((each for each in range(count) if each + 1 not in told), count),
            )

    def test_dropped_batch(self):
        """A batch that was dropped while Kafka had it is not sent again, and counts if accepted."""
        backlog = Backlog()
        backlog.send_to(ADDRESS)
        backlog.put(entries(range(10)), more=False)
        order = backlog.order
        batch = backlog.take()
        backlog.clear()
        self.assertEqual(backlog.pending, 0)
        self.assertFalse(backlog.holds(order))
        backlog.begin(5)
        self.assertEqual(backlog.settle(batch, [True] * 10), 0)
        self.assertEqual((backlog.published_count, backlog.pending, backlog.done), (10, 0, 5))
        self.assertEqual(backlog.refuse(order), (0, False))

    def test_order_at_another_address(self):
        """What was set aside stays before the batch in hand when the address changes."""
        backlog = Backlog()
        backlog.send_to(ADDRESS)
        backlog.put(entries(range(3)), more=False)
        while not backlog._refusals.aside:
            backlog.take()
            backlog.refuse(backlog.order)
        batch = backlog.take()
        self.assertEqual([each.number for each in batch], [2])
        backlog.send_to(ADDRESS)
        # The last Kafka accepts what the next one has yet to be told.
        self.assertEqual(backlog.settle(batch, [True]), 0)
        self.assertEqual([each.number for each in backlog.take()], [1, 2, 3])

    def test_idle(self):
        """While nothing waits, Kafka does not seem to refuse everything."""
        backlog = Backlog()
        backlog.send_to(ADDRESS)
        for _ in range(100):
            self.assertEqual(backlog.take(), [])
        self.assertFalse(backlog.refuses_everything)
        backlog.put(entries(range(20)), more=False)
        tried = 0
        while not backlog.refuses_everything:
            backlog.take()
            backlog.refuse(backlog.order)
            tried += 1
        self.assertLess(tried, 15)

    def test_nothing_in_hand(self):
        """While nothing is on its way, dropping what waits does not cost the connection."""
        backlog = Backlog()
        backlog.send_to(ADDRESS)
        backlog.put(entries(range(10)), more=False)
        order = backlog.order
        backlog.clear()
        self.assertTrue(backlog.holds(order))
