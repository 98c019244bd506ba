"""The page's modules: names, their order and sets, places, and what is remembered."""

import re
from typing import Any

from twisted.internet.threads import deferToThread

from hbtd.formats.nodesets import expand, natural_key, within
from hbtd.simulator.fleet import node_names
from tests.support.page_case import ModulesTestCase

NAMES = [
    *node_names(600)[::7],
    *(
        "x0",
        "x1000c7",
        "x1000c10",
        "x1000c7r3b0",
        "x1000c7s0b0",
        "x1000c1s10b0n0",
        "x1000c1s9b0n12",
    ),
    *("s0", "x3000c0s1b0n0", "x3000c0s40b0n0", "d0x1000", "x1000c1s2b0n3p0"),
]

COLOURS = (
    *("ground", "panel", "text", "soft", "label", "healthy", "warned", "dead"),
    *("on-warned", "on-dead", "select", "accent"),
)


class NamesTests(ModulesTestCase):
    """Names are understood as hbtd does."""

    async def test_order(self) -> None:
        """The natural order is that of hbtd."""
        found = await self.run_script("return given[0].sort(xnames.compare)", NAMES[::-1])
        self.assertEqual(found, sorted(NAMES, key=natural_key))

    async def test_sets(self) -> None:
        """A set of names finds the names that hbtd's nodesets have, and what is in them."""
        for text in (
            "x1000c0s[0-3,7]b0n[0-3]", "x1000c[1-2]", "x1000c7", "x1000c10", "x3000,x0", "s0",
            "x1000c1s[9-10]b0n0", "x1000c1s09b0n0", "x100", "x1000c1", "x1000c1s1", "x1000c7s0b0",
        ):  # fmt: skip
            found = await self.run_script(
                "const test = xnames.matcher(given[1]); return given[0].filter(test)", NAMES, text
            )
            parts = list(expand(text.replace("09", "9"), 10_000))
            wanted = [name for name in NAMES if any(within(name, part) for part in parts)]
            self.assertEqual(found, wanted, text)

    async def test_wildcard(self) -> None:
        """`*` stands for any characters."""
        found = await self.run_script(
            "return given[0].filter(xnames.matcher('x1000c*s1b*n0'))", NAMES
        )
        self.assertEqual(
            found, [name for name in NAMES if re.match(r"x1000c.*s1b.*n0(?!\d)", name)]
        )

    async def test_unknown(self) -> None:
        """What may be something else is left to hbtd."""
        for text in (
            "nid000001",
            "login-1",
            "x1000c[1-",
            "x1000!x1000c1",
            "@compute",
            "",
            " ",
            "x",
        ):
            self.assertIsNone(await self.run_script("return xnames.matcher(given[0])", text), text)

    async def test_visible(self) -> None:
        """What can't be seen, or changes directions, is escaped."""
        found = await self.run_script(
            "return xnames.visible(given[0])", "a\x1b[31mb\u202ec\u2028é字"
        )
        self.assertEqual(found, "a\\u{1b}[31mb\\u{202e}c\\u{2028}é字")

    async def test_heaps(self) -> None:
        """Marks that pile up over a letter are escaped from the third on, invisible letters all."""
        found = await self.run_script(
            "return xnames.visible(given[0])", "Z\u0300\u0301\u0302\u0303e\u0301 \u3164\u2800"
        )
        self.assertEqual(found, "Z\u0300\u0301\\u{302}\\u{303}e\u0301 \\u{3164}\\u{2800}")


