"""Suspects: one component because of which updates fail delays no others, however they fail."""

from collections.abc import Sequence
from typing import Any, cast

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs

from hbtd.hsm.client import HSMClient, HSMUnavailable
from hbtd.hsm.notifier import Notifier
from hbtd.simulator.behaviour import Behaviour
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.hsm_memory import (
    DIED,
    OTHER_URL,
    RESTARTED,
    STARTED,
    USER_AGENT,
    WARNED,
    HSMTestCase,
    StartedTestCase,
    judge,
    lines,
    nodes,
)

A, B, C, D, E, F = nodes(6)
KINDS = ("400", "401", "404", "429", "500", "502", "503", "hang", "reset", "garbage", "page")


class WatchedClient(HSMClient):
    """A client that refuses to have a component in two updates at once."""

    in_flight: frozenset[str] = frozenset()
    refused = False
    """Whether connections are refused."""

    def update(
        self, transition: Transition, components: Sequence[str], within: float | None = None
    ) -> Deferred[None]:
        """Send an update."""
        if self.refused:
            return fail(HSMUnavailable("refused", unsent=True))
        names = frozenset(components)
        assert not names & self.in_flight, "a component is in two updates at once"
        self.in_flight |= names
        return super().update(transition, components, within).addBoth(self._landed, names)

    def _landed(self, result: Any, names: frozenset[str]) -> Any:
        self.in_flight -= names
        return result


class SuspectsTestCase(StartedTestCase):
    """Holds a notifier that has a watched client."""

    def begin(self, **params: Any) -> None:
        """Begin with a ready HSM, and note when HSM has heard of each component first."""
        super().begin(**params)
        self.notifier.stopService()
        # StubTreq is not typed as a client.
        http = cast("HTTPClient", self.stub)
        self.watched = WatchedClient(http, self.clock, self.params, USER_AGENT)
        self.heard = set[str]()
        self.notifier = Notifier(
            self.clock,
            self.watched,
            self.params,
            self._delivered,
            lambda: 0.5,
            wall=lambda: 1.8e9,
            superseded=self.heard.__contains__,
        )
        self.notifier.startService()
        self.advance(1)

    def begin_with(self, fault: str, *names: str, **params: Any) -> None:
        """Begin with an HSM for which updates with these components fail."""
        self.begin(**params)
        self.hsm.behaviour = Behaviour(faulty=dict.fromkeys(names, fault))

    def hear(self, name: str) -> None:
        """Have a component be heard whose return can't be committed."""
        self.heard.add(name)
        self.notifier.judged(judge(STARTED, name))

    def until_told(self, *names: str, within: float) -> float:
        """Advance until HSM knows some components; return the seconds that took."""
        return self.advance_until(lambda: set(names) <= set(self.hsm.components), within)


