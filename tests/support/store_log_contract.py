"""The tests of the log of transitions that all stores pass; see `store_contract.py`."""

import random
from itertools import chain
from math import inf
from typing import Any, NamedTuple

from twisted.internet.defer import gatherResults

from hbtd.store.interface import LogEntry
from hbtd.tracker.transitions import Judgement, Phase, Transition
from tests.support.store_contract import (
    DIED,
    RESTARTED,
    STARTED,
    WARNED,
    StoreFixture,
    judgement,
    record,
)

UNKNOWN, HEALTHY, WARNED_ABOUT, DEAD = Phase
EVERYTHING = 10**9


def judged(
    component: str,
    at: float = 1.5,
    transition: Transition = WARNED,
    before: Phase = HEALTHY,
    why: str = "why",
    timestamp: str = "t",
) -> Judgement:
    """Make a judgement that says how it came about."""
    return Judgement(component, transition, timestamp, before, why, at)


class Said(NamedTuple):
    """All fields of an entry, for comparisons: those of judgements leave some out."""

    number: int
    component: str
    transition: Transition
    timestamp: str
    before: Phase
    why: str
    at: float
    judge: str

    @classmethod
    def of(cls, entry: LogEntry) -> "Said":
        """Return what an entry says."""
        each = entry.judgement
        return cls(
            entry.number,
            each.component,
            each.transition,
            each.timestamp,
            each.before,
            each.why,
            each.at,
            entry.judge,
        )


