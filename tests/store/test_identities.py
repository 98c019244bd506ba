"""Host names and NIDs are stored when they change, and restored."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.store.condition import StoreCondition
from hbtd.store.etcd_format import InvalidValue
from hbtd.store.etcd_identities import identities_value, identity_key, read_identities
from hbtd.store.identities import IdentityKeeper
from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.tracker.records import Identity
from hbtd.tracker.tracker import Tracker

A = "x1000c0s0b0n0"


class CountingStore(MemoryStore):
    """A store that notes what it is asked to store, and fails while `broken`."""

    broken = False

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Sequence[Identity]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def identify(self, identities: Sequence[Identity]) -> Deferred[None]:
        """Store host names and NIDs."""
        self.asked.append(identities)
        assert len(self.asked) < 100
        self.meanwhile()
        if self.broken:
            return fail(StoreUnusable("broken"))
        return super().identify(identities)


class KeeperTests(SynchronousTestCase):
    """The service that stores them."""

    def setUp(self) -> None:
        """Begin with a store that works."""
        self.clock = Clock()
        self.store = CountingStore()
        self.successResultOf(self.store.open())
        self.tracker = Tracker(note_changes=True)
        self.keeper = self.make(self.tracker)
        self.keeper.begin()
        self.addCleanup(self.keeper.end)

    def make(self, tracker: Tracker) -> IdentityKeeper:
        """Make a keeper."""
        condition = StoreCondition(self.store, self.clock.seconds)
        return IdentityKeeper(self.clock, tracker, self.store, condition)

    def beat(self, xname: str, hostname: str = "nid000001", nid: str = "1") -> None:
        """Let a component beat."""
        self.tracker.beat(xname, 0.0, "t", "OK", None, True, hostname, nid)

    def stored(self) -> Any:
        """Return what is in the store."""
        return self.successResultOf(self.store.identities())

    def test_stored(self) -> None:
        """They are stored within ten seconds."""
        self.beat(A)
        self.clock.advance(10.0)
        self.assertEqual(self.stored(), [Identity(A, "nid000001", "1")])

    def test_only_changes(self) -> None:
        """As long as they don't change, the store is not asked."""
        self.beat(A)
        self.clock.advance(10.0)
        for _ in range(5):
            self.beat(A)
            self.clock.advance(10.0)
        self.assertEqual(len(self.store.asked), 1)
        self.beat(A, nid="2")
        self.clock.advance(10.0)
        self.assertEqual(self.stored(), [Identity(A, "nid000001", "2")])

    def test_many(self) -> None:
        """Many are stored in several calls."""
        for number in range(1100):
            self.beat(f"x1000c0s{number}b0n0")
        self.clock.advance(10.0)
        self.assertEqual([len(each) for each in self.store.asked], [500, 500, 100])

    def test_ever_new(self) -> None:
        """A component that changes its name all the time is stored once in ten seconds."""
        self.beat(A)
        self.store.meanwhile = lambda: self.beat(A, f"h{len(self.store.asked)}")
        for runs in (1, 2, 3):
            self.clock.advance(10.0)
            self.assertEqual(len(self.store.asked), runs)

    def test_broken_store(self) -> None:
        """If the store fails, they are stored later."""
        self.store.broken = True
        self.beat(A)
        self.clock.advance(10.0)
        self.assertEqual(self.stored(), [])
        self.store.broken = False
        self.clock.advance(10.0)
        self.assertEqual(self.stored(), [Identity(A, "nid000001", "1")])

    def test_restored(self) -> None:
        """After a restart, living and dead components have them, and others are not tracked."""
        names = sorted(f"x1000c0s{number}b0n0" for number in range(2100))
        self.successResultOf(self.store.identify([Identity(each, "h", "7") for each in names]))
        tracker = Tracker(note_changes=True)
        tracker.beat(names[0], 0.0, "t", "OK")
        tracker.apply_death(names[-1])
        self.successResultOf(Deferred.fromCoroutine(self.make(tracker).restore()))
        self.assertEqual(set(tracker.tracked()), {names[0], names[-1]})
        for each in tracker.tracked():
            self.assertEqual(tracker.identity(each), Identity(each, "h", "7"))
        self.assertEqual(tracker.take_renamed(9), [])


class FormatTests(SynchronousTestCase):
    """The keys and values in etcd."""

    def test_keys(self) -> None:
        """The nodes of sixteen slots of a chassis share a key; others have neighbours, too."""
        for xname, key in (
            ("x1000c0s0b0n0", b"hbtd/identity/x1000c0/0"),
            ("x1000c0s15b1n3", b"hbtd/identity/x1000c0/0"),
            ("x1000c0s16b0n0", b"hbtd/identity/x1000c0/1"),
            ("x1000c0", b"hbtd/identity/x1000c0/0"),
            ("x1000c0r3b0", b"hbtd/identity/x1000c0/0"),
        ):
            self.assertEqual(identity_key(xname), key, xname)
        for xname in ("s0", "all_svc", "p12.3", "x1000", "d0w1"):
            self.assertTrue(identity_key(xname).startswith(b"hbtd/identity/other/"), xname)

    def test_values(self) -> None:
        """Values are JSON, sorted; later releases may add to an entry."""
        value = identities_value({"x2": ("b", "2"), "x1": ("a\n", "0x1")})
        self.assertEqual(value, b'{"x1":["a\\n","0x1"],"x2":["b","2"]}')
        expected = [Identity("x1", "a\n", "0x1"), Identity("x2", "b", "2")]
        self.assertEqual(read_identities(b"", value), expected)
        more = b'{"x1":["a","1",{"new":true}]}'
        self.assertEqual(read_identities(b"", more), [Identity("x1", "a", "1")])

    def test_invalid(self) -> None:
        """Other values are invalid."""
        for value in (b"", b"[]", b'{"x1":"a"}', b'{"x1":["a"]}', b'{"x1":["a",1]}', b"\xff"):
            self.assertRaises(InvalidValue, read_identities, b"", value)
