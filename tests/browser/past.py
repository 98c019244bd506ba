"""The page while somebody looks back: all that is shown is of the moment that is shown."""

import re
import time
from functools import partial
from typing import Any

from selenium.webdriver.common.keys import Keys

from tests.support.browser import NONE, Browser
from tests.support.page_case import NODES, BeatsTestCase

CHASSIS, ONE = "x1000c1", "x1000c0s3b0n1"
CROSS = "\N{MULTIPLICATION SIGN}"
SPAN = "return window.hbtd.strip.span / 1000"


class MomentTests(BeatsTestCase):
    """What belongs to the moment."""

    async def test_everything(self) -> None:
        """Header, counters, title, what is silent, changes and why are of then, and say so."""
        await self.serve()
        await self.fleet()

        def story(page: Browser) -> None:
            page.until_live()
            self.control("kill", CHASSIS)
            page.until(lambda: page.counts() == (NODES - 64, 0, 64), "a chassis is dead")
            page.until(lambda: f"{CHASSIS}\n64 dead of 64" in page.text("#silent"), "it is named")
            dead = page.run("return window.hbtd.machine.changes.at(-1).at") + 500
            page.until(lambda: time.time() * 1000 > dead, "what comes next is later")
            self.control("revive", CHASSIS)
            page.until(lambda: page.counts() == (NODES, 0, 0), "it is back")
            page.until(lambda: "no node" in page.text("#silent"), "no node is silent")
            self.assertEqual(page.driver.title, "hbtd")
            page.click_on(f"{CHASSIS}s0b0n0")
            page.until(lambda: "Healthy" in page.text("#why"), "why it is healthy")
            self.assertIn("limits", page.text("#why"))

            page.run("window.hbtd.strip.go(given[0])", dead)
            then = time.strftime("%X", time.localtime(dead / 1000))
            page.until(lambda: page.counts() == (NODES - 64, 0, 64), "what was")
            self.assertRegex(page.text("#status"), rf"^{then}, \d+ s ago$")
            self.assertRegex(page.text("#clock"), r"^now \d\d:\d\d:\d\d$")
            self.assertEqual(page.driver.title, f"{then}: 64 dead, 0 warned {NONE} hbtd")
            page.until(lambda: "64 dead of 64" in page.text("#silent"), "the chassis was silent")
            self.assertIn(f"SILENT AT {then}", page.text("#silent h2"))
            self.assertRegex(page.text("#silent li small"), r"^since \d\d:\d\d:\d\d")
            self.assertIn(f"CHANGES UNTIL {then}", page.text("#changes h2"))
            self.assertNotIn("started in", page.text("#changes").split("died in")[0])
            self.assertIn(CROSS, page.text("#why h2"))
            self.assertIn(f"as it was at {then}", page.text("#why"))
            self.assertRegex(page.text("#why"), r"dead\nsince \d\d:\d\d:\d\d\nwhy\nsilent for")
            for live in ("limits", "last heard", "Healthy", "heard again"):
                self.assertNotIn(live, page.text("#why"))
            # What happens meanwhile does not change it.
            self.control("kill", ONE)
            page.until(lambda: page.run("return window.hbtd.machine.counts[2]") == 1, "a death")
            before = _summaries(page)
            page.until(lambda: _summaries(page) >= before + 2, "hbtd has been asked since")
            self.assertNotIn(ONE, page.text("aside"))
            self.assertIn("dead\nsince", page.text("#why"))
            self.assertEqual(page.counts(), (NODES - 64, 0, 64))

            page.press(Keys.ESCAPE)
            page.until_live()
            page.until(lambda: ONE in page.text("#silent"), "what is")
            self.assertIn("Healthy", page.text("#why"))
            self.assertRegex(page.text("#clock"), r"^\d\d:\d\d:\d\d$")
            self.assertEqual(page.complaints(), [])

        await self.look(story)

    async def test_text(self) -> None:
        """In the text Esc returns to now, as the banner says; what was said aloud does not stay."""
        await self.serve()

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE)
            page.until(lambda: page.counts() == (0, 0, 1), "it is dead")
            page.press("l")
            page.until(lambda: "1 dead" in page.text("#outline"), "the text")
            born = page.run("return window.hbtd.machine.changes[0].at") + 100
            page.run("window.hbtd.strip.go(given[0])", born)
            page.until(lambda: "The machine: 1 healthy of 1" in page.text("#outline"), "of then")
            page.press(Keys.ESCAPE)
            page.until_live()
            page.until(lambda: "1 dead" in page.text("#outline"), "the text of now")
            self.assertEqual(page.announced(), "Back to now.")
            page.press(Keys.ESCAPE)
            self.assertEqual(page.text("#outline"), "")
            page.until(lambda: page.announced() == "", "nothing stale is left to be read")

        await self.look(story)

    async def test_before_all(self) -> None:
        """Before the first record there are no counts: nothing known is not nothing wrong."""
        await self.serve("--warntime=300", "--errtime=600")

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE)
            page.until(lambda: page.counts() == (1, 0, 0), "it is there")
            page.until(partial(_has_recalled, page), "the past")
            born = page.run("return window.hbtd.machine.changes[0].at")
            page.run("window.hbtd.strip.go(given[0])", born - 60_000)
            text = f"Nothing is recorded before {time.strftime('%X', time.localtime(born / 1000))}."
            page.until(lambda: text in page.text("#silent"), "that nothing is known")
            self.assertEqual(page.text("#empty"), text)
            self.assertEqual(page.counts(), (-1, -1, -1))
            page.press(Keys.ESCAPE)
            page.until(lambda: page.counts() == (1, 0, 0), "what is")
            self.assertEqual(page.text("#empty"), "")

        await self.look(story)

    async def test_clock(self) -> None:
        """The clock shows each second as it begins: nothing that has happened is ahead of it."""
        await self.serve()

        def story(page: Browser) -> None:
            page.until_live()
            late = page.run(
                """
                const clock = document.getElementById("clock"), late = [];
                const seen = new MutationObserver(() => late.push(Date.now() % 1000));
                seen.observe(clock, { childList: true });
                await new Promise((resolve) => setTimeout(resolve, 4500));
                return late;
                """
            )
            self.assertGreaterEqual(len(late), 3)
            self.assertLess(min(late), 300, late)

        # Else the page may have been opened as a second began.
        for _ in range(2):
            await self.look(story)


