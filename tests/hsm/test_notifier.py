"""The notifier: which updates HSM is sent, in which order, and how failed ones are retried."""

from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs

from hbtd.hsm.notifier import Notifier
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.hsm_memory import (
    DIED,
    RESTARTED,
    STARTED,
    WARNED,
    HSMTestCase,
    StartedTestCase,
    judge,
    kind,
    lines,
    nodes,
)

A, B, C, D = nodes(4)


class SendingTests(StartedTestCase):
    """Which updates are sent to an HSM that works."""

    def test_sent_and_acknowledged(self):
        """A judgement is sent at once, and reported as delivered when HSM has acknowledged it."""
        self.hsm.behaviour.cost_ms = 100
        self.tell(STARTED, A, B)
        self.assertEqual(self.sent(), [(STARTED, [A, B])])
        self.assertEqual(self.acknowledged, [])
        self.assertEqual(self.notifier.pending_count, 2)
        self.advance(0.25)
        self.assertEqual(self.acknowledged, judge(STARTED, A, B))
        self.assertEqual((self.notifier.pending_count, self.notifier.delivered_count), (0, 2))

    def test_nothing_to_send(self):
        """Without judgements no update is sent."""
        self.notifier.tell([])
        self.advance(30)
        self.assertEqual(self.hsm.updates, [])

    def test_one_transition_each(self):
        """An update has one transition, even if others have the same State and Flag."""
        mixed = [STARTED, DIED, RESTARTED, WARNED, STARTED, DIED, RESTARTED, WARNED]
        names = nodes(len(mixed))
        self.notifier.tell(
            [Judgement(name, what, "") for name, what in zip(names, mixed, strict=True)]
        )
        self.advance(1)
        self.assertEqual(
            sorted(self.sent(), key=lambda each: each[1]),
            [
                (STARTED, names[0::4]),
                (DIED, names[1::4]),
                (RESTARTED, names[2::4]),
                (WARNED, names[3::4]),
            ],
        )

    def test_latest_wins(self):
        """Of the judgements that wait on a component, only the latest is sent."""
        self.hsm.behaviour.cost_ms = 1000
        self.tell(STARTED, A)
        for what in (STARTED, WARNED, RESTARTED, WARNED, DIED):
            self.tell(what, B)
        self.advance(5)
        self.assertEqual(self.sent(), [(STARTED, [A]), (DIED, [B])])
        self.assertEqual(self.acknowledged, [*judge(STARTED, A), *judge(DIED, B)])

    def test_in_flight(self):
        """A new judgement on a component whose update is in flight is sent next."""
        self.hsm.behaviour.cost_ms = 1000
        self.tell(WARNED, A)
        self.tell(RESTARTED, A)
        self.assertEqual(self.notifier.pending_count, 1)
        self.advance(1)
        self.assertEqual(self.notifier.pending_count, 1)
        self.advance(1)
        self.assertEqual(self.sent(), [(WARNED, [A]), (RESTARTED, [A])])
        self.assertEqual(self.notifier.pending_count, 0)

    def test_one_in_flight(self):
        """An update is sent when the one before it is answered."""
        self.hsm.behaviour.cost_ms = 700
        for name in nodes(4):
            self.tell(STARTED, name)
            self.tell(DIED, name)
            self.advance(0.3)
        self.advance(20)
        for one, other in pairwise(self.hsm.updates):
            assert one.answered is not None
            self.assertGreaterEqual(other.received, one.answered)

    def test_kinds_take_turns(self):
        """Many judgements of one transition delay others by one or two updates only."""
        for mass, others in ((DIED, (STARTED, RESTARTED)), (STARTED, (RESTARTED, DIED))):
            self.begin()
            self.hsm.behaviour.cost_ms = 2.0
            self.tell(mass, *nodes(3000))
            self.advance(2)
            for index, other in enumerate(others):
                self.tell(other, f"x9c0s{index}b0n0")
            in_flight = len(self.hsm.updates)
            self.advance(10)
            kinds = [what for what, _ in self.sent()]
            self.assertLess(in_flight, len(kinds) - 3, "the mass of updates ended too soon")
            for other in others:
                self.assertIn(other, kinds[in_flight : in_flight + 3])

    def test_unexpected_exception(self):
        """An unexpected exception is logged, and does not end the loop."""
        faults = [ZeroDivisionError("a bug")]

        def may_send() -> bool:
            if faults:
                raise faults.pop()
            return True

        self.notifier.stopService()
        self.notifier = Notifier(
            self.clock, self.client, self.params, self._delivered, lambda: 0.125, may_send
        )
        self.notifier.startService()
        self.tell(STARTED, A)
        self.advance(3)
        self.assertEqual(self.sent(), [(STARTED, [A])])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class ReadinessTests(HSMTestCase):
    """No updates are sent while HSM is not ready."""

    def test_not_before_it_is_ready(self):
        """Judgements wait until HSM is ready."""
        self.hsm.behaviour.ready = False
        self.notifier.startService()
        self.tell(STARTED, A)
        self.advance(30)
        self.tell(DIED, A)
        self.tell(STARTED, B)
        self.assertEqual(self.hsm.updates, [])
        self.hsm.behaviour.ready = True
        self.advance(5)
        self.assertCountEqual(self.sent(), [(DIED, [A]), (STARTED, [B])])

    def test_not_before_the_start(self):
        """Before the service is started no update is sent."""
        self.tell(STARTED, A)
        self.advance(30)
        self.assertEqual(self.hsm.updates, [])
        self.notifier.startService()
        self.advance(0.1)
        self.assertEqual(self.sent(), [(STARTED, [A])])

    def test_nosm(self):
        """With `nosm` no update is sent; when it ends, those that wait are."""
        self.begin(nosm=True)
        self.notifier.startService()
        self.tell(STARTED, A)
        self.tell(WARNED, A)
        self.advance(60)
        self.assertEqual(self.hsm.updates, [])
        self.change(nosm=0)
        self.advance(5)
        self.assertEqual(self.sent(), [(WARNED, [A])])
        self.change(nosm=1)
        self.tell(DIED, A)
        self.advance(60)
        self.assertEqual(len(self.sent()), 1)


