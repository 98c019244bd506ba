"""When hbtd-agent beats: simulated nodes, and an hbtd that comes and goes."""

import itertools
import math
from collections import Counter
from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.simulator.fleet import node_names
from tests.support.agent import agent, answer, simulate

WARNTIME = 10.0
PERIOD = WARNTIME / 3
NODE = "x1000c0s0b0n0"
BOOT = 1_800_000_000.0

moments = st.floats(0, 100_000, allow_nan=False).map(lambda each: BOOT + each)
nodes = st.integers(0, 9_999).map(lambda each: f"x1000c{each % 8}s{each // 8}b0n0")
NOT_NOW = [
    lambda: agent.Failed("connect", "refused"),
    lambda: None,
    lambda: answer(503),
    lambda: answer(503, retry_after="10"),
    lambda: answer(429, retry_after="3600"),
    lambda: answer(502),
    lambda: answer(401),
]
troubles = st.sampled_from(NOT_NOW)


def _always(what, now):
    """Return the same at any time."""
    return what


class MomentTests(SynchronousTestCase):
    """The moments at which a node beats."""

    @given(moments, st.floats(0.1, 3600), st.floats(0, 1, exclude_max=True))
    def test_moment(self, now, period, fraction):
        """The next moment is in its place in the period, and within a twentieth more than one."""
        moment = agent.moment_after(now, period, fraction)
        self.assertGreater(moment, now)
        self.assertLessEqual(moment, now + 1.05 * period + 1e-6)
        place = (moment - fraction * period) / period
        self.assertAlmostEqual(place, round(place), places=4)

    def test_same(self):
        """The phase of a node follows from its name alone, and is never another one."""
        found = [round(each, 4) for each in agent.fractions(NODE)]
        self.assertEqual(found, [0.401, 0.2303, 0.9449])

    @given(st.floats(1, 2**32))
    def test_period(self, warntime):
        """The period is a third of `Warntime`, and never longer than the time between questions."""
        self.assertEqual(agent.period_of(warntime), min(warntime / 3, 300))


class FleetTests(SynchronousTestCase):
    """Ten thousand nodes."""

    def test_boot(self):
        """Nodes that boot at once are spread evenly over one period."""
        for boot in (BOOT, BOOT + 1.234, BOOT + PERIOD / 2):
            first = [simulate(each, boot, PERIOD).taken[0] - boot for each in node_names(10_000)]
            self.assertLessEqual(max(first), PERIOD + 1e-6)
            self.assertEven(first)

    def test_return(self):
        """When hbtd returns after a minute, all are back in one period, as evenly as they were."""
        back = BOOT + 90
        for trouble in NOT_NOW[0], NOT_NOW[2]:
            first = []
            for each in node_names(2_000):
                hbtd = simulate(each, BOOT, 110, self.away(trouble, 30, 60))
                first.append(min(when for when in hbtd.taken if when >= back) - back)
            self.assertLess(max(first), 2 * PERIOD + 0.2)
            self.assertEven([each % PERIOD for each in first])

    def test_questions(self):
        """Once all have booted, their questions for `Warntime` are spread over five minutes."""
        asked = []
        for each in node_names(2_000):
            hbtd = simulate(each, BOOT, 700)
            self.assertLessEqual(len(hbtd.asked), 4)
            asked += [when - BOOT for when in hbtd.asked if when > BOOT + 300 + PERIOD]
        tenths = Counter(math.floor(each / 30) for each in asked if each < 630)
        self.assertLess(max(tenths.values()), 2 * 2_000 / 10)

    def away(self, trouble, after, seconds):
        """Return the answers of an hbtd that is away for some seconds."""

        def answers(now):
            return trouble() if BOOT + after <= now < BOOT + after + seconds else answer(200)

        return answers

    def assertEven(self, times):
        """No tenth of a period has a quarter more than its share, and a few by chance."""
        tenths = Counter(min(math.floor(each / PERIOD * 10), 9) for each in times)
        share = len(times) / 10
        self.assertLess(max(tenths.values()), share + 5 * share**0.5)
        self.assertGreater(min(tenths.values()), share - 5 * share**0.5)