class OneBadComponentTests(SuspectsTestCase):
    """One component because of which HSM fails, in any way."""

    def test_companions(self):
        """Those in the same update are told soon after; the one to blame is set aside."""
        for fault in KINDS:
            self.begin_with(fault, D)
            with capturedLogs() as events:
                self.tell(DIED, A, B, C, D, E, F)
                timeout = self.params.current.sm_timeout if fault == "hang" else 0
                self.until_told(A, B, C, E, F, within=timeout + 5)
                self.advance(3)
            self.assertEqual(self.notifier.set_aside_count, 1, fault)
            self.assertEqual(self.notifier.pending_count, 0)
            self.assertLess(len(self.hsm.updates), 12)
            self.assertEqual(lines(events, "warn"), [])
            (error,) = lines(events, "error")
            self.assertIn(D, error)

    def test_heard_meanwhile(self):
        """If it is heard before it is set aside, its alarm is said to be sent no more."""
        self.begin_with("hang", D, sm_timeout=4)
        self.tell(DIED, *nodes(40))
        self.advance(4.5)
        self.assertIn("it is sent again", self.notifier.standing(D).reason or "")
        self.hear(D)
        self.assertIn("it is not sent any more", self.notifier.standing(D).reason or "")

    def test_others(self):
        """Others wait for one `sm_timeout` at most, also while it is tried again."""
        for fault in KINDS:
            self.begin_with(fault, D, sm_timeout=4)
            self.tell(DIED, D)
            self.advance(0.1)
            waits = []
            for index, name in enumerate(nodes(60)[6:]):
                self.tell(Transition.STARTED, name)
                waits.append(self.until_told(name, within=10))
                self.advance(1.1 + index % 5)
            self.assertLessEqual(max(waits), 4.1, fault)
            self.assertLess(max(waits[1:]), 0.1, fault)

    def test_only_the_newest(self):
        """The one that is set aside is told what was judged last, as soon as that works."""
        self.begin_with("500", A)
        self.tell(STARTED, A, B)
        for what in (WARNED, RESTARTED, WARNED, DIED):
            self.advance(7)
            self.tell(what, A)
        self.hsm.behaviour = Behaviour()
        self.hsm.updates.clear()
        self.tell(RESTARTED, A)
        self.advance(1)
        self.assertEqual(self.sent(), [(RESTARTED, [A])])
        self.assertEqual(self.notifier.set_aside_count, 0)

    def hear_set_aside(self) -> None:
        """Have the one to blame be set aside because of its death, and be heard then."""
        self.begin_with("500", A)
        self.tell(DIED, A)
        self.advance(1)
        self.tell(STARTED, B)
        self.advance(10)
        self.assertEqual(self.notifier.set_aside_count, 1)
        self.hear(A)

    def test_heard(self):
        """Its alarm is not sent any more once it is heard, though its return can't be committed."""
        self.hear_set_aside()
        self.hsm.behaviour = Behaviour()
        self.hsm.updates.clear()
        self.advance(400)
        self.assertEqual(self.sent(), [])
        self.heard.clear()
        self.tell(STARTED, A)
        self.advance(2)
        self.assertEqual(self.sent(), [(STARTED, [A])])
        self.assertEqual((self.notifier.set_aside_count, self.notifier.pending_count), (0, 0))

    def test_heard_while_sent(self):
        """Nor is an alarm that came while the one before was on its way."""
        self.begin_with("500", A)
        self.tell(WARNED, A)
        self.advance(1)
        self.tell(STARTED, B)
        self.advance(3)
        self.hsm.behaviour = Behaviour(cost_ms=3000)
        self.hsm.updates.clear()
        self.advance_until(lambda: self.watched.in_flight, 300)
        self.tell(DIED, A)
        self.hear(A)
        self.advance(30)
        self.assertEqual(self.sent(), [(WARNED, [A])])

    def test_heard_and_other_hsm(self):
        """Nor is another HSM told of it."""
        self.hear_set_aside()
        self.change(sm_url=OTHER_URL)
        self.advance(20)
        self.assertEqual(self.other.updates, [])

    def check_set_aside(self, *, heard: bool) -> None:
        """Assert that it is set aside soon, `heard`: after another one in its update was heard."""
        self.begin_with("400", A)
        update, sent = self.watched.update, list[Sequence[str]]()

        def send(
            transition: Transition, components: Sequence[str], within: float | None = None
        ) -> Deferred[None]:
            sent.append(components)
            if heard and len(sent) == 2:
                self.hear(B)
            # So that the first half has failed before the second one is looked at.
            later: Deferred[None] = deferLater(self.clock, 0.002)
            return later.addCallback(lambda _: update(transition, components, within))

        self.watched.update = send  # type: ignore[method-assign]
        self.tell(DIED, A, B)
        self.advance(30)
        self.assertEqual(self.notifier.set_aside_count, 1)
        self.assertLess(len(sent), 10)
        self.assertTrue(self.notifier.hsm_ready)

    def test_another_was_heard(self):
        """It is set aside, whether another one in its update can be sent, or was heard since."""
        self.check_set_aside(heard=False)
        self.check_set_aside(heard=True)

    def test_new_judgement(self):
        """A new judgement on it is tried soon again, however long the last pause was."""
        self.begin_with("500", A)
        self.tell(DIED, A)
        self.advance(1)
        self.tell(STARTED, B)
        self.advance(700)
        self.tell(STARTED, A)
        self.advance(1)
        self.hsm.behaviour = Behaviour()
        self.until_told(A, within=6)

    def test_turns_good(self):
        """What is set aside is told within 300 s of the moment from which it can be."""
        for fault in ("400", "500", "hang"):
            for bad_for in (1, 60, 700):
                self.begin_with(fault, A)
                self.tell(DIED, A, B, C)
                self.advance(20 + bad_for)
                self.assertEqual(self.notifier.set_aside_count, 1)
                self.hsm.behaviour = Behaviour()
                with capturedLogs() as events:
                    took = self.until_told(A, within=311)
                self.assertLess(took, 1.1 * (20 + bad_for) + 5)
                self.assertEqual(lines(events, "info"), [f"HSM accepts updates of {A} again."])

    def test_wrong_guess(self):
        """HSM's database fails for a moment, which HSM answers with 400: that costs seconds."""
        self.begin()
        self.hsm.behaviour.database_gone = True
        self.tell(DIED, A)
        self.advance(1.6)
        self.hsm.behaviour.database_gone = False
        self.assertIn("operation 'Bulk StateData Update' failed", self.notifier.trouble() or "")
        self.assertNotEqual(self.notifier.health(), "Ready")
        self.until_told(A, within=5)
        self.assertEqual((self.notifier.health(), self.notifier.trouble()), ("Ready", None))


