"""What replicas share of the guard, and what becomes of statements."""

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from hbtd.guard.disruptions import EndReason
from hbtd.guard.domains import DomainKind
from hbtd.guarding.shared import KIND, NAME, SharedState, decode, encode
from hbtd.guarding.sharing import Sharing
from hbtd.guarding.statements import Statement, loaded
from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.settings import Setting

NUMBERS = st.floats(0, 2e9, allow_nan=False)
STATEMENTS = st.builds(
    Statement,
    number=st.integers(0, 10**9),
    at=NUMBERS,
    domain=st.text(max_size=70),
    kind=st.sampled_from(DomainKind),
    began=NUMBERS,
    away=st.integers(0, 10**6),
    living=st.integers(0, 10**6),
    since=NUMBERS,
    until=st.none() | NUMBERS,
    includes=st.lists(st.text(max_size=9), max_size=3).map(tuple),
    ended=st.none() | st.sampled_from(EndReason),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(("at", "number", "statements", "disruptions", "counts", "ended", "x")),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


def made(number: int, domain: str = "x1000c0", ended: EndReason | None = None) -> Statement:
    """Return a statement."""
    return Statement(number, 100.0 + number, domain, DomainKind.CHASSIS, 90.0, 8, 8, ended=ended)


class FormTests(SynchronousTestCase):
    """The text of the setting."""

    @given(st.lists(STATEMENTS, max_size=4), st.integers(0, 99))
    def test_round_trip(self, statements: list[Statement], number: int) -> None:
        """What is encoded is decoded."""
        counts = {"x1000c0": (8, 16)}
        state = SharedState(5.0, number, statements, [{"domain": "x1000c0"}], counts)
        self.assertEqual(decode(encode(state)), state)

    @given(JSON)
    def test_anything(self, value: object) -> None:
        """Whatever is in the store, a state results, and statements that are statements."""
        state = decode(json.dumps(value))
        self.assertGreaterEqual(state.number, 0)
        self.assertTrue(all(isinstance(each, Statement) for each in state.statements))
        self.assertIsNone(loaded(value))

    def test_words(self) -> None:
        """Each statement is a sentence that says what, of how many, and how it ended."""
        group = Statement(
            1, 9.0, "pdu-3", DomainKind.GROUP, 5.0, 3, 4, includes=("x1c0s0", "x1c0s1")
        )
        self.assertEqual(
            group.in_words(),
            "group pdu-3 is disrupted: 3 of 4 living components in it fell silent together; that"
            " includes x1c0s0, x1c0s1",
        )
        system = Statement(1, 9.0, "s0", DomainKind.SYSTEM, 5.0, 3, 4)
        self.assertIn("the whole system is disrupted: 3 of 4", system.in_words())
        self.assertEqual(
            [
                made(3, ended=each).in_words().partition(" has ended after 13 s")[2]
                for each in EndReason
            ],
            [
                ": all that fell silent are back, or are not expected any more",
                ", as long as it may: 8 components still silent",
                ": it was released by an operator, with 8 components silent",
            ],
        )


class SlowStore(MemoryStore):
    """A store whose writes of settings end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[Setting, Deferred[None]]] = []

    def write_settings(self, settings: list[Setting]) -> Deferred[None]:  # type: ignore[override]
        """Write later."""
        self.writes.append((settings[0], Deferred()))
        return self.writes[-1][1]

    def end(self, *, failing: bool = False) -> None:
        """End the earliest write."""
        setting, write = self.writes.pop(0)
        if failing:
            write.errback(StoreUnusable("disk full"))
            return
        self.settings.apply(setting, 0)
        write.callback(None)


class SharingTests(SynchronousTestCase):
    """One replica's view of the state, with a store in the test's hands."""

    def setUp(self) -> None:
        self.store = SlowStore()
        self.now = 50.0
        self.sharing = Sharing(self.store, lambda: self.now, lambda: 1000.0 + self.now)
        self.said: list[int] = []
        self.sharing.on_statement(lambda each: self.said.append(each.number))
        self.sharing.begin()

    def arrive(self, *numbers: int, at: float = 1000.0) -> None:
        """Let a state of another replica arrive."""
        state = SharedState(at, numbers[-1], [made(each) for each in numbers])
        self.store.settings.apply(Setting(KIND, NAME, encode(state)), 0)

    def test_written_before_it_is_said(self) -> None:
        """A statement is passed on when it is in the store, and once."""
        self.sharing.lead()
        self.sharing.write([made(1)], [], {})
        self.assertEqual((self.said, self.sharing.state.number), ([], 1))
        self.store.end()
        self.assertEqual(self.said, [1])
        self.store.settings.apply(Setting(KIND, NAME, "{}"), 0)
        self.assertEqual(self.said, [1])

    def test_store_fails(self) -> None:
        """If it can't be stored it is said all the same, once, and is to be written again."""
        self.sharing.lead()
        self.sharing.write([made(1)], [], {})
        self.store.end(failing=True)
        self.assertEqual((self.said, self.sharing.stale), ([1], True))
        self.sharing.write([], [], {})
        self.store.end()
        self.assertEqual((self.said, self.sharing.stale), ([1], False))
        (text,) = self.store.settings.texts(KIND).values()
        self.assertEqual([each.number for each in decode(text).statements], [1])

    def test_gathered(self) -> None:
        """While a write goes on, later ones are gathered into one; nothing is lost or reordered."""
        self.sharing.lead()
        for number in (1, 2, 3):
            self.sharing.write([made(number)], [], {})
        self.assertEqual(len(self.store.writes), 1)
        self.store.end()
        self.assertEqual((self.said, len(self.store.writes)), ([1], 1))
        self.store.end()
        self.assertEqual((self.said, self.store.writes), ([1, 2, 3], []))

    def test_others(self) -> None:
        """What another replica states is passed on once, however often it arrives."""
        self.arrive(1, 2)
        self.arrive(1, 2, 3)
        self.arrive(2, 3)
        self.assertEqual(self.said, [1, 2, 3])

    def test_at_the_start(self) -> None:
        """What was in the store at the start is known, and not said again."""
        self.sharing = Sharing(self.store, lambda: self.now, lambda: 1000.0 + self.now)
        self.sharing.on_statement(lambda each: self.said.append(each.number + 100))
        self.arrive(1, 2, at=1030.0)
        self.said.clear()
        self.sharing.begin()
        self.assertEqual((self.sharing.state.number, self.sharing.age), (2, 20.0))
        self.arrive(1, 2, 3)
        self.assertEqual(self.said, [3, 103])

    def test_age(self) -> None:
        """What arrives later is as old as it is since then, whatever the writer's clock says."""
        self.arrive(1, at=-5000.0)
        self.now += 7.0
        self.assertEqual(self.sharing.age, 7.0)
        self.arrive(1, 2, at=9e9)
        self.assertEqual(self.sharing.age, 0.0)

    def test_late_write(self) -> None:
        """What a former leader writes late is replaced, and is no news."""
        self.sharing.lead()
        self.sharing.write([made(1), made(2)], [], {})
        self.store.end()
        self.arrive(1)
        self.assertEqual((self.sharing.state.number, self.sharing.stale), (2, True))
        self.sharing.follow()
        self.assertFalse(self.sharing.stale)

    def test_lost(self) -> None:
        """If etcd has lost the state, the next leader's statements are news all the same."""
        self.arrive(1, 2)
        self.store.settings.replace([])
        self.assertEqual((self.sharing.state.number, self.sharing.number), (0, 2))
        self.sharing.lead()
        self.sharing.write([made(self.sharing.number + 1)], [], {})
        self.store.end()
        self.assertEqual(self.said, [1, 2, 3])

    def test_kept(self) -> None:
        """Old statements are kept up to twenty, recent ones all."""
        self.sharing.lead()
        self.store.write_settings = lambda settings: succeed(None)  # type: ignore[method-assign]
        self.sharing.write([made(number) for number in range(1, 31)], [], {})
        self.assertEqual(len(self.sharing.state.statements), 20)
        now = [
            made(number).__class__(**{**vars(made(number)), "at": 1050.0}) for number in (31, 32)
        ]
        self.sharing.write(now * 20, [], {})
        self.assertEqual(len(self.sharing.state.statements), 40)

    def test_bug(self) -> None:
        """A bug in writing is logged, and further writes are made."""
        self.sharing.lead()
        self.store.write_settings = lambda settings: fail(ValueError("a bug"))  # type: ignore[method-assign]
        self.sharing.write([made(1)], [], {})
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        del self.store.write_settings
        self.sharing.write([made(2)], [], {})
        self.store.end()
        self.assertEqual(self.said, [1, 2])