class LogModel:
    """A model of a log."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []

    def trim(self, before: float, most: int, told: int) -> int:
        """Delete entries, one after the other; return how many."""
        last = {each.judgement.component: each.number for each in self.entries}
        may_go = [
            each
            for each in self.entries
            if each.number <= told and each.number != last[each.judgement.component]
        ]
        gone = [each for each in may_go if each.judgement.at < before]
        for each in may_go:
            if each not in gone and len(self.entries) - len(gone) > most:
                gone.append(each)
        self.entries = [each for each in self.entries if each not in gone]
        return len(gone)


class LogContract(StoreFixture):
    """The tests of the log, its readers' cursors, and its bounds."""

    judge = "host:28500"
    """The host and port of this test's replica, which `make_store` tells the store."""

    async def logged(self, store: Any) -> list[LogEntry]:
        """Return the whole log; check that numbers rise and that the last one is known."""
        entries: list[LogEntry] = list(await store.log(0, EVERYTHING))
        numbers = [each.number for each in entries]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertTrue(all(number > 0 for number in numbers))
        self.assertEqual(store.last_number(), numbers[-1] if numbers else 0)
        return entries

    async def names(self, store: Any) -> str:
        """Return the timestamps of the log's entries, joined."""
        return "".join(each.judgement.timestamp for each in await self.logged(store))

    async def filled(self, store: Any, text: str, at: float = 100.0) -> list[int]:
        """Log an entry for each letter, one second apart; return their numbers.

        `aba` are three entries of two components, with the timestamps `a`, `b` and `a`.
        """
        for i, letter in enumerate(text):
            await store.commit([judged(f"x{letter}", at + i, timestamp=letter)])
        return [each.number for each in await self.logged(store)][-len(text) :]

    async def test_no_log(self):
        """A new store has an empty log, and knows no reader."""
        store = await self.opened()
        self.assertEqual(await self.logged(store), [])
        self.assertEqual(store.last_number(), 0)
        self.assertIs(await store.cursor("kafka"), None)
        self.assertEqual(await store.trim(inf, 0, EVERYTHING), 0)

    async def test_entry(self):
        """An entry has all that the judgement says, and who judged."""
        store = await self.opened()
        all_kinds = [
            judged(f"x{i}c{k}", 1.7e9 + i + k / 7, kind, phase, f"silent for {i}.{k} s", f"t{i}")
            for i, kind in enumerate(Transition)
            for k, phase in enumerate(Phase)
        ]
        await store.commit(all_kinds)
        entries = await self.logged(store)
        self.assertEqual(
            [Said.of(each)[1:] for each in entries],
            [Said.of(LogEntry(0, each, self.judge))[1:] for each in all_kinds],
        )
        for entry in entries:
            self.assertIsInstance(entry, LogEntry)
            self.assertIsInstance(entry.judgement.transition, Transition)
            self.assertIsInstance(entry.judgement.before, Phase)

    async def test_any_text(self):
        """Texts in the log are kept to the letter."""
        store = await self.opened()
        texts = ["", " ", "'", '"', "\\", "%s", "{}", "NULL", "0", "1e3", "\n", "é日\U0001f600"]
        kept = [
            judged(f"x{i}", timestamp=text, why=text[::-1] + "!") for i, text in enumerate(texts)
        ]
        await store.commit(kept)
        entries = await self.logged(store)
        self.assertEqual([each.judgement.timestamp for each in entries], texts)
        self.assertEqual([each.judgement.why for each in entries], [each.why for each in kept])

    async def test_every_judgement(self):
        """The log has every judgement in the order of commits, also of one component at once."""
        store = await self.opened()
        story = [
            [judged("x1", transition=STARTED), judged("x2", transition=DIED)],
            [judged("x1"), judged("x1", transition=DIED), judged("x1", transition=STARTED)],
            [],
            [judged("x3"), judged("x1"), judged("x3", transition=RESTARTED)],
        ]
        for judgements in story:
            await store.commit(judgements)
        entries = await self.logged(store)
        self.assertEqual([each.judgement for each in entries], list(chain.from_iterable(story)))

    async def test_many_at_once(self):
        """Thousands of judgements in one commit are logged in order, each with its own facts."""
        store = await self.opened()
        many = [judged(f"x{i % 1700}", float(i), why=str(i)) for i in range(3456)]
        await store.commit(many)
        entries = await self.logged(store)
        self.assertEqual([each.judgement.why for each in entries], [each.why for each in many])
        self.assertEqual([each.judgement.at for each in entries], [each.at for each in many])
        self.assertEqual([each.judgement for each in entries], many)

    async def test_read_in_portions(self):
        """The log is read from any place, as many entries as wanted at most."""
        store = await self.opened()
        await store.commit([judged(f"x{i % 3}", timestamp=str(i)) for i in range(10)])
        await store.commit([judged(f"x{i % 3}", timestamp=str(i)) for i in range(10, 15)])
        entries = await self.logged(store)
        self.assertEqual(len(entries), 15)
        for i, entry in enumerate(entries):
            for most in (0, 1, 2, 7, 15, 16):
                expected = entries[i + 1 : i + 1 + most]
                self.assertEqual(list(await store.log(entry.number, most)), expected)
        self.assertEqual(list(await store.log(-5, 2)), entries[:2])
        self.assertEqual(list(await store.log(store.last_number() + 5, 2)), [])

    async def test_numbers_after_reopening(self):
        """The log goes on with higher numbers when the store is opened again."""
        first = self.make_store()
        await first.open()
        await self.filled(first, "aba")
        before = await self.logged(first)
        await first.close()
        second = await self.opened()
        self.assertEqual(second.last_number(), before[-1].number)
        await self.filled(second, "cb")
        after = await self.logged(second)
        self.assertEqual(list(map(Said.of, after[:3])), list(map(Said.of, before)))
        self.assertEqual(await self.names(second), "abacb")

    async def test_numbers_after_trimming(self):
        """A number is used once, also if what had it was trimmed, delivered and forgotten."""
        first = self.make_store()
        await first.open()
        await self.filled(first, "abcba")
        await first.delivered(await first.undelivered())
        for name in ("xa", "xb", "xc"):
            await first.forget(name)
        await first.trim(inf, 0, EVERYTHING)
        last = first.last_number()
        await first.close()
        second = await self.opened()
        self.assertEqual(second.last_number(), last)
        (number,) = await self.filled(second, "d")
        self.assertGreater(number, last)

    async def test_forget_keeps_the_log(self):
        """What happened to a component that is forgotten stays in the log."""
        store = await self.opened()
        await self.filled(store, "aba")
        await store.forget("xa")
        self.assertEqual(await self.names(store), "aba")
        await store.trim(inf, 0, EVERYTHING)
        self.assertEqual(await self.names(store), "ba")

    async def test_only_commits_are_logged(self):
        """Records, deliveries and cursors leave no entry."""
        store = await self.opened()
        await store.commit([judged("x1", transition=STARTED)], [record("x1")])
        await store.checkpoint([record("x1"), record("x2")])
        await store.delivered([judgement("x1", STARTED)])
        await store.move_cursor("kafka", 1)
        await store.clear_records()
        entries = await self.logged(store)
        self.assertEqual([each.judgement for each in entries], [judgement("x1", STARTED)])

    async def test_one_after_the_other_in_the_log(self):
        """The log has commits in the order of the calls, which need not wait for each other."""
        store = await self.opened()
        await gatherResults(
            [store.commit([judged(f"x{i % 4}", timestamp=str(i % 10))]) for i in range(20)]
        )
        self.assertEqual(await self.names(store), "01234567890123456789")

    async def test_cursor(self):
        """Each reader has a cursor of its own, which survives that the store is closed."""
        first = self.make_store()
        await first.open()
        await first.move_cursor("kafka", 7)
        await first.move_cursor("other", 2)
        await first.move_cursor("kafka", 12)
        self.assertEqual(await first.cursor("kafka"), 12)
        await first.close()
        second = await self.opened()
        self.assertEqual(await second.cursor("kafka"), 12)
        self.assertEqual(await second.cursor("other"), 2)
        self.assertIs(await second.cursor("third"), None)

    async def test_cursor_at_nothing(self):
        """A reader that has told nothing yet is not new."""
        store = await self.opened()
        await store.move_cursor("kafka", 0)
        self.assertEqual(await store.cursor("kafka"), 0)

    async def test_trim_by_age(self):
        """Entries from before a time are deleted, those of that time and later are not."""
        store = await self.opened()
        await self.filled(store, "abcabcabc", at=100.0)
        self.assertEqual(await store.trim(100.0, EVERYTHING, EVERYTHING), 0)
        self.assertEqual(await store.trim(102.0, EVERYTHING, EVERYTHING), 2)
        self.assertEqual(await self.names(store), "cabcabc")
        self.assertEqual(await store.trim(102.0, EVERYTHING, EVERYTHING), 0)
        self.assertEqual(await store.trim(104.5, EVERYTHING, EVERYTHING), 3)
        self.assertEqual(await self.names(store), "cabc")

    async def test_trim_by_age_after_a_step_of_the_clock(self):
        """Old entries are deleted, also behind one that claims to be of the future."""
        store = await self.opened()
        for letter, at in zip("abcdabcd", (100, 9999, 101, 102, 103, 9999, 50, 104), strict=True):
            await store.commit([judged(f"x{letter}", float(at), timestamp=letter)])
        self.assertEqual(await store.trim(103.0, EVERYTHING, EVERYTHING), 3)
        self.assertEqual(await self.names(store), "babcd")

    async def test_trim_by_count(self):
        """The first entries are deleted as long as there are too many."""
        store = await self.opened()
        await self.filled(store, "abababab")
        self.assertEqual(await store.trim(0.0, 8, EVERYTHING), 0)
        self.assertEqual(await store.trim(0.0, 5, EVERYTHING), 3)
        self.assertEqual(await self.names(store), "babab")
        self.assertEqual(await store.trim(0.0, 0, EVERYTHING), 3)
        self.assertEqual(await self.names(store), "ab")

    async def test_trim_leaves_the_last_of_each(self):
        """The last entry of a component stays, however old, and counts among the entries."""
        store = await self.opened()
        await self.filled(store, "zabababy")
        self.assertEqual(await store.trim(0.0, 6, EVERYTHING), 2)
        self.assertEqual(await self.names(store), "zababy")
        self.assertEqual(await store.trim(inf, 0, EVERYTHING), 2)
        self.assertEqual(await self.names(store), "zaby")
        await self.filled(store, "z")
        self.assertEqual(await store.trim(inf, 0, EVERYTHING), 1)
        self.assertEqual(await self.names(store), "abyz")

    async def test_trim_leaves_what_is_not_told(self):
        """Entries above the number that was told stay, and so do all if nothing was told."""
        store = await self.opened()
        numbers = await self.filled(store, "aaaaaa")
        self.assertEqual(await store.trim(inf, 0, 0), 0)
        self.assertEqual(await store.trim(inf, 0, numbers[0]), 1)
        self.assertEqual(await store.trim(0.0, 2, numbers[2]), 2)
        self.assertEqual(await store.trim(0.0, 2, numbers[2]), 0)
        self.assertEqual(await self.names(store), "aaa")
        self.assertEqual(await store.trim(inf, EVERYTHING, numbers[-1]), 2)
        self.assertEqual(await self.names(store), "a")

    async def test_trim_leaves_judgements(self):
        """Trimming the log takes no judgement and no record."""
        store = await self.opened()
        kept = [judged("x1", transition=DIED), judged("x2")]
        await store.commit([judged("x1"), *kept], [record("x2")])
        await store.trim(inf, 0, EVERYTHING)
        await self.assertKept(store, kept, kept)
        await self.assertRecords(store, [record("x2")])

    async def test_trim_much(self):
        """Thousands of entries are trimmed at once, among thousands that stay."""
        store = await self.opened()
        await store.commit([judged(f"x{i}", 1.0) for i in range(1500)])
        await store.commit([judged(f"x{i}", 2.0) for i in range(2500)])
        await store.commit([judged(f"x{i}", 3.0) for i in range(2000)])
        self.assertEqual(await store.trim(2.0, EVERYTHING, EVERYTHING), 1500)
        self.assertEqual(await store.trim(0.0, 3000, EVERYTHING), 1500)
        entries = await self.logged(store)
        self.assertEqual(
            [each.judgement.component for each in entries],
            [f"x{i}" for i in (*range(1500, 2500), *range(2000))],
        )

    async def test_commits_while_trimming(self):
        """What is committed while the log is trimmed is logged, and the last of each stays."""
        store = await self.opened()
        await store.commit([judged(f"x{i % 50}", 1.0) for i in range(2000)])
        trimmed = store.trim(inf, 0, store.last_number())
        commits = [store.commit([judged(f"x{i}", 2.0, transition=DIED)]) for i in range(30)]
        await gatherResults([trimmed, *commits])
        entries = await self.logged(store)
        dead = [f"x{i}" for i in range(30)]
        self.assertEqual([each.judgement.component for each in entries[-30:]], dead)
        self.assertEqual(
            {each.judgement.component for each in entries}, {f"x{i}" for i in range(50)}
        )
        await store.trim(inf, 0, EVERYTHING)
        self.assertEqual(len(await self.logged(store)), 50)

    async def test_random_log(self):
        """After any sequence of commits and trims the log has what the model has."""
        store = await self.opened()
        rng, model = random.Random(1), LogModel()
        for step in range(150):
            some = [
                judged(f"x{rng.randrange(6)}", float(rng.randrange(step, step + 9)), why=str(step))
                for _ in range(rng.choice([0, 1, 1, 2, 5]))
            ]
            after = store.last_number()
            await store.commit(some)
            added = await store.log(after, EVERYTHING)
            self.assertEqual([each.judgement for each in added], some)
            model.entries += added
            if rng.random() < 0.3:
                before, most = rng.choice([0, step - 3, step + 4]), rng.choice([0, 3, 8, 15, 99])
                told = store.last_number() - rng.choice([0, 0, 2, 7])
                where = (step, before, most, told)
                deleted = await store.trim(float(before), most, told)
                self.assertEqual(deleted, model.trim(before, most, told), where)
            found = await self.logged(store)
            self.assertEqual(list(map(Said.of, found)), list(map(Said.of, model.entries)), step)
