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


class SilentListTests(ModulesTestCase):
    """The list of what is silent."""

    async def show(self, names: list[str], *states: str, said: Any = None, **more: Any) -> Any:
        """Return the rows, after the states one after the other, as name, count and words."""
        return await self.run_script(
            """
            const [names, steps, said, { held, time }] = given, list = document.createElement("ul");
            const at = (seconds) => new Date(Date.UTC(2026, 2, 4, 5, 6, seconds)).toISOString();
            const told = said && new Told();
            if (said) {
              told.summary = { At: at(said.at), HSM: { Ready: true }, Groups: said.groups.map(
                ([XName, second]) => ({ XName, Told: second && at(second) })) };
              told.components = new Map(said.components.map(([XName, since, State]) =>
                [XName, { XName, Since: at(since), HSM: { State, At: at(since + 1) } }]));
            }
            const rows = [];
            steps.forEach((letters, k) => {
              const machine = new Machine().take({ Names: names.join("\\n"), States: letters,
                At: at(0), Number: 0 });
              names.forEach((name, i) => letters[i] === "h" || machine.changes.push(
                { name, at: Date.parse(at(i + 10)), era: 1, number: i + 1 }));
              const states = time ? machine.statesAt(time) : machine.states;
              panels.showSilent(list, { machine, layout: layout.lay(names, 1.6), states,
                time: time ?? null, told, held: held && k > 0 }, () => {});
              rows.push([...list.children].map((each) => ["b", ".count", "small"].map(
                (part) => each.querySelector(part)?.textContent ?? each.textContent)));
            });
            return rows;
            """,
            names,
            states,
            said,
            more,
        )

    async def test_told(self) -> None:
        """Each row says whether HSM was told, and of all only if of the last one, too."""
        names = [f"x0c0s0b0n{n}" for n in range(4)] + [f"x0c1s{n}b0n0" for n in range(8)]
        states = "dddd" + "dhdhhhhw"
        told = [("x0c1s0b0n0", 14, "told"), ("x0c1s2b0n0", 16, "told")]
        for group, components, words in (
            (("x0c0s0", 13), told, ("HSM told", "HSM told", "HSM not told yet")),
            (("x0c0s0", 12), told[:1], ("HSM not told of all yet",) * 2 + ("HSM not told yet",)),
            (
                ("x0c0s0", None),
                [(told[0][0], 13, "told"), told[1], ("x0c1s7b0n0", 21, "set aside")],
                ("HSM not told of all yet", "HSM not told of all yet", "HSM rejects it"),
            ),
            (
                ("x9", 1),
                [told[0], (told[1][0], 16, "unknown"), ("x0c1s7b0n0", 21, "told")],
                ("not known whether HSM was told",) * 2 + ("HSM told",),
            ),
            (
                ("x0c0s0", 13),
                [told[0], ("x0c1s2b0n0", 16, "contested"), ("x0c1s7b0n0", 21, "contested")],
                ("HSM told", "1 of them contested in HSM's table", "contested: HSM's table says"),
            ),
        ):
            said = {"at": 40, "groups": [group], "components": components}
            (rows,) = await self.show(names, states, said=said)
            self.assertEqual(rows[0][0], "x0c0s0")
            for row, word in zip(rows, words, strict=True):
                self.assertIn(word, row[2])
        (rows,) = await self.show(names, states)
        self.assertNotIn("HSM", str(rows))

    async def test_long(self) -> None:
        """Of a long nodeset the first names are shown, and how many more there are."""
        names = [f"x{c}c{k}s{(c * k) % 8}b0n{k % 4}" for c in range(1000, 1040) for k in range(8)]
        names = sorted(names, key=natural_key)
        states = "".join("d" if k % 2 else "h" for k in range(len(names)))
        (rows,) = await self.show(names, states)
        shown, _, more = rows[0][0].partition(" … and ")
        self.assertLess(len(shown), 100)
        self.assertEqual(len(list(expand(shown, 1000))) + int(more.split()[0]), 160)

    async def test_held(self) -> None:
        """Rows keep their places while somebody points at them."""
        names = [f"x0c{c}s{s}b0n{n}" for c in range(2) for s in range(8) for n in range(4)]
        before = "h" * 36 + "dddd" + "h" * 8 + "dddd" + "h" * 12
        after = "d" * 4 + "h" * 28 + "d" * 32
        for held, wanted in (
            (False, ["x0c1", "x0c0s0"]),
            (True, ["x0c1s1", "x0c1s4", "x0c1", "x0c0s0"]),
        ):
            first, second = await self.show(names, before, after, held=held)
            self.assertEqual([row[0] for row in first], ["x0c1s1", "x0c1s4"])
            self.assertEqual([row[0] for row in second], wanted)


