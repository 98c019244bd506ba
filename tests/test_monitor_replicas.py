"""The monitor as one of several: leading, following, and applying what other replicas write."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed

from hbtd.store.interface import StoreUnusable
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Phase, Transition
from tests.support.hsm_memory import DIED, RESTARTED, STARTED, WARNED, judge, nodes
from tests.support.monitor_memory import MonitorTestCase, TroubledStore

A, B, C, D, E = nodes(5)


class SharedStore(TroubledStore):
    """A shared store, which leads or not as it is told."""

    shared = True
    durable = True

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.leading = False
        self.asked: list[Judgement] = []
        """The judgements that were committed while it did not lead."""
        self.stored: list[tuple[float, Record]] = []
        """The records that were written, with the times."""

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Commit judgements, or note them as requests."""
        if self.failures or self.leading:
            leading = self.leading
            done = super().commit(judgements, records)
            return done.addCallback(lambda _: leading)
        self.asked.extend(judgements)
        self.checkpoint(records)
        return succeed(False)

    def checkpoint(
        self, records: Sequence[Record], starting: Sequence[Record] = ()
    ) -> Deferred[None]:
        """Note and keep records."""
        if self.failures:
            return Deferred.fromCoroutine(self._fail())
        self.stored += [(self._clock.seconds(), record) for record in records]
        return super().checkpoint(records)

    async def _fail(self) -> None:
        raise self.failures.pop(0)


def record(name: str, *, age: float = 0.0, warned: bool = False) -> Record:
    """Return a record."""
    return Record(name, age, "t", "OK", warned)


class ReplicaTestCase(MonitorTestCase):
    """Has a monitor that follows, with a shared store."""

    store: SharedStore

    def make_store(self) -> SharedStore:
        return SharedStore(self.clock)

    def setUp(self):
        super().setUp()
        self.start(interval=1)

    def lead(self, *started: str) -> None:
        """Let it lead."""
        self.store.leading = True
        self.successResultOf(Deferred.fromCoroutine(self.monitor.become_leader(started)))
        self.stub.flush()

    def follow(self) -> None:
        """Let it follow."""
        self.store.leading = False
        self.monitor.become_follower()