class EverythingFailsTests(SuspectsTestCase):
    """If everything fails, HSM is to blame."""

    def test_one_outage(self):
        """One outage is logged, nobody is set aside, and HSM is not asked too often."""
        for fault in ({"fail_status": 500}, {"hang": True}, {"reset": True}, {"page": True}):
            self.begin()
            self.hsm.behaviour = Behaviour(**fault)
            with capturedLogs() as events:
                self.tell(DIED, *nodes(300))
                self.advance(300)
            self.assertEqual(len(lines(events, "warn")), 1, lines(events, "warn"))
            self.assertEqual(lines(events, "error"), [])
            self.assertEqual(self.notifier.set_aside_count, 0)
            self.assertLess(len(self.hsm.updates), 70)
            self.hsm.behaviour = Behaviour()
            self.hsm.updates.clear()
            self.until_told(*nodes(300), within=20)
            self.assertLess(len(self.hsm.updates), 70)

    def test_database_gone(self):
        """While HSM's database is gone, what waits is not set aside for long."""
        self.begin()
        self.hsm.behaviour.database_gone = True
        self.tell(DIED, *nodes(150))
        self.advance(600)
        self.assertFalse(self.notifier.hsm_ready)
        self.hsm.behaviour.database_gone = False
        self.until_told(*nodes(150), within=10)

    def test_heard(self):
        """The alarms of those who are heard meanwhile are not sent when HSM is back."""
        for several in (True, False):
            self.begin()
            self.hsm.behaviour.database_gone = True
            self.tell(DIED, A, *([B, C] if several else []))
            self.advance(60)
            self.hear(A)
            self.hsm.behaviour.database_gone = False
            self.hsm.updates.clear()
            self.advance(30)
            told = {name for _, names in self.sent() for name in names}
            self.assertEqual(told, {B, C} if several else set())
            self.heard.clear()
            self.tell(STARTED, A)
            self.advance(10)
            self.assertEqual(self.sent()[-1], (STARTED, [A]))
            self.assertEqual(self.notifier.pending_count, 0)
            self.assertTrue(self.notifier.hsm_ready)

    def test_only_the_heard(self):
        """If only alarms of the heard wait, HSM is not to blame, and a stop waits for nothing."""
        self.begin()
        self.hsm.behaviour = Behaviour(faulty={A: "500"})
        self.tell(DIED, A)
        self.advance(60)
        self.hear(A)
        self.hsm.behaviour = Behaviour()
        self.advance(20)
        self.assertTrue(self.notifier.hsm_ready)
        self.successResultOf(self.notifier.stopService())

    def test_no_connection(self):
        """An update that can't have been sent is no reason to suspect its components."""
        for retries in (0, 3):
            self.begin(sm_retries=retries)
            self.watched.refused = True
            self.tell(DIED, A, B)
            self.advance(60)
            self.watched.refused = False
            self.until_told(A, B, within=10)
            self.assertEqual(self.sent(), [(DIED, [A, B])])

    def test_one_attempt_at_a_time(self):
        """In an outage there is one attempt for each probe; what has not failed yet comes first."""
        self.begin(sm_retries=0, sm_timeout=2)
        self.hsm.behaviour.hang = True
        self.tell(DIED, A, B)
        for name in nodes(22)[2:]:
            self.tell(STARTED, name)
            self.advance(5)
        self.assertLessEqual(len(self.hsm.updates), 22)
        self.assertEqual({what for what, _ in self.sent()[1:]}, {STARTED})

    def test_retry_after(self):
        """HSM is not sent anything while it asks for that, up to 30 s."""
        for asked, wait in (("20", 20), ("3600", 30), ("Fri, 15 Jan 2100 08:00:12 GMT", 30)):
            self.begin(sm_retries=0)
            self.hsm.behaviour = Behaviour(fail_status=503, retry_after=asked)
            self.tell(DIED, A, B)
            self.advance(wait - 0.1)
            self.tell(STARTED, C)
            self.assertEqual(len(self.hsm.updates), 1, asked)
            self.hsm.behaviour = Behaviour()
            self.until_told(A, B, C, within=1)


