"""Disruptions over a restart or a change of the leader: nothing forgotten, nothing for ever."""

import json
from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hbtd.guard.disruptions import GuardMode
from hbtd.guard.domains import Domains
from hbtd.guard.groups import Groups
from hbtd.guard.rules import Guard
from tests.support.guard_memory import HOLD, LIMIT, GuardTestCase, names

SLOT = "x1000c0s0b0n[0-3]"
CHASSIS = "x1000c0s[0-7]b0n[0-3]"

values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.sampled_from(["x1000c0s0", "s0", "", [], [3], ["s0"], {}]),
)
SAVED: dict[str, object] = {
    "domain": "x1000c0s0",
    "began": 20.0,
    "start": 27.0,
    "last": 26.0,
    "latest": -3.0,
    "left": 70.0,
    "told": True,
    "includes": ["x1000c0s0b0"],
    "ended": None,
    "absorbed": [],
}
"""A valid disruption in a snapshot."""

FIELDS = list(SAVED)


class RestartTestCase(GuardTestCase):
    """The base of the tests below."""

    def restart(self, before: float, now: float, elapsed: float = 0.0) -> None:
        """Go on in another process, which begins to hear at `now` on its own clock."""
        saved = json.loads(json.dumps(self.guard.snapshot(before)))
        self.guard = Guard(Domains(self.groups))
        self.guard.recount(names("x1000c[0-3]s[0-7]b0n[0-3]"))
        self.steady_since = now
        self.guard.restore(saved, now, now, elapsed)


