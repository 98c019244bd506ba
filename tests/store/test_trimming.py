"""The log is trimmed while this replica leads, and keeps what is needed."""

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.store.interface import NotLeading, StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.trimming import MAX_WAITING, Trimming
from tests.support.store_contract import DIED
from tests.support.store_log_contract import judged

DAY = 86400.0


class TroubledStore(MemoryStore):
    """A store whose trims fail, or take for ever, if a test says so."""

    def __init__(self) -> None:
        super().__init__("host:28500")
        self.answers: list[Deferred[int]] = []
        self.asked: list[tuple[float, int, int]] = []
        self.last: int | None = None

    def trim(self, before: float, most: int, told: int) -> Deferred[int]:
        """Trim, or give the next answer that the test has prepared."""
        self.asked.append((before, most, told))
        return self.answers.pop(0) if self.answers else super().trim(before, most, told)

    def last_number(self) -> int:
        """Return the last number, or the one that the test wants."""
        return super().last_number() if self.last is None else self.last


class TrimmingTests(SynchronousTestCase):
    """A store in memory, and the service that trims its log, on a clock."""

    def setUp(self) -> None:
        """Prepare what the service is made of."""
        self.clock = Clock()
        self.wall = 1.7e9
        self.leading = True
        self.store = TroubledStore()

    def start(self, **params: Any) -> Trimming:
        """Start the service with some parameters."""
        params = {"kv_url": "mem:", **params}
        trimming = Trimming(
            self.clock,
            lambda: self.wall,
            self.store,
            LiveParams(replace(Params(), **params)),
            lambda: self.leading,
            ["kafka", "other"],
        )
        trimming.startService()
        self.addCleanup(trimming.stopService)
        return trimming

    def log(self, *entries: tuple[str, float]) -> None:
        """Log judgements of components, with their ages in days."""
        self.successResultOf(
            self.store.commit([judged(name, self.wall - days * DAY) for name, days in entries])
        )

    def names(self) -> list[str]:
        """Return the components of the log."""
        entries = self.successResultOf(self.store.log(0, 10**6))
        return [each.judgement.component for each in entries]

    def test_every_minute(self):
        """Each minute what is older than `history` goes, and the last of each component stays."""
        self.log(("a", 31), ("b", 31), ("a", 30.1), ("a", 29), ("c", 40))
        self.start()
        self.assertEqual(self.names(), ["a", "b", "a", "a", "c"])
        self.clock.advance(60)
        self.assertEqual(self.names(), ["b", "a", "c"])
        self.log(("a", 0), ("c", 0))
        self.wall += 2 * DAY
        self.clock.advance(60)
        self.assertEqual(self.names(), ["b", "a", "c"])

    def test_parameters(self):
        """The parameters say how long, and how many; 0 means that only what is needed is kept."""
        for params, seconds, most in (
            ({}, 30 * DAY, 100_000),
            ({"kv_url": "http://etcd:2379"}, 30 * DAY, 100_000),
            ({"kv_url": "sqlite:/var/hbtd"}, 30 * DAY, 1_000_000),
            ({"kv_url": "sqlite:/var/hbtd", "history_count": "77"}, 30 * DAY, 77),
            ({"history": "90s", "history_count": "0"}, 90.0, 0),
            ({"history": "36h"}, 1.5 * DAY, 100_000),
            ({"history": "0", "history_count": "500"}, 0.0, 0),
        ):
            trimming = self.start(**params)
            self.clock.advance(60)
            self.assertEqual(self.store.asked, [(self.wall - seconds, most, 0)], params)
            self.store.asked.clear()
            trimming.stopService()

    def test_follower(self):
        """A replica that does not lead trims nothing."""
        self.log(("a", 50), ("a", 40))
        self.leading = False
        self.start()
        self.clock.advance(60)
        self.assertEqual(self.store.asked, [])
        self.leading = True
        self.clock.advance(60)
        self.assertEqual(self.names(), ["a"])

    def test_not_told(self):
        """What any reader has not told others of stays; readers that are new keep nothing."""
        self.log(*[("a", 50)] * 6)
        self.store.move_cursor("kafka", 2)
        self.start()
        self.clock.advance(60)
        self.assertEqual(len(self.names()), 4)
        self.store.move_cursor("kafka", 6)
        self.store.move_cursor("other", 3)
        self.clock.advance(60)
        self.assertEqual(len(self.names()), 3)
        self.store.move_cursor("other", 6)
        self.clock.advance(60)
        self.assertEqual(len(self.names()), 1)

    def test_too_far_behind(self):
        """For a reader that is further behind only so many of the last entries are kept."""
        self.store.move_cursor("kafka", 5)
        self.start()
        for last, told in ((MAX_WAITING, 5), (MAX_WAITING + 5, 5), (MAX_WAITING + 9, 9)):
            self.store.last = last
            self.clock.advance(60)
            self.assertEqual(self.store.asked.pop()[2], told)

    def test_undelivered(self):
        """Nothing that HSM has yet to acknowledge is trimmed: it is the last of its component."""
        dead = [judged(f"x{i}", 1.0, DIED) for i in range(200)]
        self.log(*((each.component, 99) for each in dead))
        self.successResultOf(self.store.commit(dead))
        self.successResultOf(self.store.move_cursor("kafka", 400))
        self.start(history="0")
        self.clock.advance(60)
        self.assertEqual(self.successResultOf(self.store.undelivered()), dead)
        self.assertEqual(self.names(), [each.component for each in dead])

    def test_failure(self):
        """A failure is said once, and again when trimming works; trimming goes on."""
        self.log(("a", 50), ("a", 40))
        self.start()
        self.store.answers = [fail(StoreUnusable("disk full")) for _ in range(3)]
        with capturedLogs() as logs:
            for _ in range(5):
                self.clock.advance(60)
        self.assertEqual(
            [eventAsText(each, includeTimestamp=False, includeSystem=False) for each in logs],
            [
                "The log of transitions can't be trimmed, and grows meanwhile: disk full",
                "Trimming the log of transitions works again.",
            ],
        )
        self.assertEqual(self.names(), ["a"])

    def test_no_longer_leading(self):
        """That another replica leads by now is no failure."""
        self.start()
        self.store.answers = [fail(NotLeading("not leading"))]
        with capturedLogs() as logs:
            self.clock.advance(60)
        self.assertEqual(list(logs), [])
        self.assertEqual(len(self.store.asked), 1)

    def test_stop(self):
        """Stopping cancels a trim in progress, and waits for nothing else."""
        cancelled: list[object] = []
        trimming = self.start()
        self.store.answers = [Deferred(cancelled.append)]
        self.clock.advance(60)
        self.assertEqual(cancelled, [])
        with capturedLogs() as logs:
            self.successResultOf(trimming.stopService())
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(list(logs), [])
        self.clock.advance(120)
        self.assertEqual(len(self.store.asked), 1)

    def test_stop_when_idle(self):
        """Stopping between two trims is immediate."""
        trimming = self.start()
        self.clock.advance(60)
        self.assertIs(self.successResultOf(trimming.stopService()), None)