class ChangesTests(ModulesTestCase):
    """What has changed, as lines."""

    async def lines(self, *happened: tuple[float, str, str, list[str]], most: int = 60) -> Any:
        """Return lines of what happened at a time, in seconds, to components: `[name, count]`."""
        return await self.run_script(
            """
            let number = 0;
            const all = given[0].flatMap(([at, from, what, names]) => names.map((name) => ({
              at: at * 1000, name, what, number: ++number, era: 0,
              from: ["healthy", "warned", "dead", "unknown"].indexOf(from),
              to: { died: 2, warned: 1 }[what] ?? 0 })));
            const found = lines.newest(lines.linesOf(all), given[1]);
            return found.lines.map(({ at, name, count, word }) => [at / 1000, name, count, word]);
            """,
            happened,
            most,
        )

    async def test_never_one(self) -> None:
        """Chassis have one line only if three or more of them began together, all of them."""
        chassis = [(f"x1002c{k}s0b0n{{}}", k) for k in (7, 2, 0)]
        seven, two, none = ([name.format(n) for n in range(k + 1)] for name, k in chassis)
        found = await self.lines(
            (54.3, "warned", "died", seven), (56.3, "warned", "died", two),
            (59.2, "warned", "died", none),
        )  # fmt: skip
        self.assertEqual(
            found,
            [
                [59.2, "x1002c0s0b0n0", 1, "died"],
                [56.3, "x1002c2s0", 3, "died"],
                [54.3, "x1002c7s0", 8, "died"],
            ],
        )
        found = await self.lines(
            (54.3, "warned", "died", seven), (56.3, "warned", "died", two),
            (57.2, "warned", "died", none),
        )  # fmt: skip
        self.assertEqual(found, [[54.3, "x1002", 12, "died"]])

    async def test_again(self) -> None:
        """What happens to one component again is another line, though soon after."""
        name = "x1c7s4b0n0"
        found = await self.lines(*((at, "healthy", "warned", [name]) for at in (1.0, 2.0, 3.0)))
        self.assertEqual(found, [[at, name, 1, "warned"] for at in (3.0, 2.0, 1.0)])

    async def test_every_change_once(self) -> None:
        """Each change is in one line, all of which are of one kind, whatever happens."""
        chance = random.Random(2)
        nodes = node_names(4000)
        for _ in range(20):
            at, happened, counted = 100.0, [], {"died": 0, "warned": 0}
            chance.shuffle(nodes)
            for number in range(40):
                at += chance.expovariate(1)
                what = chance.choice(("died", "warned"))
                some = nodes[number * 100 :][: chance.choice((1, 2, 30))]
                counted[what] += len(some)
                happened.append((at, "healthy", what, some))
            found = await self.lines(*happened, most=10_000)
            for what, sum_of in counted.items():
                self.assertEqual(sum(line[2] for line in found if line[3] == what), sum_of)
            for _, name, count, _ in found:
                self.assertEqual(count == 1, name in nodes, (name, count))

    async def test_smallest(self) -> None:
        """A line names the smallest part that has all of it; one component is named itself."""
        for names, part in (
            (["x1c7s4b0n0", "x1c7s4b1n3"], "x1c7s4"),
            (["x1c7s4b0n0", "x1c7s5b1n3"], "x1c7"),
            (["x1c7s4b0n0", "x1c7b0"], "x1c7"),
            (["x1c7s4b0n0"], "x1c7s4b0n0"),
        ):
            found = await self.lines((1.0, "warned", "died", names))
            self.assertEqual(found, [[1.0, part, len(names), "died"]])

    async def test_words(self) -> None:
        """Whether what is heard again was restarted is not known, and not said."""
        for before, what, word in (
            ("warned", "restarted", "heard again"), ("dead", "started", "returned"),
            ("unknown", "started", "started"), ("healthy", "warned", "warned"),
        ):  # fmt: skip
            found = await self.lines((1.0, before, what, ["x1c7s4b0n0"]))
            self.assertEqual(found[0][3], word)

    async def test_flood(self) -> None:
        """However much happens, lines are left; deaths are kept longest."""
        nodes = node_names(2000)
        flood = [
            (100 + 0.5 * k, *each, nodes)
            for k, each in enumerate((("healthy", "warned"), ("warned", "restarted")) * 10)
        ]
        found = await self.lines((1.0, "warned", "died", nodes[:1]), *flood, most=8)
        self.assertEqual(found[-1], [1.0, nodes[0], 1, "died"])
        self.assertEqual(len(found), 5)
        self.assertGreater(found[0][0], 106)


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
