"""The guard does what its rules say, whatever happens in whatever order."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.guard.disruptions import Decisions, GuardMode, GuardSettings
from hbtd.guard.domains import Domains
from hbtd.guard.groups import Groups
from hbtd.guard.rules import Guard
from tests.support.guard_reference import Reference, Said

NAMES = [
    f"x{cabinet}c{chassis}s{slot}b0n{node}"
    for cabinet, chassis, slot, node in (
        *((1, c, s, n) for c in range(2) for s in range(2) for n in range(4)),
        *((2, 0, s, n) for s in range(3) for n in range(2)),
    )
]
GROUPS = {
    "pdu": {x for x in NAMES if x.startswith("x1c0") and x.endswith(("n0", "n1"))},
    "row": {"x1c1", "x2c0s0", "x2c0s1b0n0"},
    "two": {NAMES[0], NAMES[-1]},
}
PLACES = ["x1", "x1c0", "x1c1", "x1c0s0", "x1c0s1", "x1c1s0", "x2", "x2c0s0", "pdu", "row", "s0"]

some = st.integers(0, 2 ** len(NAMES) - 1)
places = st.sampled_from(PLACES)
times = st.sampled_from([0.0, 1.0, 2.0, 5.0, 8.0, 12.0, 20.0, 35.0])
story = st.lists(
    st.one_of(
        st.tuples(st.just("silent"), places, some, times),
        st.tuples(st.just("silent"), places, st.just(-1), times),
        st.tuples(st.just("silent"), places, st.just(-1), times),
        st.tuples(st.sampled_from(["heard", "dead", "gone", "living"]), places, some),
        st.tuples(st.just("heard"), places, st.just(-1)),
        st.tuples(st.just("wait"), times),
        st.tuples(st.just("wait"), times),
        st.tuples(st.just("release"), st.sampled_from([None, *PLACES])),
        st.tuples(
            st.just("change"),
            st.sampled_from(GuardMode),
            st.sampled_from([55, 30, 100]),
            st.sampled_from([40.0, 10.0, 90.0]),
        ),
        st.tuples(st.just("gap")),
        st.tuples(st.just("restart"), st.sampled_from([-30.0, 0.0, 1000.0])),
    ),
    max_size=25,
)
JOINED_LATER = [
    ("gap",),
    ("wait", 8.0),
    ("silent", "x1c0s1", -1, 0.0),
    ("silent", "x1", 0b110111101100000, 12.0),
    ("wait", 0.0),
]
"""One who does not count, as it may have to connect again, is explained by a disruption at last."""


class Story:
    """A guard and its reference, which are told the same."""

    def __init__(self) -> None:
        self.now, self.steady_since = 0.0, -100.0
        self.settings = GuardSettings(GuardMode.HOLD, 55, 40.0, 10.0, 20.0)
        self.guard = self.made()
        self.reference = Reference(GROUPS)
        self.guard.recount(NAMES)
        self.reference.living.update(NAMES)
        self.since: dict[str, float] = {}
        """Since when who is silent."""
        self.held_since: dict[str, float] = {}
        """Since when the deaths of components wait, for the silence that goes on."""

    def made(self) -> Guard:
        """Return a guard that knows nobody."""
        return Guard(Domains(Groups(GROUPS.items())))

    def chosen(self, place: str, bits: int) -> list[str]:
        """Return some of the components in a domain."""
        return [
            x
            for index, x in enumerate(NAMES)
            if self.reference.inside(place, x) and bits >> index & 1
        ]

    def forget(self, xname: str) -> None:
        """Forget that a component was silent."""
        self.since.pop(xname, None)
        self.held_since.pop(xname, None)

    def silent(self, place: str, bits: int, age: float) -> None:
        """Note silences; the components were heard last some seconds ago."""
        for each in self.chosen(place, bits):
            if each in self.reference.living and each not in self.since:
                self.since[each] = self.now - age
                self.note(each)

    def note(self, xname: str) -> None:
        """Note a silence, perhaps again."""
        limit = 4.0 + 2.0 * (xname[-1] == "1")
        self.guard.note_silent(xname, self.since[xname], limit)
        self.reference.silent(xname, self.since[xname], limit)

    def heard(self, place: str, bits: int) -> None:
        """Note that components were heard."""
        for each in self.chosen(place, bits):
            if each in self.reference.living:
                self.guard.note_heard(each)
                self.reference.heard(each)
                self.forget(each)

    def dead(self, place: str, bits: int) -> None:
        """Note that components died."""
        for each in self.chosen(place, bits):
            self.dead_of_silence(each)

    def dead_of_silence(self, xname: str) -> None:
        """Note a death, unless it was noted before."""
        if xname in self.reference.living:
            self.guard.note_dead(xname)
            self.reference.died(xname)

    def gone(self, place: str, bits: int) -> None:
        """Note that components were forgotten."""
        for each in self.chosen(place, bits):
            self.guard.note_gone(each, living=each in self.reference.living)
            self.reference.leaves(each)
            self.reference.heard(each)
            self.forget(each)

    def living(self, place: str, bits: int) -> None:
        """Note that components have started."""
        for each in self.chosen(place, bits):
            if each not in self.reference.living:
                self.guard.note_living(each)
                self.reference.living.add(each)
                self.reference.heard(each)
                self.forget(each)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def release(self, domain: str | None) -> tuple[Decisions, Said]:
        """Release a domain, or all."""
        decisions = self.guard.release(domain, self.now)
        self.reference.said = Said([], [], {})
        return decisions, self.reference.release(domain, self.now)

    def change(self, mode: GuardMode, share: float, hold: float) -> None:
        """Change the parameters."""
        self.settings = self.settings._replace(mode=mode, share=share, hold=hold)

    def gap(self) -> None:
        """Let hbtd have been deaf until now."""
        self.steady_since = self.now

    def restart(self, now: float) -> None:
        """Continue in another process, on another clock, that knows who is silent."""
        saved = json.loads(json.dumps(self.guard.snapshot(self.now)))
        shift, self.now = now - self.now, now
        self.steady_since += shift
        self.since = {x: at + shift for x, at in self.since.items() if x in self.reference.living}
        self.held_since = {x: at + shift for x, at in self.held_since.items()}
        self.guard = self.made()
        self.guard.recount(self.reference.living)
        self.guard.restore(saved, now, self.steady_since)
        self.reference.reborn(shift, self.steady_since)
        for each in self.since:
            self.note(each)

    def decide(self) -> tuple[Decisions, Said, set[str]]:
        """Decide; also return who is held no more. Who is silent for too long dies afterwards."""
        before = {*self.guard.held}
        decisions = self.guard.decide(self.now, self.settings, self.steady_since)
        said = self.reference.decide(self.now, self.settings, self.steady_since)
        for each in decisions.held:
            self.held_since.setdefault(each, self.now)
        no_more = before - {*decisions.held}
        for each, since in self.since.items():
            if self.now - since >= 2 * self.settings.errtime and each not in decisions.held:
                self.dead_of_silence(each)
        return decisions, said, no_more


class StoryTests(SynchronousTestCase):
    """Any story of silences."""

    def compare(self, story: Story, decisions: Decisions, said: Said) -> None:
        """Check that the guard has decided as its reference."""
        disrupted = [(*each[:1], *each[2:]) for each in decisions.disrupted]
        self.assertEqual(sorted(disrupted), sorted(said.disrupted))
        ended = [(each.domain, each.began, each.reason, each.away) for each in decisions.ended]
        self.assertEqual(sorted(map(str, ended)), sorted(map(str, said.ended)))
        held = {x: until for x, until in decisions.held.items() if until > story.now}
        self.assertEqual(held, said.held)

    @settings(max_examples=100)
    @given(story)
    @example(JOINED_LATER)
    def test_reference(self, events: list[tuple[Any, ...]]) -> None:
        """What is decided is what the rules say, and nobody is held for longer than is allowed."""
        story = Story()
        longest = 0.0
        for what, *how in events:
            result = getattr(story, what)(*how)
            if what == "release":
                self.compare(story, *result)
            longest = max(longest, story.settings.hold)
            decisions, said, no_more = story.decide()
            self.compare(story, decisions, said)
            self.assertEqual({*decisions.released}, no_more)
            for xname in decisions.held:
                self.assertIn(xname, story.since)
                self.assertTrue(story.guard.holds(xname, story.now))
                self.assertLess(story.now, story.held_since[xname] + longest)