class RetryTests(StartedTestCase):
    """Which updates are retried, and when."""

    def gaps(self) -> list[float]:
        """Return the seconds from each update to the next."""
        times = [update.received for update in self.hsm.updates]
        return [later - earlier for earlier, later in pairwise(times)]

    def test_retries(self):
        """An update that fails is retried in parts, `sm_retries` times, after growing pauses."""
        for status in (500, 503, 404, 429):
            self.begin(sm_retries=3)
            self.hsm.behaviour.fail_status = status
            self.tell(STARTED, A, B)
            self.hsm.behaviour.ready = False
            self.advance(60)
            self.assertEqual(self.sent(), [(STARTED, each) for each in ([A, B], [A], [B], [A])])
            gaps = self.gaps()
            self.assertEqual(gaps[0], 0.0, "a half is no retry")
            self.assertGreater(gaps[1], 0.2)
            self.assertLess(gaps[1], 2)
            self.assertGreater(gaps[2], gaps[1] * 1.3)
            self.assertEqual(self.notifier.failed_count, 4)
            self.assertEqual(self.notifier.pending_count, 2)

    def test_no_retries(self):
        """Without retries, the notifier waits for the readiness probe at once."""
        self.begin(sm_retries=0)
        self.hsm.behaviour.fail_status = 500
        self.advance(1)
        self.tell(STARTED, A)
        self.advance(3.9)
        self.assertEqual(len(self.sent()), 1)
        self.hsm.behaviour.fail_status = None
        self.advance(0.2)
        self.assertEqual(self.notifier.pending_count, 0)

    def test_waits_for_the_probe(self):
        """After the last retry, the next attempt is made when the probe finds HSM ready."""
        self.begin(sm_retries=1)
        self.hsm.behaviour.fail_status = 503
        self.tell(STARTED, A)
        self.hsm.behaviour.ready = False
        self.advance(30)
        self.assertEqual(len(self.sent()), 2)
        self.tell(STARTED, B)
        self.advance(30)
        self.assertEqual(len(self.sent()), 2)
        self.hsm.behaviour.fail_status = None
        self.hsm.behaviour.ready = True
        self.advance(5.01)
        self.assertEqual(self.notifier.pending_count, 0)
        self.assertEqual(set(self.hsm.components), {A, B})

    def test_recovers_in_between(self):
        """Retries are counted from the last success."""
        self.begin(sm_retries=1)
        for name in nodes(8):
            self.hsm.behaviour.fail_status = 502
            self.tell(STARTED, name)
            self.hsm.behaviour.fail_status = None
            self.advance(2)
            self.assertIn(name, self.hsm.components)
            self.assertTrue(self.notifier.hsm_ready)

    def test_pause_is_not_shortened(self):
        """New judgements do not shorten the pause before a retry."""
        self.hsm.behaviour.fail_status = 500
        self.tell(STARTED, A)
        for _ in range(20):
            self.tell(STARTED, B)
        self.assertEqual(len(self.hsm.updates), 1)
        self.tell(WARNED, A)
        self.hsm.behaviour.fail_status = None
        self.advance(3)
        self.assertCountEqual(self.sent()[1:], [(WARNED, [A]), (STARTED, [B])])

    def test_timeouts(self):
        """An update that times out is retried, though HSM may have carried it out."""
        self.begin(sm_timeout=4, sm_retries=2)
        self.hsm.behaviour.hang = True
        self.tell(STARTED, A)
        self.advance(4.1)
        self.hsm.behaviour.hang = False
        self.advance(3)
        self.assertEqual(self.sent(), [(STARTED, [A])] * 2)
        self.assertEqual(self.acknowledged, judge(STARTED, A))

    def test_never_too_old(self):
        """Judgements are never dropped for their age: after hours of failures all are sent."""
        self.hsm.behaviour.fail_status = 500
        self.tell(STARTED, A)
        self.advance(300)
        self.hsm.behaviour.ready = False
        self.advance(2 * 3600)
        self.hsm.behaviour.fail_status = None
        self.hsm.behaviour.ready = True
        self.advance(10)
        self.assertEqual(self.acknowledged, judge(STARTED, A))

    def test_logged_once(self):
        """An outage of HSM is logged once when it begins and once when it ends."""
        self.advance(1)
        with capturedLogs() as events:
            self.hsm.behaviour.ready = False
            self.hsm.behaviour.fail_status = 500
            for name in nodes(60):
                self.tell(STARTED, name)
                self.advance(10)
            self.assertEqual(len(lines(events, "warn")), 1, lines(events, "warn"))
            self.hsm.behaviour.ready = True
            self.hsm.behaviour.fail_status = None
            self.advance(10)
        self.assertEqual(len(lines(events, "warn")), 1)
        self.assertEqual(len(lines(events, "info")), 1, lines(events, "info"))
        self.assertIn("hsm.example", lines(events, "warn")[0])
        self.assertEqual(lines(events, "error"), [])


