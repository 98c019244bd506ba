"""How many alarms there would have been with other limits."""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.queries.whatif import WhatIf
from hbtd.store.condition import StoreCondition
from hbtd.store.memory import MemoryStore
from hbtd.store.past import Noticed
from hbtd.store.silences import SilenceKeeper
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker
from tests.support.beat_stories import Step, silences, stories

A, B = "x1000c0s0b0n0", "x1000c0s0b0n1"
T0 = 1e9
WARNTIME, ERRTIME = 10.0, 30.0


class Room:
    """A tracker, a table of long silences, and the questions about them, in the hands of a test."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.observed = ObservedClock(self.clock.seconds, lambda: WARNTIME, wall=self.wall)
        self.observed.tick()
        self.tracker = Tracker()
        self.store = MemoryStore()
        self.keeper = SilenceKeeper(
            self.clock,
            self.wall,
            self.observed,
            self.tracker.silences,
            self.store,
            StoreCondition(self.store, self.clock.seconds),
        )
        self.keeper.startService()
        self.whatif = WhatIf(self.tracker, self.observed, self.wall, self.store, self.keeper)
        self.reserved = 0
        self.turns: list[Callable[[], None]] = []
        """What happens in the next turns, in order."""

    def wall(self) -> float:
        """Return the Unix time."""
        return T0 + self.clock.seconds()

    def wait_until(self, at: float) -> None:
        """Let time pass, in steps that add up exactly, until a second of the clock."""
        while self.clock.seconds() < at:
            self.clock.advance(0.25)
            self.observed.tick()

    def beat(self, *times: float, xname: str = A) -> None:
        """Let a component beat at these seconds of the clock."""
        for at in times:
            self.wait_until(at)
            self.tracker.beat(xname, self.observed.now(), "t", "OK")

    def sweep(self) -> None:
        """Judge who is silent."""
        self.tracker.sweep(self.observed.now(), WARNTIME, ERRTIME, 99)

    def play(self, steps: list[Step]) -> None:
        """Let a story happen."""
        for at, what, name in steps:
            self.wait_until(at)
            now = self.observed.now()
            if what == "sweep":
                self.sweep()
            elif what == "forget":
                self.tracker.forget(name)
            else:
                self.tracker.beat(name, now, "t", "OK", None, what == "connect")

    def reserve(self, count: int) -> None:
        """Count the memory that an answer takes."""
        self.reserved += count

    def turn(self) -> Deferred[None]:
        """Let something happen."""
        if self.turns:
            self.turns.pop(0)()
        return succeed(None)

    def ask(self, warntime: int = 10, errtime: int = 30, since: float | None = None) -> Any:
        """Return an answer; `since` is a second of the clock."""
        at = None if since is None else T0 + since
        answer = self.whatif.answer(warntime, errtime, at, self.turn, self.reserve)
        found: list[Any] = []
        Deferred.fromCoroutine(answer).addBoth(found.append)
        return found[0]


class WhatIfTests(SynchronousTestCase):
    """The answers."""

    def setUp(self) -> None:
        """Begin without a component."""
        self.room = Room()

    def counts(self, *args: Any, **options: Any) -> list[int]:
        """Return the number of warnings, and of those who returned, and the same of deaths."""
        answer = self.room.ask(*args, **options)
        kinds = (answer["Warnings"], answer["Deaths"])
        return [each[key] for each in kinds for key in ("Number", "Returned")]

    @settings(max_examples=40)
    @given(
        stories(),
        st.integers(1, 40),
        st.integers(1, 60),
        st.none() | st.integers(0, 100),
        st.integers(0, 70),
    )
    def test_brute_force(
        self, steps: list[Step], warntime: int, errtime: int, since: int | None, later: int
    ) -> None:
        """They are those that one would have counted who looks at every moment, above the floor."""
        room = Room()
        room.play(steps)
        room.wait_until(room.clock.seconds() + later)
        now = room.clock.seconds()
        answer = room.ask(warntime, errtime, since)
        unsure = answer["Floor"]["Seconds"]
        for kind, limit in (("Warnings", warntime), ("Deaths", errtime)):
            number = back = 0
            names = set()
            for each in silences(steps):
                due = each.alarm(limit, now)
                if due is None or due < (since or 0.0):
                    continue
                if kind == "Warnings" and warntime >= errtime:
                    continue
                number += 1
                back += each.ended < inf
                names.add(each.component)
            found = answer[kind]
            if limit > unsure:
                expected = [number, back, len(names)]
                self.assertEqual([found[key] for key in _KEYS], expected)
            self.assertLessEqual(found["Number"], number)
        self.assertTrue(answer["Complete"])

    def test_ended_and_open(self) -> None:
        """Silences that have ended count, and those that last, which nobody has returned from."""
        self.room.beat(0.0, 3.0, xname=B)
        self.room.beat(3.0, 6.0, 18.0)
        self.room.sweep()
        self.room.wait_until(60.0)
        self.assertEqual(self.counts(8, 20), [3, 1, 2, 0])
        self.room.sweep()
        answer = self.room.ask(8, 20)
        self.assertEqual(answer["Warnings"]["XNames"], "x1000c0s0b0n[0-1]")
        self.assertEqual(answer["Warnings"]["Components"], 2)
        self.assertEqual(self.counts(8, 50), [3, 1, 1, 0])
        self.assertEqual(self.counts(50, 60), [1, 0, 0, 0])
        self.room.tracker.forget(A)
        self.assertEqual(self.counts(8, 20), [2, 1, 1, 0])

    def test_in_maintenance(self) -> None:
        """A silence that lasts in maintenance is no alarm with any limits."""
        self.room.beat(0.0, 3.0)
        self.room.tracker.spare([A])
        self.room.wait_until(60.0)
        self.assertEqual(self.counts(8, 20), [0, 0, 0, 0])
        self.room.tracker.judge_anew([A], 60.0, (WARNTIME, ERRTIME))
        self.assertEqual(self.counts(8, 20), [1, 0, 1, 0])

    def test_since(self) -> None:
        """What counts is when an alarm would have been due, also of silences that last."""
        self.room.beat(0.0, 3.0, 23.0)
        self.room.wait_until(100.0)
        for since, expected in (
            (13.0, [2, 1, 1, 0]),
            (13.25, [1, 0, 1, 0]),
            (33.25, [0, 0, 1, 0]),
            (53.0, [0, 0, 1, 0]),
            (53.25, [0, 0, 0, 0]),
        ):
            self.assertEqual(self.counts(10, 30, since=since), expected, since)

    def test_whole_since(self) -> None:
        """Without a time, all since the table is whole; before, alarms may be missing."""
        self.room.wait_until(100.0)
        self.room.keeper.startService()
        answer = self.room.ask()
        whole = "2001-09-09T01:48:20.000Z"
        self.assertEqual([answer[key] for key in ("Since", "WholeSince")], [whole, whole])
        self.assertTrue(answer["Complete"])
        answer = self.room.ask(since=99.75)
        self.assertEqual(answer["Since"], "2001-09-09T01:48:19.750Z")
        self.assertFalse(answer["Complete"])
        answer = self.room.ask(since=100.25)
        self.assertEqual(answer["WholeSince"], whole)
        self.assertTrue(answer["Complete"])

    def test_not_heard(self) -> None:
        """Time in which hbtd could not hear is no silence, and alarms were due that much later."""
        self.room.beat(0.0, 3.0, 5.0)
        self.room.clock.advance(60.0)
        self.room.observed.tick()
        self.room.wait_until(100.0)
        silent = self.room.observed.now() - 5.0
        self.assertLess(silent, 30.0)
        self.assertEqual(self.counts(int(silent), 40), [1, 0, 0, 0])
        self.assertEqual(self.counts(int(silent) + 1, 40), [0, 0, 0, 0])
        self.assertEqual(self.counts(int(silent), 40, since=90.0), [1, 0, 0, 0])

    def test_unknown(self) -> None:
        """Who is dead since nobody knows when counts since it was judged, or is left out."""
        self.room.tracker.restore([], [A, B], 0.0, WARNTIME, ERRTIME)
        component = self.room.tracker.component(A)
        assert component is not None
        component.since = T0 + 50.0
        self.room.wait_until(100.0)
        self.assertEqual(self.counts(10, 30, since=50.0), [1, 0, 1, 0])
        self.assertEqual(self.counts(10, 30, since=50.25), [0, 0, 0, 0])

    def test_floor(self) -> None:
        """Of components with a period as long as a limit that was not kept there may be more."""
        self.room.beat(*range(0, 60, 3))
        self.room.beat(60.0, 65.0, 70.0, xname=B)
        floor = self.room.ask(6, 30)["Floor"]
        self.assertEqual([floor[key] for key in ("Seconds", "Components", "XNames")], [5.0, 0, ""])
        for limits in ((5, 30), (30, 5), (4, 3)):
            floor = self.room.ask(*limits)["Floor"]
            names = "x1000c0s0b0n[0-1]" if limits == (4, 3) else B
            self.assertEqual(floor["XNames"], names)
            self.assertEqual(floor["Components"], 1 + (limits == (4, 3)))
        self.room.tracker.forget(B)
        floor = self.room.ask(5, 30, since=70.0)["Floor"]
        self.assertEqual((floor["Seconds"], floor["Components"]), (5.0, 0))
        self.room.wait_until(80.0)
        self.assertEqual(self.room.ask(5, 30, since=70.25)["Floor"]["Seconds"], 3.0)

    def test_floor_of_processes(self) -> None:
        """What earlier processes have missed counts, for as long as each of them ran."""
        store = self.room.store
        store.keep_silences([], Noticed(T0 - 200.0, 7.0))
        store.keep_silences([], Noticed(T0 - 50.0, 6.0))
        self.room.beat(0.0, 3.0, 8.0)
        store.keep_silences([], Noticed(T0, 9.0))  # of this process, more is known
        for asked, expected in ((-60.0, 7.0), (-50.0, 7.0), (-49.0, 6.0), (0.0, 6.0), (0.25, 5.0)):
            self.assertEqual(self.room.ask(since=asked)["Floor"]["Seconds"], expected, asked)

    def test_heard_meanwhile(self) -> None:
        """Who is heard while the answer is made counts once, whether that is stored or not."""
        for before, later, expected in (
            (0, 60.25, [2, 2, 1, 1]),  # it waits to be stored
            (0, 68.0, [2, 2, 1, 1]),  # it is stored
            (1, 60.25, [2, 1, 1, 0]),  # the table was read already
        ):
            room = self.room = Room()
            room.beat(0.0, 3.0, 15.0)
            room.wait_until(60.0)
            room.turns = [lambda: None] * before + [partial(self.hear, later)]
            self.assertEqual(self.counts(10, 30), expected, (before, later))
            self.assertEqual(room.turns, [])

    def hear(self, later: float) -> None:
        """Let a component beat at second 60.25, and wait until another one."""
        self.room.beat(60.25)
        self.room.wait_until(later)

    def test_many(self) -> None:
        """Of very many alarms all are counted, and a thousand components are named."""
        names = [f"x{number}c0s0b0n0" for number in range(5000)]
        for at in (0.0, 3.0):
            for name in names:
                self.room.beat(at, xname=name)
        self.room.wait_until(40.0)
        for name in names[:4500]:
            self.room.beat(40.0, xname=name)
        for wait in (0.0, 5.0):
            self.room.wait_until(40.0 + wait)
            answer = self.room.ask(10, 30)
            self.assertEqual(answer["Deaths"]["Number"], 5000)
            self.assertEqual(answer["Deaths"]["Returned"], 4500)
            self.assertEqual(answer["Deaths"]["XNames"], "x[0-999]c0s0b0n0")
        self.assertGreater(self.room.reserved, 5000 * 100)

    def test_memory(self) -> None:
        """Memory is reserved for each silence that counts: stored, to be stored, or lasting."""
        self.room.beat(0.0, 3.0, xname=B)
        self.room.beat(3.0, 6.0, 18.0)
        self.room.wait_until(30.0)
        self.room.beat(30.0)
        amounts = []
        for limit in (100, 13, 12):
            self.room.reserved = 0
            self.room.ask(limit, 200)
            amounts.append(self.room.reserved)
        none, one, three = amounts
        self.assertGreater(one, none)
        self.assertEqual(three - none, 3 * (one - none))

    def test_no_room(self) -> None:
        """An answer for which there is no memory is not made."""

        def refuse(count: int) -> None:
            raise MemoryError

        self.room.reserve = refuse  # type: ignore[method-assign]
        self.assertIsInstance(self.room.ask().value, MemoryError)


_KEYS = ("Number", "Returned", "Components")
