"""The rule of suspects, for any bad components and any order of events, without a clock."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.hsm.batch_size import BatchSize
from hbtd.hsm.outbox import Outbox
from hbtd.hsm.quarantine import Quarantine
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.hsm_memory import nodes

_COUNT = 24
_EVENTS = st.lists(
    st.one_of(
        st.sampled_from(["first begins", "first ends", "second begins", "second ends"]),
        st.tuples(st.sampled_from(Transition), st.sets(st.integers(0, _COUNT - 1), min_size=1)),
        st.integers(0, _COUNT - 1),
    ),
    max_size=60,
)


class Story:
    """Two connections to an HSM that fails whenever a bad component is named."""

    def __init__(self, bad: set[str], rejects: bool) -> None:
        self.bad, self.rejects = bad, rejects
        self.outbox = Outbox()
        self.quarantine = Quarantine(self.outbox, lambda: 0.5)
        self.sizes = {each: BatchSize() for each in Transition}
        self.now = 0.0
        self.in_flight: dict[str, list[Judgement]] = {"first": [], "second": []}
        self.latest: dict[str, Judgement] = {}
        self.known: dict[str, Judgement] = {}
        """What HSM has accepted."""
        self.sent = 0

    def tell(self, what: Transition, names: list[str]) -> None:
        """Make new judgements."""
        for name in names:
            self.latest[name] = judgement = Judgement(name, what, f"{len(self.latest)}")
            self.outbox.put(judgement)

    def withdraw(self, name: str) -> None:
        """Withdraw what is to be told of a component, if that is an alarm."""
        self.outbox.withdraw_alarm(name)
        self.quarantine.forget(name)
        if self.outbox.latest(name) is None:
            self.latest.pop(name, None)

    def begin(self, lane: str) -> bool:
        """Send what is next on a connection, unless it is busy; return whether there was any."""
        if self.in_flight[lane]:
            return True
        if lane == "first":
            batch = self.quarantine.next_batch(self.sizes)
        else:
            batch = self.quarantine.next_suspects(self.sizes, self.now)
        names = [judgement.component for judgement in batch]
        (other,) = (sent for name, sent in self.in_flight.items() if name != lane)
        assert not {each.component for each in other} & set(names), "on both connections"
        assert len(set(names)) == len(names)
        assert len({judgement.transition for judgement in batch}) <= 1
        for judgement in batch:
            assert judgement is self.outbox.latest(judgement.component), "not the newest"
        self.in_flight[lane] = batch
        self.sent += bool(batch)
        return bool(batch)

    def end(self, lane: str) -> None:
        """Have HSM answer what is in flight on a connection."""
        batch, self.in_flight[lane] = self.in_flight[lane], []
        if not batch:
            return
        if self.bad & {judgement.component for judgement in batch}:
            self.quarantine.failed(batch, "no", self.now, rejected=self.rejects)
            return
        for judgement in batch:
            self.known[judgement.component] = judgement
            self.outbox.discard(judgement)
        self.quarantine.accepted(batch)

    def finish(self) -> None:
        """Go on until nothing is due."""
        while self.begin("first") | self.begin("second"):
            self.end("first")
            self.end("second")
            everybody = set(self.latest) - set(self.known)
            if everybody <= self.bad and len(self.quarantine.set_aside) < len(everybody):
                # Only bad ones are left, and HSM has accepted nothing since: it would be asked.
                self.tell(Transition.STARTED, ["x9c0s0b0n0"])
            assert self.sent < 500, "endless tries"


class RuleTests(SynchronousTestCase):
    """Who is told, in how many tries."""

    @settings(max_examples=300, deadline=None)
    @given(st.sets(st.integers(0, _COUNT - 1)), st.booleans(), _EVENTS)
    def test_rule(self, bad: set[int], rejects: bool, events: list[object]) -> None:
        """All good ones are told the newest, no component is in two updates, tries are bounded.

        The bad ones are told within 300 s of when they turn good.
        """
        names = nodes(_COUNT)
        story = Story({names[index] for index in bad}, rejects)
        told = 0
        for event in events:
            if isinstance(event, str):
                lane, what = event.split()
                (story.begin if what == "begins" else story.end)(lane)
            elif isinstance(event, int):
                story.withdraw(names[event])
            else:
                assert isinstance(event, tuple)
                what, indices = event
                story.tell(what, [names[index] for index in indices])
                told += len(indices)
        story.tell(Transition.STARTED, ["x9c0s0b0n1"])
        story.finish()
        for name, judgement in story.latest.items():
            if name not in story.bad:
                self.assertEqual(story.known.get(name), judgement)
        self.assertLessEqual(story.sent, 2 * (told + 2 * len(bad)) + len(events) + 20)
        story.bad = set()
        for _ in range(2):
            story.now += 300
            story.finish()
        for name, judgement in story.latest.items():
            self.assertEqual(story.known.get(name), judgement)
        self.assertEqual(len(story.quarantine.set_aside), 0)
        self.assertEqual(len(story.outbox), 0)

    def test_one_of_many(self) -> None:
        """One bad component among n takes two tries for each halving."""
        for index in (0, 41, 99):
            names = nodes(100)
            story = Story({names[index]}, rejects=False)
            story.tell(Transition.DIED, names)
            story.finish()
            self.assertEqual(set(story.known) & set(names), set(names) - story.bad)
            self.assertLessEqual(story.sent, 2 * 7 + 4)
