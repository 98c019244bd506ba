"""The page in a browser, with an hbtd over TLS and a fleet, all of them real."""

import signal
import ssl
import time
import urllib.request
from functools import partial

from selenium.webdriver.common.keys import Keys

from hbtd.simulator.fleet import node_names
from tests.support.browser import Browser
from tests.support.page_case import HIDE, NODES, TOKEN, PageTestCase, wait_for
from tests.support.running import WebClient, heartbeat, reactor
from tests.support.server_process import free_ports

CHASSIS, ONE = "x1000c1", "x1000c0s3b0n1"


class DeathTests(PageTestCase):
    """What is seen of a death, and asked about it."""

    async def test_life(self) -> None:
        """A node dies: its cell changes, a click says why; nothing comes from elsewhere."""
        await self.serve()
        await self.fleet()

        def story(page: Browser) -> None:
            page.until_live()
            page.until(lambda: page.counts() == (NODES, 0, 0), "all are healthy")
            page.until(lambda: page.colour(ONE) == "healthy", "it is drawn")
            self.control("kill", ONE)
            page.until(lambda: page.colour(ONE) == "warned", "it is warned about")
            client = urllib.request.Request(f"{self.url}/v1/hbstate/{ONE}")
            page.until(lambda: not _heartbeating(client), "hbtd says that it is dead")
            late = page.until(lambda: page.colour(ONE) == "dead", "its cell is that of the dead")
            self.assertLess(late, 8)
            page.until(lambda: page.counts() == (NODES - 1, 0, 1), "and is counted")
            page.click_on(ONE)
            page.until(lambda: "Dead: silent for" in page.text("#why"), "why")
            self.assertIn(ONE, page.text("#why h2"))
            self.assertIn("the limit, Errtime, is 4 s", page.text("#why"))
            page.until(lambda: ONE in page.text("#silent"), "it is named as silent")
            self.control("revive", ONE)
            page.until(lambda: page.colour(ONE) == "healthy", "it is back")
            self.assertEqual(page.requests(), {self.url})
            self.assertEqual(page.complaints(), [])

        await self.look(story)

    async def test_chassis(self) -> None:
        """A chassis dies: one line says so, and a click on it shows that part of the machine."""
        await self.serve()
        await self.fleet()

        def story(page: Browser) -> None:
            page.until_live()
            self.control("kill", CHASSIS)
            page.until(lambda: f"{CHASSIS}\n64 dead of 64" in page.text("#silent"), "the chassis")
            page.until(lambda: page.counts() == (NODES - 64, 0, 64), "its nodes are dead")
            page.until(lambda: f"64 died in {CHASSIS}" in page.text("#changes"), "the change")
            page.click("#silent li button")
            self.assertIs(page.run("return window.hbtd.map.fitted"), False)
            self.assertEqual(page.text("#found"), "64 found")
            self.assertEqual(page.complaints(), [])

        await self.look(story)