class LeadingTests(ReplicaTestCase):
    """A leader judges and sends; a follower does neither."""

    def test_following(self):
        """A follower requests the judgement of starts, judges no silence and sends nothing."""
        self.beat(A)
        self.advance(100)
        self.assertEqual(self.store.asked, judge(STARTED, A))
        self.assertEqual(self.hsm.updates, [])
        self.assertEqual(self.monitor.judged.total(), 0)
        self.assertEqual(self.tracker.swept_at, [])

    def test_leading(self):
        """A new leader judges the components that are overdue."""
        self.beat(A, B)
        self.advance(12)
        self.beat(B)
        self.lead()
        self.advance(3)
        self.assertEqual(self.sent(), [(WARNED, [A])])
        self.follow()
        self.advance(100)
        self.assertEqual(self.sent(), [(WARNED, [A])])
        self.lead()
        self.advance(3)
        self.assertEqual(self.told(A)[-1], DIED)

    def test_leading_resumes(self):
        """A new leader sends undelivered judgements, and judges components that are back since."""
        self.store.leading = True
        self.successResultOf(
            self.store.commit([*judge(WARNED, A, C), *judge(DIED, B, D), *judge(RESTARTED, A)])
        )
        self.successResultOf(self.store.delivered([*judge(WARNED, C), *judge(DIED, B, D)]))
        self.store.leading = False
        self.changes.load([record(A), record(C, warned=True)], [B, D])
        self.changes.apply_heartbeat(record(C))
        self.changes.apply_heartbeat(record(D))
        self.lead("x9", A)
        self.advance(1)
        self.assertCountEqual(self.sent(), [(RESTARTED, [A]), (RESTARTED, [C]), (STARTED, [D])])

    def said(self, transition: Transition, name: str) -> None:
        """Let an earlier leader have told HSM of components."""
        self.store.leading = True
        self.successResultOf(self.store.commit(judge(transition, name)))
        self.successResultOf(self.store.delivered(judge(transition, name)))

    def test_asked_to_start(self):
        """Requested judgements are made if the component lives and has none."""
        self.said(DIED, C)
        self.changes.load([record(A), record(B, warned=True)], [C])
        self.lead(A, B, C, D)
        self.advance(1)
        self.assertEqual(self.sent(), [(STARTED, [A])])

    def test_death_that_was_not_committed(self):
        """A death is sent although etcd lost its data before it was committed."""
        self.changes.load([], [A, B])
        self.said(WARNED, A)
        self.lead()
        self.advance(1)
        self.assertEqual(self.sent()[0][0], DIED)
        self.assertCountEqual(self.sent()[0][1], [A, B])
        self.assertEqual(self.store.commits[-1][-1].transition, DIED)

    def test_ceasing_in_a_commit(self):
        """A judgement committed after this replica ceased to lead is left to the next leader."""
        self.lead()
        self.store.seconds = 1.0
        self.beat(A)
        self.advance(0.5)
        self.monitor.become_follower()
        self.advance(60)
        self.store.seconds = 0.0
        self.assertEqual(self.store.commits, [judge(STARTED, A)])
        self.assertEqual(self.hsm.updates, [])
        # Another one has told all that, and more.
        self.successResultOf(self.store.delivered(judge(STARTED, A)))
        self.lead()
        self.advance(1)
        self.assertEqual(self.hsm.updates, [])

    def test_alarms_are_withdrawn(self):
        """A replica that ceases to lead drops uncommitted alarms, and requests starts."""
        self.lead()
        self.beat(A)
        self.advance(1)
        self.store.failures = [StoreUnusable("away")] * 200
        self.advance(20)
        self.beat(B)
        self.advance(1)
        self.assertEqual(self.monitor.judged[WARNED], 1)
        self.follow()
        self.store.failures = []
        self.advance(3)
        self.assertEqual(self.store.asked, judge(STARTED, B))
        self.assertEqual(self.told(A), [STARTED])

    def test_alarms_of_the_last_moment(self):
        """An alarm that waits for its commit is dropped, too, when the replica ceases to lead."""
        self.lead()
        self.beat(A)
        self.advance(1)
        self.store.asked.clear()
        self.advance_until(lambda: self.monitor.judged[WARNED], within=60)
        self.follow()
        self.advance(3)
        self.assertEqual((self.store.asked, self.told(A)), ([], [STARTED]))

    def test_not_twice(self):
        """A start that is not committed when a replica begins to lead is sent once."""
        self.store.failures = [StoreUnusable("away")] * 20
        self.beat(A)
        self.advance(3)
        self.lead(A)
        self.store.failures = []
        self.advance(5)
        self.assertEqual(self.sent(), [(STARTED, [A])])
        self.assertEqual(self.store.commits[0], judge(STARTED, A))

    def test_started_here(self):
        """A leader judges what it requested as a follower."""
        self.beat(A)
        self.advance(1)
        self.monitor.judge_returns(started=[A])
        self.advance(1)
        self.assertEqual(self.hsm.updates, [])
        self.lead()
        self.monitor.judge_returns(started=[A])
        self.monitor.judge_returns(started=[B])
        self.advance(1)
        self.assertEqual(self.sent(), [(STARTED, [A])])