class TicksTests(ModulesTestCase):
    """The times of day on the strip."""

    async def test_summer_time(self) -> None:
        """They are round local times also if summer time begins or ends in between."""
        zone = {"timezoneId": "Europe/Berlin"}
        await deferToThread(self.page.driver.execute_cdp_cmd, "Emulation.setTimezoneOverride", zone)
        for day in ("2026-03-29", "2026-10-25"):
            for hours, span in ((3, 24), (6, 24), (24, 168)):
                found = await self.run_script(
                    """
                    const middle = Date.parse(given[0]), half = (given[2] / 2) * 3600000;
                    const found = clock.ticks(middle - half, middle + half, given[1] * 3600000);
                    return found.map(clock.dateAndTime);
                    """,
                    f"{day}T01:00:00Z",
                    hours,
                    span,
                )
                self.assertGreaterEqual(len(found), span // hours - 1, (day, hours))
                for each in found:
                    self.assertEqual(int(each[11:13]) % hours, 0, each)
                    self.assertEqual(each[13:], ":00:00")
                self.assertEqual(len(set(found)), len(found))


class HeaderTests(ModulesTestCase):
    """What the top of the page says."""

    async def test_state(self) -> None:
        """It says whether hbtd is heard, and no longer that there is no access once there is."""
        found = await self.run_script(
            """
            const { Header } = await import("/ui/header.js"), header = new Header(), said = [];
            const note = () => said.push(header.text);
            note();
            header.live();
            note();
            header.refused = "401";
            header.lose("refused", clock.now());
            note();
            header.refused = "";
            note();
            return said;
            """
        )
        self.assertEqual(found, ["connecting", "live", "no access", "connecting again"])


class ColourTests(ModulesTestCase):
    """What is drawn can be told from what it is drawn on."""

    async def test_contrast(self) -> None:
        """WCAG's least ratios: 4.5 for text, 3 for states, glyphs and what has the focus."""
        for theme in ("light", "dark"):
            colours = await self.run_script(
                """
                document.documentElement.dataset.theme = given[0];
                const style = getComputedStyle(document.documentElement);
                const colour = (name) => [name, style.getPropertyValue(`--${name}`).trim()];
                return Object.fromEntries(given[1].map(colour));
                """,
                theme,
                [
                    "ground",
                    "panel",
                    "text",
                    "soft",
                    "label",
                    "healthy",
                    "spared",
                    "warned",
                    "dead",
                    "on-warned",
                    "on-dead",
                    "select",
                    "accent",
                ],
            )
            pairs = [(a, b, 4.5) for a in ("text", "soft", "accent") for b in ("panel", "ground")]
            pairs += [
                (a, b, 3.0)
                for a in ("healthy", "spared", "warned", "dead")
                for b in ("panel", "ground")
            ]
            pairs += [("label", "ground", 4.5), ("select", "ground", 3.0), ("dead", "panel", 4.5)]
            pairs += [
                ("on-warned", "warned", 4.5),
                ("on-dead", "dead", 4.5),
                ("on-warned", "spared", 4.5),
            ]
            for one, other, least in pairs:
                ratio = _contrast(colours[one], colours[other])
                self.assertGreaterEqual(ratio, least, (theme, one, other))


class LayoutTests(ModulesTestCase):
    """Where everything is drawn."""

    async def test_places(self) -> None:
        """No two components overlap, each is within its parts, and parts of a level are apart."""
        for names in (node_names(1500), sorted(NAMES, key=natural_key), ["x0c0s0b0n0"]):
            found = await self.run_script(
                """
                const { x, y, parts, width } = layout.lay(given[0], 1.6);
                return { x: [...x], y: [...y], parts, width };
                """,
                names,
            )
            places = {
                (round(x, 3), round(y, 3)) for x, y in zip(found["x"], found["y"], strict=True)
            }
            self.assertEqual(len(places), len(names))
            for part in found["parts"]:
                for i in range(part["start"], part["end"]):
                    if part["name"]:
                        self.assertTrue(within(names[i], part["name"]), (names[i], part))
                    self.assertGreaterEqual(found["x"][i], part["x"] - 0.001)
                    self.assertGreaterEqual(found["y"][i], part["y"] - 0.001)
                    self.assertLessEqual(found["x"][i] + 1, part["x"] + part["width"] + 0.001)
                    self.assertLessEqual(found["y"][i] + 1, part["y"] + part["height"] + 0.001)
                self.assertLessEqual(part["x"] + part["width"], found["width"] + 0.001)
            for level in range(3):
                boxes = [part for part in found["parts"] if part["level"] == level][:200]
                for k, one in enumerate(boxes):
                    self.assertFalse(any(_overlap(one, other) for other in boxes[k + 1 :]), one)


class MarksTests(ModulesTestCase):
    """What is drawn where squares have few pixels."""

    async def test_one_of_many(self) -> None:
        """One dead node among 100,000 is seen where everything is, and can be pointed at."""
        found = await self.run_script(
            """
            const { machine, map } = window.hbtd, At = new Date().toISOString();
            const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
            const drawn = async () => {
              for (let k = 0; k < 3; k++) await frame();
              return map.context.getImageData(0, 0, map.canvas.width, map.canvas.height).data;
            };
            const parse = (text) => text.match(/\\w\\w/g).map((each) => parseInt(each, 16));
            const count = (data, [r, g, b]) => {
              let found = 0;
              for (let k = 0; k < data.length; k += 4)
                found += data[k] === r && data[k + 1] === g && data[k + 2] === b;
              return found;
            };
            const show = (States) => {
              machine.take({ At, Number: 0, Names: given[0].join("\\n"), States });
              map.take(layout.lay(machine.names, map.aspect), machine.states);
              map.fit();
            };
            const many = given[0].length, i = Math.floor(many / 2) + 5;
            show("h".repeat(i) + "d" + "h".repeat(many - i - 1));
            const dead = parse(map.colours.dead), marks = [count(await drawn(), dead)];
            const { scale, x, y } = map.view;
            const place = [map.layout.x[i] * scale + x, map.layout.y[i] * scale + y];
            const pointed = [0, 1].map((k) => map.at(place[0] + k, place[1] + k));
            // One after the other they become what they are when all is drawn at once.
            const same = [];
            for (const changes of [[[i, 0]], [[i, 1], [i + 1, 2]], [[i + 1, 0], [i + 2, 2]]]) {
              for (const [k, state] of changes) {
                machine.states[k] = state;
                map.touch(k);
              }
              const apart = await drawn();
              map.redraw();
              const whole = await drawn();
              marks.push(count(whole, dead));
              same.push(apart.every((value, k) => value === whole[k]));
            }
            return { scale, marks, pointed: pointed.map((each) => each - i), same };
            """,
            node_names(100_000),
        )
        self.assertLess(found["scale"], 3)
        first, none, second, third = found["marks"]
        for marked in (first, second, third):
            self.assertGreaterEqual(marked, 16)
            self.assertLessEqual(marked, 36)
        self.assertEqual(none, 0)
        self.assertEqual(found["pointed"], [0, 0])
        self.assertEqual(found["same"], [True, True, True])


class MachineTests(ModulesTestCase):
    """What the page knows."""

    async def test_changes(self) -> None:
        """Events change states and counts, newcomers find their places, repeats change nothing."""
        found = await self.run_script(
            """
            const machine = new Machine();
            machine.take({ Number: 5, Names: "x0c0s0b0n0\\nx0c0s0b0n2", States: "hd" });
            const event = (Number, XName, From, To) => {
                const At = `2026-03-04T05:06:0${Number}Z`;
                machine.apply({ Number, XName, From, To, At });
            };
            event(6, "x0c0s0b0n0", "healthy", "warned");
            event(7, "x0c0s0b0n1", "unknown", "healthy");
            event(7, "x0c0s0b0n1", "unknown", "healthy");
            event(8, "x0c0s0b0n2", "dead", "healthy");
            machine.admit();
            const { names, states, counts, number, changes } = machine;
            const before = machine.statesAt(Date.parse("2026-03-04T05:06:06.5Z"));
            return [names, [...states], counts, number, changes.length, [...before]];
            """
        )
        names = ["x0c0s0b0n0", "x0c0s0b0n1", "x0c0s0b0n2"]
        # Before the last two events one was not there, and one was dead.
        self.assertEqual(found, [names, [1, 0, 0], [2, 1, 0, 0], 8, 3, [1, 3, 2]])

    async def test_crossed(self) -> None:
        """Events that overtake a picture, or are in it already, leave the states at the newest."""
        found = await self.run_script(
            """
            const machine = new Machine(), At = "2026-03-04T05:06:00Z";
            const event = (Number, XName, From, To) =>
              machine.apply({ Number, XName, From, To, At });
            machine.take({ At, Number: 5, Names: "x0\\nx1\\nx2", States: "hhh" });
            event(6, "x0", "healthy", "warned");
            event(7, "x0", "warned", "dead");
            event(8, "x3", "unknown", "healthy");
            // Made before 7 and 8, after x2 was forgotten.
            machine.take({ At, Number: 6, Names: "x0\\nx1", States: "wh" }, false);
            machine.admit();
            const first = [machine.names, [...machine.states], machine.counts];
            // Made after 10, whose event is on its way, as is that of 9.
            machine.take({ At, Number: 10, Names: "x0\\nx1\\nx3", States: "dhh" }, false);
            event(9, "x1", "healthy", "warned");
            const middle = [...machine.states];
            event(10, "x1", "warned", "healthy");
            event(10, "x1", "warned", "healthy");
            return [first, middle, [...machine.states], machine.changes.length];
            """
        )
        states = [["x0", "x1", "x3"], [2, 0, 0], [2, 0, 1, 0]]
        self.assertEqual(found, [states, [2, 0, 0], [2, 0, 0], 5])

    async def test_in_maintenance(self) -> None:
        """Who is silent in maintenance keeps its mark among newcomers, until it changes."""
        found = await self.run_script(
            """
            const machine = new Machine(), At = "2026-03-04T05:06:00Z";
            const event = (Number, XName, From, To) =>
              machine.apply({ Number, XName, From, To, At });
            machine.take({ At, Number: 5, Names: "x1\\nx3", States: "hh", Maintenance: "11" });
            event(6, "x0", "unknown", "healthy");
            event(7, "x2", "unknown", "healthy");
            machine.admit();
            const first = [...machine.spared];
            event(8, "x3", "healthy", "healthy");
            const second = [...machine.spared];
            machine.take({ At, Number: 9, Names: "x1\\nx3", States: "hh" });
            return [first, second, [...machine.spared]];
            """
        )
        self.assertEqual(found, [[0, 1, 0, 1], [0, 1, 0, 0], [0, 0]])

    async def test_other_maintenance(self) -> None:
        """A new picture is due when others are silent in maintenance, once in ten seconds."""
        found = await self.run_script(
            """
            const { Maintenance } = await import("/ui/maintenance.js");
            const maintenance = new Maintenance();
            return [
              [undefined, 0], [{ Silent: 0 }, 1], [{ Silent: 2 }, 2], [{ Silent: 2 }, 3],
              [{ Silent: 3 }, 10001], [{ Silent: 3 }, 10002], [undefined, 30000],
            ].map(([said, time]) => maintenance.isDue(said, time));
            """
        )
        self.assertEqual(found, [False, False, True, False, False, True, True])

    async def test_forgotten(self) -> None:
        """What was forgotten and has come back was before what the log says."""
        found = await self.run_script(
            """
            const machine = new Machine();
            const event = (Number, XName, From, To) =>
              machine.apply({ Number, XName, From, To, At: `2026-03-04T05:06:0${Number}Z` });
            machine.take({ At: "2026-03-04T05:06:00Z", Number: 0, Names: "x0", States: "h" });
            event(1, "x0", "healthy", "warned");
            event(2, "x1", "unknown", "healthy");
            event(3, "x0", "warned", "dead");
            // Forgotten.
            event(5, "x0", "unknown", "healthy");
            machine.admit();
            const at = (time) => [...machine.statesAt(Date.parse(`2026-03-04T05:06:0${time}Z`))];
            return [1.5, 2.5, 3.5, 5.5].map(at);
            """
        )
        self.assertEqual(found, [[1, 3], [1, 0], [2, 0], [0, 0]])

    async def test_recall(self) -> None:
        """The past is read once, whatever events come meanwhile, and only from the present log."""
        found = await self.run_script(
            """
            const machine = new Machine();
            const entry = (Number, XName, From, To) => {
              const At = `2026-03-04T05:06:${String(Number).padStart(2, "0")}Z`;
              return { Number, XName, From, To, At };
            };
            machine.take({ At: "2026-03-04T05:06:30Z", Number: 30, Names: "x0", States: "d" });
            machine.apply(entry(31, "x0", "dead", "healthy"));
            // Another log has begun.
            machine.take({ At: "2026-03-04T05:06:02Z", Number: 2, Names: "x0\\nx1", States: "hh" });
            machine.apply(entry(3, "x1", "healthy", "warned"));
            machine.recall([entry(4, "x1", "warned", "dead"), entry(3, "x1", "healthy", "warned"),
              entry(2, "x1", "unknown", "healthy"), entry(1, "x0", "unknown", "healthy")], 0);
            machine.apply(entry(4, "x1", "warned", "dead"));
            machine.apply(entry(5, "x1", "dead", "healthy"));
            machine.recall([entry(3, "x1", "healthy", "warned")], 0);
            const before = machine.statesAt(Date.parse("2026-03-04T05:06:03.5Z"));
            return [machine.changes.map((each) => each.number), [...machine.states], [...before]];
            """
        )
        self.assertEqual(found, [[3, 4, 5], [0, 0], [0, 1]])


def _contrast(one: str, other: str) -> float:
    """Return the ratio of contrast of two colours, as WCAG defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    apart = 0.001
    return bool(
        one["x"] + apart < other["x"] + other["width"]
        and other["x"] + apart < one["x"] + one["width"]
        and one["y"] + apart < other["y"] + other["height"]
        and other["y"] + apart < one["y"] + one["height"]
    )
