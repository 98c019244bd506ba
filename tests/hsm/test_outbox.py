"""The outbox: which judgements wait to be sent to HSM, and in which order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from hbtd.hsm.outbox import Outbox
from hbtd.tracker.transitions import Judgement, Transition

STARTED, WARNED, RESTARTED, DIED = Transition
NAMES = ["x1", "x2", "x3", "x4"]


class OutboxMachine(RuleBasedStateMachine):
    """Compares an outbox with a list on which the same operations are done."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.waiting: list[Judgement] = []
        self.held: set[str] = set()
        self.made: list[Judgement] = []

    def make(self, xname: str, kind: Transition) -> Judgement:
        """Make a judgement, possibly equal to others but not identical."""
        self.made.append(Judgement(xname, kind, "t"))
        return self.made[-1]

    def drop(self, xname: str) -> None:
        """Take a component off the list."""
        self.waiting = [old for old in self.waiting if old.component != xname]

    @rule(xname=st.sampled_from(NAMES), kind=st.sampled_from(Transition))
    def put(self, xname, kind):
        """Put a judgement in."""
        new = self.make(xname, kind)
        self.outbox.put(new)
        self.drop(xname)
        self.waiting.append(new)

    @rule(xname=st.sampled_from(NAMES), kind=st.sampled_from(Transition))
    def put_back(self, xname, kind):
        """Put back a judgement that was set aside."""
        new = self.make(xname, kind)
        self.outbox.put_back(new)
        if xname not in [old.component for old in self.waiting]:
            self.waiting.append(new)

    @rule(data=st.data())
    def discard(self, data):
        """Discard a judgement that may have been replaced."""
        if self.made:
            old = data.draw(st.sampled_from(self.made))
            self.outbox.discard(old)
            self.waiting = [other for other in self.waiting if other is not old]

    @rule(xname=st.sampled_from(NAMES))
    def withdraw_alarm(self, xname):
        """Withdraw the alarm on a component."""
        self.outbox.withdraw_alarm(xname)
        if any(old.component == xname and old.transition.alarming for old in self.waiting):
            self.drop(xname)

    @rule(xname=st.sampled_from(NAMES))
    def hold(self, xname):
        """Hold a component, whether it waits or not."""
        self.outbox.hold(xname)
        self.held.add(xname)

    @rule(xname=st.sampled_from(NAMES))
    def release(self, xname):
        """Release a component, whether it is held or not; it is last then."""
        self.outbox.release(xname)
        self.held.discard(xname)
        released = [old for old in self.waiting if old.component == xname]
        self.drop(xname)
        self.waiting.extend(released)

    @rule()
    def next_group(self):
        """Check that the next group is complete without those held, and oldest first."""
        free = [old for old in self.waiting if old.component not in self.held]
        assert self.outbox.has_free == bool(free)
        taken = list(self.outbox.next_group())
        if free:
            (transition,) = {old.transition for old in taken}
            assert taken == [old for old in free if old.transition is transition]
        else:
            assert taken == []

    @invariant()
    def same(self):
        """Compare the contents."""
        assert len(self.outbox) == len(self.waiting)
        present = {id(old) for old in self.waiting}
        for old in self.made:
            assert (old in self.outbox) == (id(old) in present)
            latest = self.outbox.latest(old.component)
            assert latest is None or id(latest) in present


class OutboxTests(SynchronousTestCase):
    """What waits, and which kind is next."""

    def setUp(self):
        self.outbox = Outbox()

    def put(self, kind: Transition, *names: str) -> list[Judgement]:
        """Put judgements of a kind in."""
        judgements = [Judgement(name, kind, "t") for name in names]
        for judgement in judgements:
            self.outbox.put(judgement)
        return judgements

    def test_against_a_list(self):
        """After any operations, the latest judgement of each component waits, in order."""
        run_state_machine_as_test(
            OutboxMachine,
            settings=settings(
                max_examples=100,
                stateful_step_count=30,
            ),
        )

    def test_empty(self):
        """An empty outbox has no next kind."""
        self.assertEqual(list(self.outbox.next_group()), [])
        self.assertEqual(len(self.outbox), 0)
        self.assertFalse(self.outbox)

    def test_latest_wins(self):
        """Only the latest judgement of a component waits, behind all that came before it."""
        (first,) = self.put(WARNED, "x1")
        (other,) = self.put(WARNED, "x2")
        (latest,) = self.put(WARNED, "x1")
        self.assertEqual(first, latest)
        self.assertNotIn(first, self.outbox)
        self.assertIn(latest, self.outbox)
        self.assertEqual(list(self.outbox.next_group()), [other, latest])

    def test_equal_is_not_the_same(self):
        """Discarding a judgement leaves a later, equal one."""
        (first,) = self.put(STARTED, "x1")
        (later,) = self.put(STARTED, "x1")
        self.outbox.discard(first)
        self.assertIn(later, self.outbox)

    def test_put_back(self):
        """A judgement that is put back waits again, unless a newer one does."""
        old = Judgement("x1", DIED, "t")
        self.outbox.put_back(old)
        self.assertIn(old, self.outbox)
        (news,) = self.put(STARTED, "x1")
        self.outbox.put_back(old)
        self.assertNotIn(old, self.outbox)
        self.assertIn(news, self.outbox)

    def test_withdraw_alarm(self):
        """Warnings and deaths can be withdrawn, starts and restarts can't."""
        for kind in Transition:
            (judgement,) = self.put(kind, "x1")
            self.outbox.withdraw_alarm("x1")
            self.assertEqual(judgement in self.outbox, not kind.alarming)
        self.outbox.withdraw_alarm("x2")

    def test_turns(self):
        """Kinds that are not empty take turns, so that a mass death does not delay others."""
        for kinds in ([DIED, STARTED], [WARNED, RESTARTED, DIED], list(Transition), [DIED]):
            self.outbox = Outbox()
            for number, kind in enumerate(kinds):
                self.put(kind, f"x{number}a", f"x{number}b")
            seen = [next(iter(self.outbox.next_group())).transition for _ in range(12)]
            for i in range(12 - len(kinds)):
                self.assertEqual(set(seen[i : i + len(kinds)]), set(kinds))

    def test_newcomer_gets_its_turn(self):
        """A kind that was empty gets its turn as one of the next two."""
        self.put(DIED, *NAMES)
        for _ in range(5):
            self.outbox.next_group()
        self.put(STARTED, "x9")
        seen = [next(iter(self.outbox.next_group())).transition for _ in range(2)]
        self.assertIn(STARTED, seen)