class TimeTests(BeatsTestCase):
    """The way to a moment."""

    async def test_go_to_a_time(self) -> None:
        """`g`, a time and Enter lead there, and the strip goes back as far as that takes."""
        await self.serve()

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE)
            page.until(lambda: page.counts() == (0, 0, 1), "it is dead")
            page.until(partial(_has_recalled, page), "the past")
            died = page.run("return window.hbtd.machine.changes.at(-1).at")
            page.press("g", "-2s", Keys.ENTER)
            page.until(partial(_looks_at, page, time.time() - 2), "two seconds ago")
            for ago, span in (("-2m", 300), ("10m", 900), ("-90 min", 21600)):
                page.run("document.getElementById('span').value = 300")
                page.run("document.getElementById('span').dispatchEvent(new Event('change'))")
                _go(page, ago)
                page.until(lambda: page.run(SPAN) == span, ago)  # noqa: B023  # at once
            page.until(partial(_looks_at, page, time.time() - 5400), "-90 min")
            self.assertEqual(page.run("return document.getElementById('span').value"), "21600")
            _go(page, time.strftime("%X", time.localtime(died / 1000 - 1)))
            page.until(
                lambda: page.text("#status").startswith(
                    time.strftime("%X", time.localtime(died / 1000 - 1))
                ),
                "a time of day",
            )
            _go(page, "now")
            page.until_live()
            _go(page, "soon")
            self.assertIn("-2m", page.text("#misread"))
            _go(page, "2099-01-01 10:00")
            self.assertEqual(page.text("#misread"), "that is yet to come")
            _go(page, "-30d")
            page.until(lambda: "not known before" in page.text("#misread"), "that it can't")

        await self.look(story)

    async def test_trimmed(self) -> None:
        """Nothing is said of a time from before what hbtd's log keeps."""
        await self.serve("--history=10m")
        began = time.time()

        def story(page: Browser) -> None:
            page.until_live()
            _go(page, "-5m")
            page.until(partial(_looks_at, page, time.time() - 300), "five minutes ago")
            _go(page, "-1h")
            page.until(lambda: "not known before" in page.text("#misread"), "that it can't")
            # As far back as the log went when the page was opened.
            shown = page.run("return window.hbtd.strip.time") / 1000
            self.assertGreater(shown, began - 600 - 1)
            self.assertLess(shown, time.time() - 600 + 1)

        await self.look(story)

    async def test_box(self) -> None:
        """The box has the moment that is shown, from which keys go on; the span comes back."""
        await self.serve("--warntime=300", "--errtime=600")
        value = "return document.getElementById('when').value"

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE)
            page.until(partial(_has_recalled, page), "the past")
            page.run("document.getElementById('span').value = 300")
            page.run("document.getElementById('span').dispatchEvent(new Event('change'))")
            page.press("g", "-30m", Keys.ENTER)
            page.until(lambda: page.run(SPAN) == 3600, "as far as that")
            page.until(partial(_looks_at, page, time.time() - 1800), "half an hour ago")
            before = page.run("return window.hbtd.strip.time")
            page.press(Keys.ARROW_LEFT)
            shown = page.run("return window.hbtd.strip.time")
            self.assertAlmostEqual((before - shown) / 1000, 12, delta=1)
            self.assertEqual(
                page.run(value), time.strftime("%X", time.localtime(int(shown / 1000)))
            )
            page.press(Keys.ESCAPE)
            page.until_live()
            self.assertEqual((page.run(value), page.run(SPAN)), ("", 300))
            page.press("g", "-90", Keys.ENTER)
            self.assertIn("not a time: -90", page.text("#misread"))
            page.press(Keys.ESCAPE)
            self.assertEqual((page.run(value), page.text("#misread")), ("", ""))

        await self.look(story)

    async def test_span(self) -> None:
        """The span is kept, and keys work while its menu has the focus, which it keeps."""
        await self.serve("--warntime=300", "--errtime=600")

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE)
            page.until(lambda: page.counts() == (1, 0, 0), "it is there")
            page.run("document.getElementById('span').focus()")
            page.press(Keys.HOME)
            page.until(lambda: page.run(SPAN) == 300, "chosen by a key")
            page.press(Keys.ARROW_DOWN)
            page.until(lambda: page.run(SPAN) == 900, "and another one")
            page.press("l")
            page.until(lambda: "1 healthy" in page.text("#outline"), "the text")
            self.assertEqual(page.run("return document.activeElement.id"), "span")
            page.press("l")
            self.assertEqual(page.text("#outline"), "")
            page.open(self.url + "/")
            page.until_live()
            self.assertEqual(page.run(SPAN), 900)
            self.assertEqual(page.run("return document.getElementById('span').value"), "900")

        await self.look(story)

    async def test_steps(self) -> None:
        """Arrows step by a part of the span, a second at least; with Shift by ten such steps."""
        await self.serve()

        def story(page: Browser) -> None:
            page.until_live()
            page.until(partial(_has_recalled, page), "the past")
            for span, step in ((300, 1), (3600, 12)):
                page.run(
                    "const { strip } = window.hbtd; strip.span = given[0] * 1000;"
                    "strip.go(Date.now() - 120000); document.getElementById('strip').focus()",
                    span,
                )
                before = page.run("return window.hbtd.strip.time")
                for key, moved in (
                    (Keys.ARROW_LEFT, -step),
                    (Keys.ARROW_RIGHT, 0),
                    (Keys.SHIFT + Keys.ARROW_LEFT + Keys.NULL, -10 * step),
                    (Keys.PAGE_UP, 0),
                ):
                    page.press(key)
                    after = page.run("return window.hbtd.strip.time")
                    self.assertAlmostEqual((after - before) / 1000, moved, delta=0.01)
            before = page.run("return window.hbtd.strip.time")
            page.run(
                "const strip = document.getElementById('strip'), key = 'ArrowLeft';"
                "strip.dispatchEvent(new KeyboardEvent('keydown', { key, altKey: true }))"
            )
            self.assertEqual(page.run("return window.hbtd.strip.time"), before, "the browser's key")
            page.press(Keys.END)
            page.until_live()

        await self.look(story)


