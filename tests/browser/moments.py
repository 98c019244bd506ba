"""The page's modules that have to do with moments: times, and what is silent."""

import random
import time
from typing import Any

from twisted.internet.defer import Deferred, succeed

from hbtd.formats.nodesets import expand, natural_key
from hbtd.queries.blast_radius import find_silent_groups
from hbtd.queries.machine import Machine, Silence
from hbtd.simulator.fleet import node_names
from hbtd.tracker.tracker import Tracker
from tests.support.page_case import ModulesTestCase

OTHERS = ("x1000", "x1000m0", "x1000c0b0", "x1000c7r3b0", "x1002c7s0b0", "d0", "s0")


class SilenceTests(ModulesTestCase):
    """The parts of the machine that are silent."""

    async def find(self, names: list[str], states: str) -> Any:
        """Return what the page finds, as names with numbers of warned and dead ones, and of all."""
        return await self.run_script(
            """
            const states = Uint8Array.from(given[1], (letter) => "hwda".indexOf(letter));
            const found = silence.silentParts(layout.lay(given[0], 1.6), states);
            const alone = [1, 2].map((state) => silence.apart(states, state, found));
            const parts = found.map((each) => [each.name, each.warned, each.dead, each.total]);
            return [parts, found.map((each) => each.whole?.name ?? ""), alone];
            """,
            names,
            states,
        )

    async def test_as_hbtd(self) -> None:
        """They are those that hbtd's summary has, in the same order."""
        chance = random.Random(17)
        for number in range(24):
            # Slots have from one to eight nodes, chassis from one slot on.
            nodes = node_names(chance.choice((24, 100, 400)))
            some = chance.sample(nodes, len(nodes) // (number % 3 + 1))
            names = sorted([*some, *OTHERS], key=natural_key)
            states = _some_silent(names, chance)
            wanted = await _groups(names, states)
            parts, wholes, _ = await self.find(names, states)
            found = [tuple(part) for part, whole in zip(parts, wholes, strict=True) if not whole]
            self.assertEqual(found, wanted, states)

    async def test_dead_in_warned(self) -> None:
        """A dead slot in a chassis that is only warned about is named after it; nobody twice."""
        names = [f"x0c0s{slot}b0n{node}" for slot in range(8) for node in range(4)]
        names += [f"x0c1s{slot}b0n{node}" for slot in range(8) for node in range(4)]
        states = "w" * 12 + "dddd" + "w" * 15 + "h" + "dw" + "h" * 30
        parts, wholes, alone = await self.find(names, states)
        self.assertEqual(parts, [["x0c0", 27, 4, 32], ["x0c0s3", 0, 4, 4]])
        self.assertEqual(wholes, ["", "x0c0"])
        self.assertEqual(alone, [[33], [32]])

    async def test_absent(self) -> None:
        """What was not there yet is in no number."""
        names = [f"x0c0s{slot}b0n{node}" for slot in range(4) for node in range(4)]
        names += [f"x0c1s{slot}b0n{node}" for slot in range(4) for node in range(4)]
        parts, _, alone = await self.find(names, "dd" + "a" * 14 + "h" * 16)
        self.assertEqual((parts, alone), ([["x0c0s0", 0, 2, 2]], [[], []]))

    async def test_fold(self) -> None:
        """Names are folded to a nodeset that hbtd and the search understand."""
        names = sorted([*node_names(200)[::3], *node_names(64), *OTHERS], key=natural_key)
        for some in (names, names[::2], names[:1], []):
            text, found = await self.run_script(
                "const text = xnames.fold(given[0]);"
                "return [text, given[1].filter(xnames.matcher(text) ?? (() => false))]",
                some,
                [name for name in names if name not in ("x1000", "s0")],
            )
            self.assertEqual(set(expand(text, 10_000)) if text else set(), set(some))
            if "s0" not in some and "x1000" not in some:
                self.assertTrue(set(some) <= set(found))
        text = await self.run_script("return xnames.fold(given[0])", node_names(128))
        self.assertEqual(text, "x1000c[0-1]s[0-7]b[0-1]n[0-3]")


class KeptTests(ModulesTestCase):
    """From when on the log has everything."""

    async def test_kept(self) -> None:
        """It has what is neither too old nor too much for it; without a log only the present."""
        present = 10_000_000.0
        for history, count, since, wanted in (
            ("30d", "auto", 4_000_000, 4_000_000),
            ("1h", "auto", 4_000_000, 6_400_000),
            ("90m", "auto", 4_000_000, 4_600_000),
            ("1h", "auto", 9_000_000, 9_000_000),
            ("30d", "3", 4_000_000, 8_000_000),
            ("30d", "5", 4_000_000, 6_000_000),
            ("30d", "6", 4_000_000, 4_000_000),
            ("30d", "0", 4_000_000, present),
            ("0", "auto", 4_000_000, present),
        ):
            found = await self.run_script(
                """
                const { allFrom } = await import("/ui/machine.js"), entries = [];
                for (let k = 0; k < 5; k++)
                  entries.push({ At: new Date(10000000 - k * 1000000).toISOString() });
                const [History, History_count, since, present] = given;
                return allFrom(entries, since, { History, History_count }, present);
                """,
                history,
                count,
                since,
                present,
            )
            self.assertEqual(found, wanted, (history, count, since))


class TimeTests(ModulesTestCase):
    """Times that are typed, and the clock."""

    async def test_typed(self) -> None:
        """A time of day, with a date, or how long ago; what is none is not taken for one."""
        now = time.mktime((2026, 3, 4, 18, 45, 0, 0, 0, -1))
        for text, day in (
            ("18:43", "2026-03-04 18:43:00"),
            (" 18:43:10 ", "2026-03-04 18:43:10"),
            ("8:05", "2026-03-04 08:05:00"),
            ("18:45:30", "2026-03-04 18:45:30"),
            ("23:00", "2026-03-03 23:00:00"),
            ("2026-02-28 23:00", "2026-02-28 23:00:00"),
            ("2026-02-28T23:00:01", "2026-02-28 23:00:01"),
            ("-90s", "2026-03-04 18:43:30"),
            ("-2m", "2026-03-04 18:43:00"),
            ("2 min ago", "2026-03-04 18:43:00"),
            ("-1.5h", "2026-03-04 17:15:00"),
            ("-1d", "2026-03-03 18:45:00"),
            ("0000-01-01 10:00", "00-01-01 10:00:00"),
            ("now", "now"),
            ("", "now"),
            *((text, "") for text in ("soon", "24:00", "12:60", "2026-02-30 1:00", "-2", "1843")),
        ):
            found = await self.run_script(
                "const time = clock.readTime(given[0], given[1]);"
                "return time === null ? 'now' : time === undefined ? '' : clock.dateAndTime(time)",
                text,
                now * 1000,
            )
            self.assertEqual(found, day, text)

    async def test_never_ahead(self) -> None:
        """No time in an answer is later than the clock, however little the browser's is behind."""
        found = await self.run_script(
            """
            const late = [];
            for (const ahead of [700, -300, 900, -5000, 3600000, 3600900, 300]) {
              const at = Date.now() + ahead;
              clock.hear(new Date(at).toISOString());
              late.push(clock.now() - at);
            }
            return late;
            """
        )
        self.assertTrue(all(0 <= each < 2000 for each in found), found)


def _some_silent(names: list[str], chance: random.Random) -> str:
    """Return states of components, of which whole parts are mostly silent."""
    states = ["h"] * len(names)
    for _ in range(chance.randrange(1, 8)):
        part = chance.choice(names)[: chance.choice((5, 7, 9, 99))]
        letters = chance.choice(("d", "w", "wwwd", "dddh", "wd"))
        for number, name in enumerate(names):
            if name.startswith(part):
                states[number] = chance.choice(letters)
    return "".join(states)


async def _groups(names: list[str], states: str) -> list[tuple[str, int, int, int]]:
    """Return the silent groups that hbtd finds."""
    tracker = Tracker()
    for name in names:
        tracker.beat(name, 0.0, "t", "s")

    def turn() -> Deferred[None]:
        return succeed(None)

    layout = await Machine(tracker).layout(turn)
    flags = (bytes(state == letter for state in states) for letter in "wd")
    groups = await find_silent_groups(Silence(layout, *flags), turn)
    return [(each.xname, each.warned, each.dead, each.total) for each in groups]
