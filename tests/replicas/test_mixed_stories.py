"""Random stories of fleets that mix replicas of this hbtd with the original."""

from dataclasses import dataclass
from math import inf
from random import Random

from hypothesis import example, given, note, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.hsm_memory import DIED, WARNED, nodes
from tests.support.mixed_memory import ERRTIME, INTERVAL, WARNTIME, Original, Ours, World

PERIOD = 2.0
LEASE = 10
NAP = float(WARNTIME + INTERVAL + 2)
"""Seconds of silence that make a warning, but no death."""
STEADY, DOOMED = nodes(12)[:8], nodes(12)[8:]
MOST = 4
"""The most processes at a time."""

STORIES = st.lists(
    st.tuples(
        st.sampled_from(["ours", "original", "kill", "stop", "pause", "resume", "nap", "die"]),
        st.integers(0, MOST - 1),
        st.floats(0.1, 12.0),
    ),
    max_size=12,
)


@dataclass
class Span:
    """A silence of a node, which ends with the next heartbeat that a process takes."""

    start: float
    end: float = inf


class Story:
    """One story: what happens to processes while nodes send heartbeats, and what HSM is told."""

    def __init__(self, seed: int) -> None:
        self.world = World()
        self.random = Random(seed)
        self.processes: list[Ours | Original] = []
        self.due = {name: self.random.uniform(0.0, PERIOD) for name in (*STEADY, *DOOMED)}
        self.talks_to: dict[str, Ours | Original] = {}
        self.died: dict[str, float] = {}
        self.paused = inf
        self.pauses: list[Span] = []
        self.naps: dict[str, list[Span]] = {name: [] for name in self.due}

    def serving(self) -> list[Ours | Original]:
        """Return the processes that answer heartbeats."""
        return [each for each in self.processes if each.serves]

    def happen(self, what: str, which: int) -> None:
        """Let something happen to a process, or to a node."""
        living = [each for each in self.processes if each.alive]
        chosen = living[which % len(living)] if living else None
        if what == "die":
            name = DOOMED[which]
            if name in self.world.told or name in self.world.etcd.records():
                self.died.setdefault(name, self.world.now)
        elif what == "nap":
            rested = self.world.now - 2 * PERIOD
            awake = [name for name in STEADY if all(nap.end < rested for nap in self.naps[name])]
            for name in awake[which : which + 2]:
                self.due[name] = self.world.now + NAP
                self.naps[name].append(Span(self.world.now))
        elif what in ("ours", "original"):
            if len(living) < MOST:
                self.processes.append(getattr(self.world, what)())
        elif chosen is not None:
            if what == "pause":
                chosen.paused = True
                self.paused = min(self.paused, self.world.now)
            elif what == "resume":
                for each in living:
                    each.paused = False
                self.pauses.append(Span(self.paused, self.world.now))
                self.paused = inf
            elif not chosen.paused or what == "kill":
                getattr(chosen, what)()

    def beat(self, seconds: float) -> None:
        """Let time pass while the nodes that live send heartbeats, each to one process for long."""
        end = self.world.now + seconds
        while self.world.now < end - 1e-6:
            self.world.advance(min(0.1, end - self.world.now))
            serving = self.serving()
            for name, due in self.due.items():
                if due <= self.world.now and name not in self.died:
                    self.due[name] = self.world.now + PERIOD
                    if serving and self.talks_to.get(name) not in serving:
                        self.talks_to[name] = self.random.choice(serving)
                    if serving:
                        self.talks_to[name].beat(name)
                        for nap in self.naps[name]:
                            nap.end = min(nap.end, self.world.now)

    def may_warn(self, nap: Span, at: float) -> bool:
        """Return whether HSM may be told of a warning about this nap then.

        A process that was paused may have judged before that, and tell HSM after it.
        """
        pauses = [each.end for each in self.pauses if each.start < nap.end and each.end <= at]
        return nap.start < at < max(nap.end, *pauses, 0.0) + 1.0

    def faults(self) -> list[str]:
        """Return what HSM was told wrongly, or not told."""
        found: list[str] = []
        for name, all_told in self.world.told.items():
            alarms = [each for each in all_told if each.what in (WARNED, DIED)]
            if name in self.died:
                alarms = [each for each in alarms if each.at < self.died[name] + PERIOD]
            # An original that did not run for a while takes everybody for dead.
            alarms = [each for each in alarms if each.ours]
            for alarm in alarms:
                napped = any(self.may_warn(nap, alarm.at) for nap in self.naps[name])
                if alarm.what is DIED or not napped:
                    found.append(f"{name} beats, and HSM was told {alarm}")
            # An original may have read what others replaced, and warn when a replica knows better.
            last = all_told[-1]
            if name not in self.died and last.what is WARNED and last.ours:
                found.append(f"{name} beats, and HSM was not told: {last}")
        for name, died in self.died.items():
            told = [each for each in self.world.told.get(name, []) if each.at > died]
            if DIED not in [each.what for each in told]:
                found.append(f"{name} died at {died:.1f}, and HSM was not told: {told}")
        return found


class StoryTests(SynchronousTestCase):
    """Whatever happens to the processes, nodes that live are not told dead, and others are."""

    @given(STORIES, st.integers(0, 1000))
    @example([("original", 0, 8.0), ("ours", 0, 9.0), ("stop", 0, 5.0), ("stop", 1, 9.0)], 1)
    @settings(deadline=None, max_examples=25)
    def test_story(self, story: list[tuple[str, int, float]], seed: int) -> None:
        """In the end a replica of ours leads long enough to notice whatever is due."""
        told = Story(seed)
        self.addCleanup(told.world.close)
        for what, which, seconds in story:
            told.happen(what, which)
            told.beat(seconds)
        told.happen("resume", 0)
        told.processes.append(told.world.ours())
        told.beat(LEASE + WARNTIME + ERRTIME + INTERVAL + 5.0)
        for name, each in told.world.told.items():
            note(f"{name}: {[(round(one.at, 1), one.what.name, one.ours) for one in each]}")
        self.assertEqual(told.faults(), [])