class TroubleTests(SuspectsTestCase):
    """What health says: why, and since when."""

    def test_outage(self):
        """An outage has the time of its beginning, and the latest reason."""
        self.begin()
        self.assertEqual((self.notifier.health(), self.notifier.trouble()), ("Ready", None))
        self.hsm.behaviour.database_gone = True
        self.advance(65)
        trouble = self.notifier.trouble() or ""
        self.assertTrue(trouble.startswith("since 2027-01-15T07:58:"), trouble)
        self.assertIn("HSM's database is unhealthy: connect: connection refused", trouble)
        self.assertEqual(self.notifier.health(), "Not ready")

    def test_another_cause(self):
        """An outage whose cause changes is logged with both, and lasts from its beginning."""
        self.begin(sm_timeout=3)
        self.hsm.behaviour.ready = False
        with capturedLogs() as events:
            self.advance(20)
            self.hsm.behaviour.hang = self.hsm.behaviour.hang_ready = True
            self.advance(20)
        first, second = lines(events, "warn")
        self.assertIn("HSM is not ready", first)
        self.assertIn("HSM did not answer within 3 s", second)
        # The wall clock stands still at 8:00; the outage began 36 s ago.
        trouble = "since 2027-01-15T07:59:24+00:00: HSM did not answer within 3 s"
        self.assertEqual(self.notifier.trouble(), trouble)

    def test_set_aside(self):
        """What is set aside is counted; the time is that of the first one's first failure."""
        self.begin_with("500", A, B)
        self.tell(DIED, A, C)
        self.advance(100)
        self.tell(DIED, B, D)
        self.advance(20)
        self.assertEqual(
            self.notifier.health(), "Ready, but does not accept updates of 2 components"
        )
        trouble = self.notifier.trouble() or ""
        self.assertTrue(trouble.startswith("since 2027-01-15T07:58:00"), trouble)
        self.assertIn(f"2 components set aside, first {A}: HSM answers 500", trouble)

    def test_nosm(self):
        """With `nosm` that is what is said, whatever was wrong before."""
        self.begin_with("500", A)
        self.tell(DIED, A, B)
        self.advance(3)
        self.assertIsNotNone(self.notifier.trouble())
        self.change(nosm=1)
        self.assertEqual(
            (self.notifier.health(), self.notifier.trouble()), ("Not ready", "nosm is set")
        )
        self.change(nosm=0)
        self.assertNotEqual(self.notifier.trouble(), "nosm is set")

    def test_not_asked_yet(self):
        """Until HSM has answered for the first time, that is what is said; so with another HSM."""
        not_yet = ("Not ready", "HSM has not yet answered whether it is ready")
        HSMTestCase.begin(self)
        self.assertEqual((self.notifier.health(), self.notifier.trouble()), not_yet)
        self.notifier.startService()
        self.advance(1)
        self.assertIsNone(self.notifier.trouble())
        self.other.behaviour.hang = self.other.behaviour.hang_ready = True
        self.change(sm_url=OTHER_URL)
        self.advance(1)
        self.assertEqual((self.notifier.health(), self.notifier.trouble()), not_yet)