# What may happen next, for the test of everything at once.
_SOME = st.lists(st.sampled_from(nodes(6)), min_size=1, unique=True)
_WITHDRAW = st.sampled_from(nodes(6))
_NOSM = st.booleans()
_TELL = st.tuples(st.sampled_from(Transition), _SOME)
_TIME = st.sampled_from([0.0, 0.05, 0.6, 2.0, 5.0, 11.0])
_BEHAVIOUR = st.fixed_dictionaries(
    {},
    optional={
        "ready": st.booleans(),
        "fail_status": st.sampled_from([None, 400, 401, 500, 503]),
        "hang": st.booleans(),
        "hang_ready": st.booleans(),
        "reset": st.booleans(),
        "garbage": st.booleans(),
        "refuse": st.sets(st.sampled_from(nodes(6)), max_size=3),
        "cost_ms": st.sampled_from([0.0, 100.0, 1000.0]),
    },
)


class EverythingTests(HSMTestCase):
    """Whatever happens, HSM finally has the state of every component."""

    @settings(max_examples=150, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.one_of(_TELL, _TELL, _TIME, _BEHAVIOUR, _WITHDRAW, _NOSM), max_size=30),
        st.integers(0, 3),
        st.sets(st.sampled_from(nodes(6)), max_size=2),
    )
    def test_in_the_end(self, steps: list[Any], retries: int, refused: set[str]) -> None:
        """The latest judgement on each component arrives, and no update is out of date."""
        self.begin(sm_retries=retries, sm_timeout=3)
        self.notifier.startService()
        self.latest: dict[str, Transition] = {}
        self.withdrawn: set[str] = set()
        self.checked = 0
        for step in steps:
            if isinstance(step, float):
                self.advance(step)
            elif isinstance(step, bool):
                self.change(nosm=int(step))
            elif isinstance(step, str):
                self.latest.pop(step, None)
                self.withdrawn.add(step)
                self.notifier.withdraw(step)
            elif isinstance(step, dict):
                self.hsm.behaviour = type(self.hsm.behaviour)(**step)
            else:
                what, names = step
                self.latest.update(dict.fromkeys(names, what))
                self.withdrawn -= set(names)
                self.tell(what, *names)
            self.check()
        self.change(nosm=0)
        self.hsm.behaviour = type(self.hsm.behaviour)(ready=False, refuse=refused)
        self.advance(30)
        self.check()
        self.hsm.behaviour.ready = True
        self.advance(30)
        self.check()
        self.assertEqual(self.notifier.pending_count, 0)
        last = {each.component: each.transition for each in self.acknowledged}
        for name, what in self.latest.items():
            if name not in refused:
                self.assertEqual(self.hsm.components[name].message, what.message)
                self.assertEqual(last[name], what)
        self.assertLessEqual(self.notifier.set_aside_count, len(refused))

    def check(self) -> None:
        """Check that all updates since the last check had the newest judgements."""
        for update in self.hsm.updates[self.checked :]:
            for name in update.names:
                if name in self.withdrawn:
                    self.assertFalse(kind(update).alarming, "sent after it was withdrawn")
                else:
                    self.assertEqual(kind(update), self.latest[name], "sent after a newer one")
        self.checked = len(self.hsm.updates)