class PromiseTests(SynchronousTestCase):
    """No node that beats may be told dead, or be warned about."""

    def silences(self, hbtd):
        """Return the times between heartbeats that were taken."""
        return [after - before for before, after in zip(hbtd.taken, hbtd.taken[1:], strict=False)]

    @given(nodes, moments)
    @settings(max_examples=50)
    def test_steady(self, node, boot):
        """While hbtd answers, a node beats every period, to the millisecond."""
        hbtd = simulate(node, boot, 60)
        self.assertGreaterEqual(len(hbtd.taken), 17)
        for silence in self.silences(hbtd):
            self.assertAlmostEqual(silence, PERIOD, places=3)

    @given(nodes, moments, troubles, st.floats(20, 40))
    @settings(max_examples=200)
    def test_hiccup(self, node, boot, trouble, after):
        """A trouble that meets one heartbeat does not bring a node near `Warntime`.

        One that could not connect tries again in the middle of the period.
        """
        met: list[float] = []

        def answers(now):
            if now >= boot + after and not met:
                met.append(now)
                error = trouble()
                return error or agent.Failed("connect", "reset")
            return answer(200)

        hbtd = simulate(node, boot, 90, answers)
        self.assertEqual(len(met), 1)
        connected = trouble() is not None and not isinstance(trouble(), Exception)
        self.assertLess(max(self.silences(hbtd)), (0.7 if connected else 0.52) * WARNTIME)

    @given(nodes, moments, troubles, st.floats(20, 40), st.floats(0.1, 400))
    @settings(max_examples=200, deadline=None)
    def test_return(self, node, boot, trouble, after, seconds):
        """After any outage a node is heard well before hbtd, which waits `Warntime`, would warn."""
        gone, back = boot + after, boot + after + seconds
        hbtd = simulate(
            node,
            boot,
            after + seconds + 60,
            lambda now: trouble() if gone <= now < back else answer(200),
        )
        first = min(when for when in hbtd.taken if when >= back)
        self.assertLess(first - back, 0.72 * WARNTIME)

    @given(nodes, moments, st.sampled_from([1, 2, 5, 10, 60, 3600]), st.floats(0, 30))
    @settings(max_examples=100)
    def test_restart(self, node, boot, warntime, after):
        """A restart of the agent costs one heartbeat at most, whatever `Warntime` is."""
        note = Path(self.mktemp())
        period = agent.period_of(warntime)
        before = simulate(
            node, boot, 2 * period + 4 + after % period, note=str(note), warntime=f"{warntime}"
        )
        again = before.taken[-1] + period / 2
        later = simulate(node, again, 2 * period, note=str(note), warntime=f"{warntime}")
        self.assertLess(later.taken[0] - before.taken[-1], 0.7 * warntime)

    @given(nodes, moments, troubles)
    @settings(max_examples=100, deadline=None)
    def test_no_hurry(self, node, boot, trouble):
        """However long hbtd is away, a node tries twice in a period at most, and later once."""
        hbtd = simulate(node, boot, 600, lambda now: trouble())
        self.assertGreater(len(hbtd.tried), 5)
        self.assertLessEqual(len([each for each in hbtd.tried if each < boot + WARNTIME]), 7)
        late = [each for each in hbtd.tried if each >= boot + 2 * WARNTIME]
        self.assertLessEqual(len(late), 580 / PERIOD + 1)

    def test_unknown(self):
        """A node that hbtd has never heard waits as long as a 503 asks, up to a minute."""
        for asked, least, most in ("20", 20, 20 + PERIOD), ("3600", 60, 60 + PERIOD):
            refusal = answer(503, retry_after=asked)
            hbtd = simulate(NODE, BOOT, 200, partial(_always, refusal))
            for before, after in zip(hbtd.tried, hbtd.tried[1:], strict=False):
                self.assertGreaterEqual(after - before, least - 1e-6)
                self.assertLess(after - before, most)

    def test_backs_off(self):
        """A node that is told "not now" for longer than `Warntime` sends half as often."""
        hbtd = simulate(
            NODE, BOOT, 200, lambda now: answer(429) if now > BOOT + 20 else answer(200)
        )
        gaps = [after - before for before, after in zip(hbtd.tried, hbtd.tried[1:], strict=False)]
        for gap in gaps[12:]:
            self.assertAlmostEqual(gap, 2 * PERIOD, places=3)

    def test_other_warntime(self):
        """Another `Warntime` than the default is followed after the first heartbeat."""
        hbtd = simulate(NODE, BOOT, 60, warntime="60")
        gaps = self.silences(hbtd)
        self.assertEqual([round(each, 3) for each in gaps[1:]], [20.0] * (len(gaps) - 1))
        self.assertLessEqual(gaps[0], 21)

    def test_changed_warntime(self):
        """A `Warntime` that is changed is followed within five minutes and a period."""
        changed = BOOT + 400
        hbtd = simulate(NODE, BOOT, 1400, warntime=lambda now: "10" if now < changed else "30")
        late = [each for each in hbtd.taken if each > changed + 300 + PERIOD]
        self.assertLess(late[0] - (changed + 300 + PERIOD), 10.5)
        for before, after in itertools.pairwise(late):
            self.assertAlmostEqual(after - before, 10, places=3)

    def test_restarted_with_another_warntime(self):
        """Whoever connects anew asks at once: hbtd may be back with a lower Warntime."""
        away, back = BOOT + 1000, BOOT + 1120
        hbtd = simulate(
            NODE,
            BOOT,
            1600,
            lambda now: None if away < now < back else answer(200),
            warntime=lambda now: "300" if now < away else "10",
        )
        first = next(each for each in hbtd.taken if each > back)
        later = [each for each in hbtd.taken if each >= first]
        for before, after in itertools.pairwise(later):
            self.assertLess(after - before, 3.4)

    def test_set_period(self):
        """With a period that was set, nobody is asked."""
        hbtd = simulate(NODE, BOOT, 1000, period=7.0)
        self.assertEqual(hbtd.asked, [])
        self.assertEqual({round(each, 3) for each in self.silences(hbtd)}, {7.0})