class RestartTests(RestartTestCase):
    """A restart: who is silent becomes known only later, and seems to be so since the start."""

    def test_goes_on(self) -> None:
        """A disruption goes on, holds who is still silent for what is left, and is told once."""
        self.silence(SLOT, 0.0)
        self.decide(7.0)
        self.assertEqual(self.told(self.decide(10.0)), ["x1000c0s0"])
        self.restart(37.0, now=0.0)
        self.assertEqual(self.ended(self.decide(5.0)), [])
        self.assertDisrupted("x1000c0s0")
        self.silence("x1000c0s0b0n[0-2]", 0.0)
        decisions = self.decide(10.0)
        self.assertEqual(decisions[:2], ((), ()))
        self.assertHeld("x1000c0s0b0n[0-2]", 60.0)
        self.assertEqual(self.ended(self.decide(60.0)), [("x1000c0s0", "over")])
        self.assertHeld("")

    def test_elapsed(self) -> None:
        """What has passed since the snapshot is taken from the hold."""
        self.silence(SLOT, 0.0)
        self.decide(7.0)
        self.restart(37.0, now=0.0, elapsed=20.0)
        self.silence(SLOT, 0.0)
        self.decide(10.0)
        self.assertHeld(SLOT, 40.0)

    def test_back_meanwhile(self) -> None:
        """Who is not silent when one Warntime has passed is back; then the disruption ends."""
        self.silence(SLOT, 0.0)
        self.decide(10.0)
        self.restart(37.0, now=0.0)
        self.assertEqual(self.ended(self.decide(9.5)), [])
        self.assertEqual(self.ended(self.decide(10.0)), [("x1000c0s0", "back")])

    def test_others(self) -> None:
        """Who falls silent after a restart, more than Errtime after the others, is no member."""
        self.silence("x1000c0s0b0n[0-2]", 0.0)
        self.decide(10.0)
        self.restart(37.0, now=0.0)
        self.silence("x1000c0s0b0n[0-2]", 0.0)
        self.silence("x1000c0s0b0n3", 2.0)
        self.decide(10.0)
        self.assertHeld("x1000c0s0b0n[0-2]")

    def test_spread_after(self) -> None:
        """Nor is one silent with others that fall silent after a restart who was so long before.

        After the restart it seems to have been heard lately; the disruption knows better.
        """
        self.begin(CHASSIS)
        self.silence(SLOT, 0.0)
        self.decide(7.0)
        self.decide(10.0)
        self.restart(37.0, now=0.0)
        self.silence(SLOT, 0.0)
        self.decide(10.0)
        self.silence("x1000c0s[1-7]b0n[0-2]", 15.0)
        self.decide(25.0)
        (statement,) = self.decide(30.0).disrupted
        self.assertEqual((statement.domain, statement.away), ("x1000c0", 21))
        self.assertEqual((statement.start, statement.includes), (15.0, ()))
        self.silence("x1000c0s1b0n3", 40.0)
        self.decide(60.0)
        self.assertIn("x1000c0s1b0n3", self.guard.held)

    def test_over(self) -> None:
        """A hold that ends while it is not known who is silent is not begun again."""
        self.silence(SLOT, 0.0)
        self.decide(7.0)
        self.decide(10.0)
        self.restart(95.0, now=0.0)
        self.assertEqual(self.ended(self.decide(5.0)), [("x1000c0s0", "over")])
        self.silence(SLOT, 0.0)
        for now in (10.0, 20.0, 30.0):
            self.assertEqual(self.told(self.decide(now)), [])
            self.assertHeld("")

    def test_over_before(self) -> None:
        """Nor is a hold that had ended, or was released, shortly before the restart."""
        for release in (False, True):
            self.begin("x1000c[0-3]s[0-7]b0n[0-3]")
            self.silence(SLOT, 0.0)
            self.decide(7.0)
            if release:
                self.guard.release("x1000c0s0", 20.0)
            self.decide(97.0 if not release else 21.0)
            self.restart(98.0 if not release else 22.0, now=0.0)
            self.silence(SLOT, 0.0)
            self.assertEqual(self.told(self.decide(10.0)), [])
            self.assertHeld("")

    def test_again_and_again(self) -> None:
        """Restarts one after another don't make a hold longer."""
        self.silence(SLOT, 0.0)
        self.decide(7.0)
        self.restart(27.0, now=100.0)
        self.silence(SLOT, 100.0)
        self.decide(110.0)
        self.restart(120.0, now=0.0)
        self.silence(SLOT, 0.0)
        self.decide(10.0)
        self.assertHeld(SLOT, 50.0)

    def test_not_told_yet(self) -> None:
        """A disruption that was not told before is told once it is known who is silent."""
        self.silence(SLOT, 0.0)
        self.decide(7.0)
        self.restart(7.5, now=0.0)
        self.assertEqual(self.told(self.decide(5.0)), [])
        self.silence(SLOT, 0.0)
        (statement,) = self.decide(10.0).disrupted
        self.assertEqual((statement.domain, statement.away), ("x1000c0s0", 4))

    def test_spread_before(self) -> None:
        """The first disruption of a silence bounds its hold over a restart, too."""
        self.begin(CHASSIS)
        self.silence(SLOT, 0.0)
        self.decide(7.0)
        self.silence("x1000c0s[1-7]b0n[0-3]", 25.0)
        self.decide(32.0)
        self.restart(40.0, now=-30.0)
        self.silence(CHASSIS, -30.0)
        self.decide(-20.0)
        self.assertEqual(self.guard.held["x1000c0s0b0n0"], 27.0)
        self.assertEqual(self.guard.held["x1000c0s1b0n0"], 52.0)

    def test_other_settings(self) -> None:
        """What was saved with a longer hold is held for no longer than is allowed now."""
        self.settings = HOLD._replace(hold=1000.0)
        self.silence(SLOT, 0.0)
        self.decide(7.0)
        self.restart(27.0, now=0.0)
        self.settings = HOLD
        self.silence(SLOT, 0.0)
        self.decide(10.0)
        self.assertHeld(SLOT, 70.0)

    def test_group_is_gone(self) -> None:
        """A disruption of a group that is not listed any more has no members."""
        self.begin(CHASSIS, pdu="x1000c0s[0-7]b0n[0-2]")
        self.silence("x1000c0s[0-7]b0n[0-2]", 0.0)
        self.decide(7.0)
        self.groups = Groups()
        self.restart(27.0, now=0.0)
        self.silence("x1000c0s[0-7]b0n[0-2]", 0.0)
        self.decide(5.0)
        self.assertDisrupted("pdu")
        self.decide(10.0)
        self.assertDisrupted("x1000c0")

    def test_nothing(self) -> None:
        """Without disruptions, a snapshot is empty."""
        self.silence("x1000c0s0b0n0")
        self.decide(7.0)
        self.assertEqual(self.guard.snapshot(7.0), [])


