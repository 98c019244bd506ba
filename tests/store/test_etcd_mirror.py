"""The copy in memory of etcd's judgements and requests."""

from twisted.trial.unittest import SynchronousTestCase

from hbtd.store.etcd_format import FORGET, JUDGEMENT, REQUEST, STARTED, StoredJudgement
from hbtd.store.etcd_format import judgement_value as value_of
from hbtd.store.etcd_log_format import CURSOR
from hbtd.store.etcd_mirror import EtcdMirror, LeaderRequest
from hbtd.store.etcd_steps import Step
from hbtd.tracker.transitions import Judgement, Transition


class EtcdMirrorTests(SynchronousTestCase):
    """The mirror, told of changes by a watch and by the writer."""

    def setUp(self) -> None:
        """Make an empty mirror."""
        self.mirror = EtcdMirror(lambda: 0.0)

    def test_later_request_seen_first(self) -> None:
        """A request that replaced this replica's own is kept, even if the watch was faster."""
        self.mirror.apply(REQUEST + b"x1", STARTED, 7)
        self.mirror.wrote(Step([], request=("x1", FORGET)), 6)
        self.assertEqual(self.mirror.requests, {"x1": LeaderRequest(STARTED, 7)})
        self.mirror.removed({"x1": LeaderRequest(FORGET, 6)})
        self.assertEqual(self.mirror.requests, {"x1": LeaderRequest(STARTED, 7)})
        self.mirror.wrote(Step([], request=("x1", FORGET)), 8)
        self.assertEqual(self.mirror.requests, {"x1": LeaderRequest(FORGET, 8)})

    def test_lost_cursors(self) -> None:
        """Cursors that etcd has lost are known until somebody has written them."""
        for reader, number in ((b"a", b"3"), (b"b", b"4"), (b"c", b"5"), (b"d", b"6")):
            self.mirror.apply(CURSOR + reader, number, 1)
        self.mirror.apply(CURSOR + b"d", None, 2)
        self.mirror.lose({CURSOR + b"a"})
        self.assertEqual(self.mirror.lost_cursors, {CURSOR + b"b": 4, CURSOR + b"c": 5})
        self.mirror.apply(CURSOR + b"b", b"2", 3)
        self.mirror.moved(CURSOR + b"c", 7)
        self.assertEqual(self.mirror.lost_cursors, {})
        self.assertEqual(
            self.mirror.cursors, {CURSOR + b"a": 3, CURSOR + b"b": 2, CURSOR + b"c": 7}
        )

    def test_numbers(self) -> None:
        """The next judgement's number is higher than any that was seen, deleted ones included."""
        stored = StoredJudgement(Judgement("x1", Transition.DIED, "t"), 41, False)
        self.assertEqual(self.mirror.next_number, 1)
        self.assertEqual(self.mirror.apply(JUDGEMENT + b"x1", value_of(stored), 5), stored)
        self.assertEqual(self.mirror.dead(), ["x1"])
        self.mirror.apply(JUDGEMENT + b"x1", None, 6)
        self.assertEqual(self.mirror.judgements(), [])
        self.assertEqual(self.mirror.next_number, 42)