class UseTests(PageTestCase):
    """What people do on the page."""

    async def test_filter_and_search(self) -> None:
        """Counters and the search dim the rest; names are nodesets, parts, NIDs, host names."""
        await self.serve()
        await self.fleet()

        def story(page: Browser) -> None:
            page.until_live()
            self.control("kill", ONE)
            page.until(lambda: page.colour(ONE) == "dead", "one is dead")
            page.click("[data-state=dead]")
            page.until(lambda: page.colour("x1000c1s0b0n0") == "dim", "the rest is dimmed")
            self.assertEqual(page.colour(ONE), "dead")
            page.press("3")
            page.until(lambda: page.colour("x1000c1s0b0n0") == "healthy", "all again")
            for text, found in (
                ("x1000c1", 64),
                ("x1000c[0-1]s3", 16),
                ("x1000c1s[0,2]b0n*", 8),
                ("X1000C1S[0,2]", 16),
                ("nid000001", 1),
                ("nid[000001-000003]", 3),
                ("x1000c1!x1000c1s0b0n[0-3]", 0),
                ("x9", 0),
            ):
                page.write("#query", text)
                page.until(partial(_finds, page, found), text)
            page.until(lambda: page.colour("x1000c1s0b0n0") == "healthy", "nothing is dimmed")
            page.press(Keys.ESCAPE)
            page.until(lambda: page.text("#found") == "", "the search is cleared")
            page.until(lambda: page.colour(ONE) == "dead", "everything is shown")
            page.write("#query", "x1000c[1-")
            page.until(lambda: "400" in page.text("#found"), "what is wrong is said")

        await self.look(story)

    async def test_keys(self) -> None:
        """All can be done by keys, and is announced; the machine is there as text, too."""
        await self.serve()
        await self.fleet()

        def story(page: Browser) -> None:
            page.until_live()
            first, second = node_names(2)
            page.press("/", Keys.ESCAPE, Keys.ARROW_RIGHT)
            self.assertEqual(page.announced(), f"{first}: healthy")
            page.press(Keys.ARROW_RIGHT)
            self.assertEqual(page.announced(), f"{second}: healthy")
            page.press(Keys.ENTER)
            page.until(lambda: second in page.text("#why"), "why")
            page.press(Keys.ESCAPE)
            page.until(lambda: page.text("#why") == "", "closed")
            scale = page.run("return window.hbtd.map.view.scale")
            page.press("+")
            self.assertGreater(page.run("return window.hbtd.map.view.scale"), scale)
            page.press("f")
            self.assertEqual(page.run("return window.hbtd.map.view.scale"), scale)
            page.press("?")
            page.until(lambda: "the machine as text" in page.text("#help"), "help")
            page.press(Keys.ESCAPE)
            page.press("l")
            page.until(lambda: f"{NODES} healthy of {NODES}" in page.text("#outline"), "text")
            page.click("#outline summary")
            page.until(lambda: "x1000c0: 64 healthy of 64" in page.text("#outline"), "chassis")
            page.press("l")
            before = page.run("return getComputedStyle(document.body).backgroundColor")
            page.click("#theme")
            after = page.run("return getComputedStyle(document.body).backgroundColor")
            self.assertNotEqual(before, after)
            self.assertEqual(page.complaints(), [])

        await self.look(story)

    async def test_names(self) -> None:
        """Whatever can be used has a name for whoever does not see it, and so have the dialogs."""
        await self.serve()
        used = {"button", "textbox", "searchbox", "slider", "combobox", "dialog", "application"}

        def story(page: Browser) -> None:
            page.until_live()
            found: dict[str, list[str]] = {}
            for dialog in ("", "help", "ask"):
                page.run("document.getElementById(given[0])?.showModal()", dialog)
                tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})
                for each in tree["nodes"]:
                    if not each["ignored"] and each["role"]["value"] in used:
                        name = each["name"]["value"].strip().capitalize()
                        found.setdefault(each["role"]["value"], []).append(name)
                page.run("document.getElementById(given[0])?.close()", dialog)
            self.assertEqual(set(found), used)
            self.assertEqual(set(found["dialog"]), {"Keys", "Token"})
            for role, names in found.items():
                self.assertTrue(all(names), (role, names))

        await self.look(story)

    async def test_window(self) -> None:
        """In a window of hardly any size nothing breaks; the map is there when it is larger."""
        await self.serve()
        await self.fleet()

        def story(page: Browser) -> None:
            page.until_live()
            for width, height in ((1, 1), (40, 40), (39, 300), (4000, 60)):
                page.resize(width, height)
                frame = "await new Promise((resolve) => setTimeout(resolve, 150))"
                page.run(
                    f"{frame}; for (let k = 0; k < 99; k++) window.hbtd.map.zoom(0.5); {frame}"
                )
                page.run(f"for (let k = 0; k < 99; k++) window.hbtd.map.zoom(2); {frame}")
                page.resize(1400, 900)
                page.until(lambda: page.run("return window.hbtd.map.width") > 900, "larger")
                view = page.run("return Object.values(window.hbtd.map.view)")
                self.assertNotIn(None, view, "not a number")  # which JSON has as null
                self.assertGreater(view[0], 0)
                page.press("f")
                page.until(lambda: page.colour(ONE) == "healthy", "it is drawn")
            self.assertEqual(page.complaints(), [])

        await self.look(story)

    async def test_among_the_found(self) -> None:
        """Arrows stay among what is found, and why is of nothing else; Esc shows all again."""
        await self.serve()
        await self.fleet()

        def story(page: Browser) -> None:
            page.until_live()
            self.control("kill", ONE)
            page.until(lambda: page.colour(ONE) == "dead", "one is dead")
            scale = page.run("return window.hbtd.map.view.scale")
            page.click_on(ONE)
            page.until(lambda: ONE in page.text("#why"), "why")
            page.write("#query", f"{CHASSIS}s3")
            page.until(partial(_finds, page, 8), "a slot")
            page.until(lambda: page.text("#why") == "", "what was asked before is not shown")
            view = page.run("return window.hbtd.map.view")
            self.assertGreater(view["scale"], scale)
            for key, name in (
                (Keys.ARROW_RIGHT, "b0n0"),
                (Keys.ARROW_RIGHT, "b0n1"),
                *((Keys.ARROW_RIGHT, "b") for _ in range(8)),
                *((Keys.ARROW_LEFT, "b") for _ in range(8)),
            ):
                page.press(key)
                self.assertIn(f"{CHASSIS}s3{name}", page.announced())
            self.assertEqual(page.run("return window.hbtd.map.view"), view)
            page.press(Keys.ESCAPE)
            page.until(lambda: page.text("#found") == "", "the search is cleared")
            self.assertEqual(page.run("return window.hbtd.map.view.scale"), scale)

        await self.look(story)

    async def test_look_back(self) -> None:
        """The strip leads back to what was; Escape returns to what is."""
        await self.serve()
        await self.fleet()

        def story(page: Browser) -> None:
            page.until_live()
            self.control("kill", CHASSIS)
            page.until(lambda: page.counts()[2] == 64, "a chassis is dead")
            dead = time.time()
            self.control("revive", CHASSIS)
            page.until(lambda: page.counts()[0] == NODES, "it is back")
            page.run("window.hbtd.strip.span = 600000; window.hbtd.strip.go(given[0])", dead * 1000)
            page.until(lambda: page.counts() == (NODES - 64, 0, 64), "what was")
            self.assertIn("Looking back to", page.text("#banner"))
            page.until(lambda: page.colour(f"{CHASSIS}s0b0n0") == "dead", "so it is drawn")
            page.press(Keys.ESCAPE)
            page.until(lambda: page.counts() == (NODES, 0, 0), "what is")
            self.assertEqual(page.text("#banner"), "")
            # A page that is opened later knows it as well.
            page.open(self.url + "/ui/")
            page.until_live()
            page.until(lambda: page.run("return window.hbtd.machine.changes.length") > 200, "past")
            page.run("window.hbtd.strip.span = 600000; window.hbtd.strip.go(given[0])", dead * 1000)
            page.until(lambda: page.counts() == (NODES - 64, 0, 64), "what was")

        await self.look(story)