class ReadyInWordsOnlyTests(SuspectsTestCase):
    """An HSM that says that it is ready, and accepts no update."""

    def test_not_ready_until_it_accepts(self):
        """It counts as not ready, without a break, until it accepts an update, which is tried."""
        for fault in ({"hang": True}, {"fail_status": 500}, {"fail_status": 503}, {"reset": True}):
            self.begin(sm_timeout=10)
            self.assertTrue(self.notifier.hsm_ready)
            self.hsm.behaviour = Behaviour(**fault)
            self.tell(DIED, A, B, C)
            self.advance(90)
            before = len(self.hsm.updates)
            for _ in range(600):
                self.advance(0.5)
                self.assertFalse(self.notifier.hsm_ready, fault)
                self.assertEqual(self.notifier.health(), "Not ready")
                self.assertIsNotNone(self.notifier.trouble())
            self.assertGreater(len(self.hsm.updates), before + 15)
            self.hsm.behaviour = Behaviour()
            self.until_told(A, B, C, within=16)
            self.assertTrue(self.notifier.hsm_ready)
            self.assertEqual((self.notifier.health(), self.notifier.trouble()), ("Ready", None))

    def test_nothing_waits(self):
        """When what waited is withdrawn, its word is enough, also if it was asked before."""
        for fault in ({"hang": True}, {"fail_status": 500}):
            self.begin(sm_timeout=10, sm_retries=0)
            self.hsm.behaviour = Behaviour(**fault)
            self.tell(DIED, A)
            self.advance(45)
            self.assertFalse(self.notifier.hsm_ready)
            if "hang" in fault:
                self.assertTrue(self.notifier._readiness.ready, "this test is about that case")
            self.notifier.drop_all()
            self.advance(5.1)
            self.assertTrue(self.notifier.hsm_ready, fault)
            self.assertIsNone(self.notifier.trouble())


_NAMES = nodes(7)
_BAD = st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(KINDS), max_size=5)
_TOLD = st.lists(
    st.tuples(
        st.sampled_from(Transition),
        st.lists(st.sampled_from(_NAMES), min_size=1, unique=True),
        st.sampled_from([0.0, 0.3, 2.5, 9.0]),
    ),
    min_size=1,
    max_size=6,
)


class AnyBadComponentsTests(SuspectsTestCase):
    """Any components, any failures, any order of events."""

    @settings(max_examples=120, suppress_health_check=list(HealthCheck), deadline=None)
    @given(_BAD, _TOLD, st.integers(0, 3))
    def test_everybody_is_told(
        self, bad: dict[str, str], told: list[tuple[Transition, list[str], float]], retries: int
    ) -> None:
        """All that can be told is told in bounded time, the rest within 300 s of when it can be."""
        self.begin(sm_timeout=3, sm_retries=retries)
        self.hsm.behaviour = Behaviour(faulty=bad)
        latest: dict[str, Judgement] = {}
        for what, names, pause in told:
            self.notifier.tell([Judgement(name, what, "t") for name in names])
            latest.update({name: Judgement(name, what, "t") for name in names})
            self.advance(pause)
        good = {name: each.transition for name, each in latest.items() if name not in bad}
        # Each failure costs `sm_timeout`, and a probe if nothing succeeds, at most.
        self.advance(8 * 2 * len(bad) + 6)
        self.assert_told(good)
        self.assertLess(len(self.hsm.updates), 20 * (len(bad) + 1) + len(told))
        event(f"set aside: {self.notifier.set_aside_count}")
        self.hsm.behaviour = Behaviour()
        self.advance(300 + 3 * len(bad))
        self.assert_told({name: each.transition for name, each in latest.items()})
        self.assertEqual(self.notifier.set_aside_count, 0)

    def assert_told(self, expected: dict[str, Transition]) -> None:
        """Check what HSM knows of some components."""
        known = {name: self.hsm.components.get(name) for name in expected}
        self.assertEqual(
            {name: state and state.message for name, state in known.items()},
            {name: what.message for name, what in expected.items()},
        )

    @settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.sets(st.integers(0, 199), max_size=12), st.sampled_from(["400", "500", "reset"]))
    def test_among_many(self, bad: set[int], fault: str) -> None:
        """Bad ones among many are found in few tries, at most two for each halving."""
        everybody = nodes(200)
        culprits = [everybody[index] for index in bad]
        self.begin_with(fault, *culprits)
        self.tell(DIED, *everybody)
        self.until_told(*set(everybody) - set(culprits), within=60)
        self.advance(4)
        self.assertEqual(self.notifier.set_aside_count, len(bad))
        self.assertLessEqual(len(self.hsm.updates), 2 * 8 * len(bad) + 12)