class SilentTests(BeatsTestCase):
    """What is silent, of which state, and where."""

    async def test_worst(self) -> None:
        """What is only warned about has no cross; the dead slot in it is named as well."""
        await self.serve("--warntime=2", "--errtime=600")
        names = [f"{CHASSIS}s{slot}b0n{node}" for slot in range(8) for node in range(4)]

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE, *names)
            page.until(lambda: page.counts() == (0, 33, 0), "all are warned about")
            self.beat(ONE)
            page.until(lambda: f"{CHASSIS}\n32 warned of 32" in page.text("#silent"), "the chassis")
            self.assertNotIn(CROSS, page.text("#silent"))
            page.run(
                """
                const { machine } = window.hbtd, At = new Date().toISOString();
                given[0].forEach((XName, k) => machine.apply(
                  { Number: machine.logged + 1, XName, From: "warned", To: "dead", At }));
                """,
                names[12:16],
            )
            both = f"{CROSS} !\n{CHASSIS}\n28 warned, 4 dead of 32"
            page.until(lambda: _line(page, both), "both")
            page.until(lambda: _line(page, f"{CROSS}\n{CHASSIS}s3\n4 dead of 4"), "the slot")

        await self.look(story)

    async def test_go_there(self) -> None:
        """A click on what is silent, or Enter, shows it, and no smaller than before."""
        await self.serve()
        await self.fleet()

        def story(page: Browser) -> None:
            page.until_live()
            scale = page.run("return window.hbtd.map.view.scale")
            self.control("kill", f"{CHASSIS}s2,{ONE}")
            page.until(lambda: page.counts()[2] == 9, "a slot and one more are dead")
            for name, larger in ((f"{CHASSIS}s2", 2), (ONE, 2)):
                page.until(lambda: name in page.text("#silent"), name)  # noqa: B023  # at once
                page.press("f")
                page.run(
                    "const lines = [...document.querySelectorAll('#silent button')];"
                    "lines.find((each) => each.textContent.includes(given[0])).focus()",
                    name,
                )
                page.press(Keys.ENTER)
                self.assertGreater(page.run("return window.hbtd.map.view.scale"), larger * scale)
                inside = name if name == ONE else f"{name}b0n1"
                place = page.run("return window.placeOf(given[0])", inside)
                self.assertLess(abs(place[0] - 530), 400)
            page.press("f")
            self.assertEqual(page.run("return window.hbtd.map.view.scale"), scale)
            for part in ("x1000", "x1000c0"):
                page.write("#query", part)
                self.assertGreaterEqual(page.run("return window.hbtd.map.view.scale"), scale)

        await self.look(story)

    async def test_words(self) -> None:
        """What is heard again is not said to have been restarted, which hbtd can't know."""
        await self.serve()

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE)
            page.until(lambda: f"{ONE} warned" in page.text("#changes"), "warned")
            self.beat(ONE)
            page.until(lambda: f"{ONE} heard again" in page.text("#changes"), "heard again")
            page.until(lambda: f"{ONE} died" in page.text("#changes"), "died")
            self.beat(ONE)
            page.until(lambda: page.counts() == (1, 0, 0), "returned")
            page.until(
                lambda: (
                    re.findall(rf"{ONE} (\w+)", page.text("#changes"))[-6:]
                    == ["returned", "died", "warned", "heard", "warned", "started"]
                ),
                "all of them, the newest first",
            )

        await self.look(story)


def _go(page: Browser, text: str) -> None:
    page.write("#when", text)


def _has_recalled(page: Browser) -> bool:
    return bool(page.run("return Date.now() - window.hbtd.machine.knownSince > 3600000"))


def _looks_at(page: Browser, seconds: float) -> bool:
    at: Any = page.run("return window.hbtd.strip.time")
    return at is not None and abs(at / 1000 - seconds) < 20


def _summaries(page: Browser) -> int:
    """Return how many summaries the page has got."""
    count: int = page.run(
        "return performance.getEntriesByType('resource')"
        ".filter((each) => each.name.endsWith('/summary')).length"
    )
    return count


def _line(page: Browser, text: str) -> bool:
    lines = page.run(
        "return [...document.querySelectorAll('#silent button')].map((each) => ["
        "[...each.querySelectorAll('.key')].map((key) => key.textContent).join(' '), "
        "...['b', '.count'].map((part) => each.querySelector(part).textContent)].join('\\n'))"
    )
    return text in lines