class ConnectionTests(PageTestCase):
    """hbtd goes away, or wants a token."""

    async def test_gone_and_back(self) -> None:
        """Without hbtd the page says since when it is stale; it connects again by itself."""
        (port,) = free_ports(1)
        first = await self.serve(port=port)
        await self.fleet()

        def stale(page: Browser) -> None:
            page.until_live()
            self.assertEqual(page.text("#banner"), "")
            first.signal(signal.SIGKILL)
            page.until(lambda: "What you see is of" in page.text("#banner"), "stale")
            self.assertRegex(page.text("#status"), "connecting")
            reactor.callFromThread(self.spawn_hbtd, port)
            page.until(lambda: page.text("#status") == "live", "live again", 40)
            page.until(lambda: page.counts()[0] == NODES, "all are there again", 40)
            self.assertEqual(page.text("#banner"), "")

        await self.look(stale)

    async def test_title(self) -> None:
        """The title of a tab says when it is not up to date, whether the page is seen or not."""
        (port,) = free_ports(1)
        running = [await self.serve(port=port)]

        def story(page: Browser) -> None:
            for seen in (True, False):
                page.until_live()
                self.assertEqual(page.driver.title, "hbtd")
                page.run(f"{HIDE} if (given[0]) window.hbtd.feed.rest()", not seen)
                running.pop().signal(signal.SIGKILL)
                page.until(lambda: page.driver.title == "(not live) hbtd", "it says so", 40)
                running.append(wait_for(self.serve(port=port)))
                page.until(lambda: page.driver.title == "hbtd", "and when it is again", 40)

        await self.look(story)

    async def test_token(self) -> None:
        """Where reading is closed the page asks for a token, and keeps it for the tab alone."""
        await self.serve_closed()
        client = WebClient(self)
        await client.request("POST", f"{self.url}/hmi/v1/heartbeat", heartbeat())

        def story(page: Browser) -> None:
            page.until(lambda: "hbtd says" in page.text("#ask"), "asked")
            page.write("#token", "wrong")
            page.until(
                lambda: page.run("return document.getElementById('ask').open && !token.value"),
                "asked again",
            )
            page.write("#token", TOKEN)
            page.until_live()
            # It beat once: where the browser was slow to start, it is warned about by now.
            page.until(lambda: sum(page.counts()) == 1, "it is shown")
            self.assertEqual(page.run("return Object.keys(localStorage)"), [])
            self.assertEqual(page.text("#ask"), "")

        await self.look(story)