class LeaderTests(RestartTestCase):
    """A change of the leader: the next one has heard all along, and knows who is silent."""

    def lead(self, before: float, now: float) -> None:
        """Go on in a replica that has heard all along; its clock shows 1000 s more."""
        saved = json.loads(json.dumps(self.guard.snapshot(before)))
        self.guard = Guard(Domains(self.groups))
        self.guard.recount(names("x1000c[0-3]s[0-7]b0n[0-3]"))
        self.guard.restore(saved, now, self.steady_since)

    def test_members(self) -> None:
        """The members are those of before, and not who was silent before or is so later."""
        self.silence("x1000c0s0b0n0", 0.0)
        self.silence("x1000c0s0b0n[1-3]", 31.0)
        self.decide(40.0)
        self.decide(43.0)
        self.lead(60.0, now=1060.0)
        self.silence("x1000c0s0b0n0", 1000.0)
        self.silence("x1000c0s0b0n[1-2]", 1031.0)
        self.silence("x1000c0s0b0n3", 1062.0)
        self.assertEqual(self.told(self.decide(1069.0)), [])
        self.assertHeld("x1000c0s0b0n[1-2]", 1130.0)

    def test_other_clock(self) -> None:
        """So they are if they seem to have been heard earlier here, by a clock that stood less."""
        for earlier in (0.002, 9.0):
            self.setUp()
            self.silence(SLOT, 0.0)
            self.decide(10.0)
            self.lead(60.0, now=1060.0)
            self.silence(SLOT, 1000.0 - earlier)
            self.assertEqual(self.ended(self.decide(1061.0)), [])
            self.assertHeld(SLOT, 1100.0)

    def test_two(self) -> None:
        """Who is a member of one by its time is none of a smaller one that began later."""
        self.begin(CHASSIS, pdu="x1000c0s[0-7]b0n3")
        self.silence("x1000c0s[0-7]b0n3", 0.0)
        self.decide(7.0)
        self.silence("x1000c0s0b0n[0-2]", 25.0)
        self.decide(32.0)
        self.assertDisrupted("pdu", "x1000c0s0")
        self.lead(40.0, now=1040.0)
        self.silence("x1000c0s[0-7]b0n3", 1000.0)
        self.silence("x1000c0s0b0n[0-2]", 1025.0)
        self.decide(1040.0)
        self.assertEqual(self.guard.held["x1000c0s0b0n3"], 1097.0)
        self.assertEqual(self.guard.held["x1000c0s0b0n0"], 1122.0)

    def test_all_back(self) -> None:
        """A domain that is back by then is no longer disrupted at the first decision."""
        self.silence(SLOT, 0.0)
        self.decide(10.0)
        self.lead(60.0, now=1060.0)
        self.assertEqual(self.ended(self.decide(1061.0)), [("x1000c0s0", "back")])

    def test_of_the_same_guard(self) -> None:
        """To restore replaces what a guard has decided before; it keeps who is silent."""
        self.silence(SLOT, 0.0)
        self.decide(10.0)
        self.guard.restore([], 11.0, -inf)
        self.assertDisrupted()
        self.assertHeld("")
        self.assertEqual(self.told(self.decide(30.0)), ["x1000c0s0"])


class BadSnapshotTests(RestartTestCase):
    """A snapshot that something else has written."""

    @settings(max_examples=50)
    @given(st.lists(st.dictionaries(st.sampled_from(FIELDS), values), max_size=3), values)
    def test_anything(self, changed: list[dict[str, object]], other: object) -> None:
        """Whatever is restored holds nobody for longer than is allowed, and does no harm."""
        self.begin(CHASSIS)
        saved = [SAVED | fields for fields in changed]
        self.guard.restore([*saved, other] if saved else other, 0.0, 0.0)
        self.silence(SLOT, 0.0)
        for now in (0.0, 7.0, 10.0, 20.0):
            self.decide(now)
            for until in self.guard.held.values():
                self.assertLessEqual(until, now + 90.0)
        self.decide(110.0)
        self.assertHeld("")

    def test_some(self) -> None:
        """What is valid beside something invalid is restored."""
        self.silence(SLOT, 0.0)
        self.decide(10.0)
        (good,) = self.guard.snapshot(10.0)
        bad = [good | {"left": float("nan")}, good | {"domain": 3}, {}, None, good | {"ended": "x"}]
        self.guard.restore([*bad, good, good | {"absorbed": [3]}], 10.0, -inf)
        self.assertDisrupted("x1000c0s0")

    def test_from_the_future(self) -> None:
        """A disruption that seems to begin later began now at the latest, and ends in time."""
        self.silence(SLOT, 0.0)
        self.decide(10.0)
        (saved,) = self.guard.snapshot(10.0)
        self.guard.restore([saved | {"began": -1000.0, "left": 5000.0}], 10.0, -inf)
        self.decide(10.0)
        self.assertHeld(SLOT, 100.0)

    def test_off(self) -> None:
        """What is restored in the mode off is released."""
        self.silence(SLOT, 0.0)
        self.decide(10.0)
        self.restart(20.0, now=0.0)
        self.settings = HOLD._replace(mode=GuardMode.OFF)
        self.assertEqual(self.ended(self.decide(1.0)), [("x1000c0s0", "released")])
        self.guard.note_silent("x1000c0s0b0n0", 0.0, LIMIT)
        self.decide(10.0)
        self.assertHeld("")