class OthersTests(ReplicaTestCase):
    """What other replicas write."""

    def test_heard(self):
        """A heartbeat that another replica took counts; only the leader judges it."""
        self.changes.apply_heartbeat(record(A))
        self.advance(5)
        self.assertEqual(self.monitor.heartbeating([A]), [True])
        self.assertEqual((self.store.asked, self.store.stored), ([], []))
        self.lead()
        self.changes.apply_heartbeat(record(B))
        self.advance(1)
        self.assertEqual(self.sent(), [(STARTED, [B])])

    def test_warned(self):
        """A warning applies unless this replica judged it or heard the component since."""
        self.beat(A)
        self.changes.apply_heartbeat(record(B))
        for name in (A, B, C):
            self.changes.apply_warning(record(name, age=10.0, warned=True))
        self.assertEqual((self.tracker.healthy, self.tracker.warned), (1, 2))
        self.lead()
        self.changes.apply_warning(record(A, age=10.0, warned=True))
        self.assertEqual((self.tracker.healthy, self.tracker.warned), (1, 2))

    def test_died(self):
        """A death applies unless the component was heard here since."""
        self.beat(A)
        self.changes.apply_heartbeat(record(B))
        for name in (A, B):
            self.changes.apply_death(name)
        self.assertEqual(self.monitor.heartbeating([A, B]), [True, False])

    def test_gone(self):
        """A component without a record any more is not tracked, unless it was heard here."""
        self.beat(A)
        self.changes.apply_heartbeat(record(B))
        self.changes.apply_heartbeat(record(C))
        self.changes.apply_death(C)
        for name in (A, B, C, D):
            self.changes.apply_removal(name)
        self.assertIn(A, self.tracker)
        self.assertNotIn(B, self.tracker)
        self.assertIn(C, self.tracker)

    def test_buried(self):
        """A component that an original has declared dead is warned about, unless heard here."""
        self.beat(A)
        self.changes.apply_heartbeat(record(B))
        for name in (A, B, C):
            self.changes.apply_burial(name)
        phases = [self.tracker.phase(name) for name in (A, B, C)]
        self.assertEqual(phases, [Phase.HEALTHY, Phase.WARNED, Phase.UNKNOWN])

    def test_buried_while_leading(self):
        """While this replica leads no original may judge: whom one buries is not tracked."""
        self.lead()
        self.changes.apply_heartbeat(record(B))
        self.advance(1)
        self.changes.apply_burial(B)
        self.assertNotIn(B, self.tracker)

    def test_forgotten(self):
        """A component forgotten by another replica is forgotten, though it was heard here."""
        self.beat(A, B)
        self.changes.apply_forget(A)
        self.advance(30)
        self.assertEqual({each.component for _, each in self.store.stored}, {B})
        self.assertEqual(self.monitor.heartbeating([A]), [False])
        self.assertEqual(self.hsm.updates, [])

    def test_forgotten_while_leading(self):
        """The leader forgets a component for all replicas."""
        self.lead()
        self.beat(A)
        self.advance(20)
        self.assertEqual(self.standing(), judge(WARNED, A))
        self.changes.apply_forget(A)
        self.advance(60)
        self.assertEqual(self.standing(), [])
        self.assertEqual(self.told(A), [STARTED, WARNED])

    def test_take_up(self):
        """Loading replaces what is known, except for heartbeats that are not stored yet."""
        self.beat(A)
        self.advance(1)
        self.changes.apply_heartbeat(record(B))
        self.beat(C)
        self.changes.load([record(D, age=500.0)], [A, C])
        self.assertEqual(self.monitor.heartbeating([A, B, C, D]), [False, False, True, True])
        self.assertEqual(self.tracker.dead, 1)

    def test_old_news(self):
        """Old heartbeats that could not be stored are dropped, but a start is requested."""
        self.beat(A)
        self.advance(1)
        self.store.stored.clear()
        self.store.failures = [StoreUnusable("away")] * 1000
        self.beat(A, B)
        self.advance(12)
        self.beat(C)
        self.store.failures = []
        self.advance(2)
        stored = {each.component for _, each in self.store.stored}
        self.assertEqual(stored, {B, C})
        self.assertEqual({each.component for each in self.store.asked}, {A, B, C})

    def test_merge(self):
        """After the store has lost its data, all that it does not have is stored again."""
        self.beat(A)
        self.changes.apply_heartbeat(record(B))
        self.changes.apply_warning(record(C, warned=True))
        self.changes.apply_death(D)
        self.advance(1)
        self.store.stored.clear()
        self.changes.merge([], [])
        self.advance(1)
        stored = [(each.component, each.warned) for _, each in self.store.stored]
        self.assertCountEqual(stored, [(A, False), (B, False), (C, True)])

    def test_merge_after_a_stop(self):
        """What others have stored meanwhile holds, and is not written over."""
        for name in (A, B):
            self.beat(name)
        self.changes.apply_warning(record(C, warned=True))
        self.changes.apply_death(D)
        self.advance(1)
        self.store.stored.clear()
        self.changes.merge([record(B, warned=True), record(C), record(D), record(E)], [A])
        phases = [self.tracker.phase(name) for name in (A, B, C, D, E)]
        healthy = [Phase.HEALTHY] * 3
        self.assertEqual(phases, [Phase.DEAD, Phase.WARNED, *healthy])
        self.advance(1)
        self.assertEqual(self.store.stored, [])

    def test_merge_with_news(self):
        """Heartbeats that others could not know of yet hold against what they have stored."""
        for name in (A, B):
            self.beat(name)
        self.changes.merge([record(A, warned=True)], [B])
        self.assertEqual(self.tracker.healthy, 2)
        self.advance(1)
        self.assertEqual({each.component for _, each in self.store.stored}, {A, B})