class HostileTests(PageTestCase):
    """What nodes send can't run, and can't spoil the page."""

    async def test_markup(self) -> None:
        """Markup, scripts and control characters in what a node sends are shown as text."""
        await self.serve()
        status = "<img src=x onerror=\"document.title='owned'\">\u202e\u0007"
        client = WebClient(self)
        await client.request(
            "POST",
            f"{self.url}/hmi/v1/heartbeat",
            {
                "Component": ONE,
                "Hostname": "<script>alert(1)</script>",
                "NID": "1",
                "Status": status,
                "Timestamp": "</dd><h1>big</h1>",
            },
        )

        def story(page: Browser) -> None:
            page.until_live()
            page.until(lambda: page.counts() != (0, 0, 0), "it is there")
            page.click_on(ONE)
            page.until(lambda: "<img src=x" in page.text("#why"), "the status as text")
            self.assertIn("\\u{202e}", page.text("#why"))
            self.assertIn("</dd><h1>big</h1>", page.text("#why"))
            self.assertEqual(page.run("return document.querySelectorAll('img,h1').length"), 1)
            self.assertNotIn("owned", page.driver.title)
            self.assertEqual(page.requests(), {self.url})
            self.assertEqual(page.complaints(), [])

        await self.look(story)

    async def test_policy(self) -> None:
        """The page's policy lets no script run that is not hbtd's own."""
        await self.serve()

        def story(page: Browser) -> None:
            page.until_live()
            page.run(
                "const made = document.createElement('div');"
                "made.innerHTML = '<img src=x onerror=\"window.owned = 1\">';"
                "document.body.append(made);"
                "await new Promise((resolve) => setTimeout(resolve, 200))"
            )
            self.assertIsNone(page.run("return window.owned ?? null"))
            self.assertTrue(any("Content Security Policy" in each for each in page.complaints()))

        await self.look(story)


def _heartbeating(request: urllib.request.Request) -> bool:
    context = ssl._create_unverified_context()
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        return b"true" in answer.read()


def _finds(page: Browser, count: int) -> bool:
    return page.text("#found") == (f"{count} found" if count else "no such name")
