"""The page when something is wrong, with the connection, the clock or the token."""

import re
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from selenium.webdriver.common.keys import Keys
from twisted.web.proxy import ProxyClient, ProxyClientFactory, ReverseProxyResource
from twisted.web.resource import Resource
from twisted.web.server import Site

from hbtd.simulator.hsm_table import ComponentState
from tests.support.browser import Browser
from tests.support.page_case import HIDE, NODES, TOKEN, BeatsTestCase, wait_for
from tests.support.running import reactor, start_hsm
from tests.support.server_process import free_ports

ONE, CONTROLLER = "x1000c0s3b0n1", "x1000c0b0"


class TokenTests(BeatsTestCase):
    """Reading is closed."""

    async def test_none(self) -> None:
        """Who gives no token is not asked again until they wish to give one, by a key perhaps."""
        await self.serve_closed()

        def story(page: Browser) -> None:
            self.beat(ONE)
            page.until(partial(_asks, page), "asked")
            page.driver.switch_to.active_element.send_keys("half a tok", Keys.ESCAPE)
            page.until(lambda: page.text("#status") == "no access", "it says so")
            # Longer than from one summary to the next.
            page.run("await new Promise((resolve) => setTimeout(resolve, 6000))")
            self.assertFalse(_asks(page))
            self.assertIn("401", page.text("#trouble"))
            page.run("document.getElementById('give').focus()")
            page.press(Keys.ENTER)
            page.until(partial(_asks, page), "asked again")
            page.write("#token", "t\N{LATIN SMALL LETTER O WITH DIAERESIS}ken")
            page.until(
                lambda: page.run("return document.getElementById('ask').open && !token.value"),
                "asked for one that is possible",
            )
            page.write("#token", TOKEN)
            page.until_live()
            page.until(lambda: sum(page.counts()) == 1, "it is shown")
            page.until(lambda: ONE in page.text("#changes"), "the history, too")
            self.assertEqual(page.text("#banner"), "")
            self.assertNotIn(
                "horse", page.run("return location.href + JSON.stringify(localStorage)")
            )

        await self.look(story)

    async def test_revoked(self) -> None:
        """If the token is revoked while the page is open it asks for another one."""
        tokens = await self.serve_closed()

        def story(page: Browser) -> None:
            page.until(partial(_asks, page), "asked")
            page.write("#token", TOKEN)
            page.until_live()
            tokens.write_text("alice:another-horse-battery-staple\n")
            page.until(partial(_asks, page), "asked again", 40)
            page.write("#token", "another-horse-battery-staple")
            self.beat(ONE)
            page.until(lambda: page.counts()[0] == 1, "it is shown")
            self.assertEqual(page.text("#banner"), "")

        await self.look(story)

    async def test_unseen(self) -> None:
        """A token given after a while in another tab gives a page that is as live as any other."""
        await self.serve_closed()

        def story(page: Browser) -> None:
            page.until(partial(_asks, page), "asked")
            page.run(f"{HIDE} window.hbtd.feed.rest()", True)
            page.write("#token", TOKEN)
            page.until(lambda: page.run("return window.hbtd.machine.era === 1"), "the picture")
            page.run("await new Promise((resolve) => setTimeout(resolve, 1000))")
            self.assertIsNone(page.run("return window.hbtd.feed.abort"), "a connection")
            page.run(HIDE, False)
            page.until_live()
            self.beat(ONE)
            page.until(lambda: page.counts() == (0, 0, 1), "it is dead")
            # What no event brings is put right, as in a page that was seen all along.
            _is_put_right(page)

        await self.look(story)


class ConnectionTests(BeatsTestCase):
    """hbtd hangs, begins anew, is elsewhere, or is not looked at."""

    async def test_hang(self) -> None:
        """If hbtd hangs the page says so within 25 s, and of when what it shows is."""
        process = await self.serve()

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE)
            page.until(lambda: page.counts()[0] == 1, "it is there")
            stopped = time.time()
            process.signal(signal.SIGSTOP)
            try:
                page.until(lambda: "silent" in page.text("#banner"), "stale", 25)
            finally:
                process.signal(signal.SIGCONT)
            said = re.search(r"\d\d:\d\d:\d\d", page.text("#banner"))
            assert said is not None
            stages = [time.strftime("%X", time.localtime(stopped + k)) for k in range(-4, 5)]
            self.assertIn(said[0], stages)
            page.until_live()

        await self.look(story)

    async def test_log_anew(self) -> None:
        """A log that has begun anew, and is as long as that before, is not taken for it."""
        (port,) = free_ports(1)
        first = await self.serve(port=port)

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE)
            page.until(lambda: page.counts() == (0, 0, 1), "it is dead")
            page.run("window.hbtd.feed.pause = 9000")
            first.signal(signal.SIGKILL)
            page.until(lambda: "What you see is of" in page.text("#banner"), "stale")
            wait_for(self.serve(port=port))
            # ONE is among the entries that have the numbers of the old ones.
            others = [f"x1000c1s{slot}b0n0" for slot in range(20)]
            ends = time.monotonic() + 30
            while page.text("#status") != "live" and time.monotonic() < ends:
                self.beat(ONE, *others)
            page.until(lambda: page.colour(ONE) == "healthy", "it is back", 15)
            page.until(lambda: f"{ONE} started" in page.text("#changes"), "the new log's past", 15)

        await self.look(story)

    async def test_prefix(self) -> None:
        """Behind a reverse proxy the page works under a path of its own."""
        await self.serve("--tls=no")
        root, inner = Resource(), Resource()
        port = int(self.url.rsplit(":", 1)[1])
        root.putChild(b"monitoring", inner)
        inner.putChild(b"hbtd", _Proxy("127.0.0.1", port, b""))
        site = Site(root)
        listening = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        direct = self.url
        for path in ("/monitoring/hbtd/", "/monitoring/hbtd/ui/", "/monitoring/hbtd/ui"):
            self.url = f"http://localhost:{listening.getHost().port}"

            def story(page: Browser) -> None:
                page.until_live()
                self.url = direct
                self.beat(ONE)
                page.until(lambda: page.counts()[0] == 1, "it is there")
                self.assertEqual(page.complaints(), [])

            await self.look(story, path)

    async def test_unseen(self) -> None:
        """A tab that nobody sees has no connection, and is up to date when it is seen again."""
        await self.serve()

        def story(page: Browser) -> None:
            page.until_live()
            page.run(f"{HIDE} window.hbtd.feed.rest()", True)
            page.until(lambda: page.run("return window.hbtd.feed.abort.signal.aborted"), "ended")
            self.beat(ONE)
            page.until(lambda: "1 dead" in page.driver.title, "the title is up to date", 30)
            self.assertEqual(page.counts(), (0, 0, 0))
            self.assertEqual(page.text("#banner"), "")
            page.run(HIDE, False)
            page.until(lambda: page.counts() == (0, 0, 1), "up to date", 15)

        await self.look(story)

    async def test_many_windows(self) -> None:
        """Ten windows of a browser, which has six connections for a host, are all live."""
        await self.serve("--warntime=300", "--errtime=600")

        def story(page: Browser) -> None:
            page.driver.set_page_load_timeout(20)
            for _ in range(9):
                page.driver.switch_to.new_window("window")
                page.open(self.url + "/")
            self.beat(ONE)
            for each in page.driver.window_handles:
                page.driver.switch_to.window(each)
                page.until_live()
                page.until(lambda: page.counts() == (1, 0, 0), "it is there")
                self.assertEqual(page.text("#banner"), "")

        await self.look(story)

    async def test_doubt(self) -> None:
        """A state that no event brings is put right within some seconds."""
        await self.serve()

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE)
            page.until(lambda: page.counts() == (0, 0, 1), "it is dead")
            _is_put_right(page)

        await self.look(story)


class ClockTests(BeatsTestCase):
    """The clock of whoever looks is wrong."""

    async def test_wrong(self) -> None:
        """The strip, the clock and what is looked back to go by hbtd's time."""
        await self.serve()
        for wrong in (3600, -3600):

            def story(page: Browser, wrong: int = wrong) -> None:
                page.until_live()
                self.beat(ONE)
                page.until(lambda: page.counts() == (0, 0, 1), "it is dead")
                dead = time.time()
                self.beat(ONE)
                page.until(lambda: page.counts() == (1, 0, 0), "it is back")
                shift = page.run("return Date.now() / 1000") - dead
                self.assertLess(abs(shift - wrong), 60)
                page.run(
                    "window.hbtd.strip.span = 600000; window.hbtd.strip.go(given[0])", dead * 1000
                )
                page.until(lambda: page.counts() == (0, 0, 1), "what was", 15)
                self.assertIn(time.strftime("%H:%M", time.localtime(dead)), page.text("#banner"))
                shown = page.text("#clock").removeprefix("now ")
                late = [time.strftime("%X", time.localtime(time.time() - k)) for k in range(4)]
                self.assertIn(shown, late)

            await self.look(story, ahead=wrong)


class ReadingTests(BeatsTestCase):
    """What is read or pressed stays in its place."""

    async def test_focus(self) -> None:
        """What has the focus keeps it while more happens, in lists and in the text."""
        await self.serve("--warntime=300", "--errtime=600")

        def focused(page: Browser) -> Any:
            return page.run("return document.activeElement.textContent")

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE)
            page.until(lambda: ONE in page.text("#changes"), "the change")
            page.run("document.querySelector('#changes button').focus()")
            before = focused(page)
            self.beat("x1001c0s0b0n0")
            page.until(lambda: "x1001c0s0b0n0" in page.text("#changes"), "the next one")
            self.assertEqual(focused(page), before)
            page.press("l")
            page.until(lambda: "x1001: 1" in page.text("#outline"), "the text")
            page.run("document.querySelectorAll('#outline summary')[1].focus()")
            self.assertIn("x1001", focused(page))
            self.beat("x1002c0s0b0n0")
            page.until(lambda: "x1002: 1" in page.text("#outline"), "one more")
            self.assertIn("x1001", focused(page))
            page.press(Keys.ESCAPE)
            self.assertEqual(page.text("#outline"), "")

        await self.look(story)

    async def test_everything_as_text(self) -> None:
        """The text has all components, also those that are in no slot or no chassis."""
        await self.serve("--warntime=300", "--errtime=600")
        names = ("s0", "x1000", "x1000m0", CONTROLLER, ONE, "x1000c0", "d0")

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(*names)
            page.until(lambda: page.counts()[0] == len(names), "all are there")
            page.press("l")
            page.until(lambda: "others" in page.text("#outline"), "the text")
            for _ in range(3):
                page.run(
                    "const all = document.querySelectorAll('#outline details');"
                    "for (const each of all) each.open = true;"
                    "await new Promise((resolve) => setTimeout(resolve, 300))"
                )
            lines = page.text("#outline").splitlines()
            for name in names:
                self.assertIn(f"{name}: healthy", lines)

        await self.look(story)

    async def test_why_goes_on(self) -> None:
        """Why is said of the component that is selected, and anew when its state changes."""
        process = await self.serve()

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(CONTROLLER, ONE)
            page.until(lambda: page.counts()[0] == 2, "they are there")
            page.click_on(ONE)
            page.until(lambda: "Dead: silent for" in page.text("#why"), "that it has died")
            self.assertIn(f"{ONE}: dead. Dead: silent", page.announced())
            process.signal(signal.SIGKILL)
            page.until(lambda: "What you see is of" in page.text("#banner"), "stale")
            page.click_on(CONTROLLER)
            page.until(lambda: CONTROLLER in page.text("#why h2"), "its name, not the one before")
            self.assertNotIn("Dead: silent", page.text("#why"))

        await self.look(story)

    async def test_tip(self) -> None:
        """The name under a pointer that rests is followed by the state that holds."""
        await self.serve()

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE)
            page.until(lambda: page.colour(ONE) == "healthy", "it is there")
            x, y = page.run("return window.placeOf(given[0])", ONE)
            moved = {"type": "mouseMoved", "x": x, "y": y}
            page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", moved)
            page.until(lambda: page.text("#tip").startswith(ONE), "its name")
            page.until(lambda: page.text("#tip").endswith("  dead"), "that it is dead")

        await self.look(story)

    async def test_many_numbers(self) -> None:
        """A set of NIDs is found whole, though hbtd answers by pages."""
        many = 1100
        await self.serve("--warntime=300", "--errtime=600")
        await self.fleet(many, 5)
        self.assertGreater(many, NODES)

        def story(page: Browser) -> None:
            page.until_live()
            page.write("#query", f"nid[000001-{many:06}]")
            page.until(lambda: page.text("#found") == "1,100 found", "all of them")

        await self.look(story)


class TableTests(BeatsTestCase):
    """HSM's table is wrong."""

    async def test_wrong(self) -> None:
        """A line says what the last comparison has found, and goes when the table is right."""
        running = start_hsm(self)
        rows = running.hsm.components
        times = ("--warntime=300", "--errtime=600")
        await self.serve(f"--sm_url={running.url}", "--sm_sync=10", *times)

        def story(page: Browser) -> None:
            page.until_live()
            self.assertFalse(page.run("return !document.getElementById('table').hidden"))
            self.beat(ONE, CONTROLLER)
            rows[ONE] = ComponentState("Standby", "Alert")
            rows[CONTROLLER] = ComponentState("Ready", "OK")
            said = "HSM's table was wrong about 1 component at "
            page.until(lambda: page.text("#table").startswith(said), "it is wrong", 60)
            rows[ONE] = ComponentState("Ready", "OK")
            page.until(lambda: page.text("#table") == "", "it is right", 60)
            found = {"At": "2026-03-04T05:11:10.100Z", "Wrong": 1200, "Held": 101, "Contested": 2}
            page.run("window.hbtd.header.showTable(given[0])", found)
            _, *parts = page.text("#table").split("; ")
            self.assertEqual(
                parts,
                [
                    "2 contested: somebody else writes them",
                    "101 dead and held: too many to be told without hbtctl reconcile",
                ],
            )
            self.assertEqual(page.complaints(), [])

        await self.look(story)


class GuardTests(BeatsTestCase):
    """Failure domains are disrupted."""

    async def test_shown(self) -> None:
        """A line and a frame show which domain is disrupted, and go when none is."""
        await self.serve("--guard=hold", "--errtime=8", "--guard_hold=60")
        slot = "x1000c0s0"
        others = [f"x1000c0s1b0n{number}" for number in range(8)]

        def story(page: Browser) -> None:
            def until(condition: Callable[[], object], what: str) -> None:
                """Wait while others in the chassis beat, so that it is the slot alone."""

                def met() -> object:
                    self.beat(*others)
                    return condition()

                page.until(met, what, 60)

            def framed(name: str) -> bool:
                return bool(page.run("return window.isFramed(given[0])", name))

            page.until_live()
            self.assertFalse(page.run("return !document.getElementById('disruptions').hidden"))
            self.beat(*(f"{slot}b0n{number}" for number in range(4)))
            text = f"slot {slot} is disrupted: 4 members silent, since"
            until(lambda: text in page.text("#disruptions"), "it is disrupted")
            self.assertRegex(page.text("#disruptions"), "; deaths in it wait until .* at most")
            until(lambda: framed(slot), "it has a frame")
            self.assertFalse(framed("x1000c0s1"))
            release = self.sender.request("POST", f"{self.url}/hmi/v1/guard/release", {})
            self.assertEqual(wait_for(release)[0], 200)
            until(lambda: page.text("#disruptions") == "", "it has ended")
            until(lambda: not framed(slot), "it has no frame")
            self.assertEqual(page.complaints(), [])

        await self.look(story)


class MaintenanceTests(BeatsTestCase):
    """Components are in maintenance."""

    async def test_line(self) -> None:
        """A line says how many there are, and goes when there are none; the panel says why."""
        await self.serve("--warntime=300", "--errtime=600")

        def story(page: Browser) -> None:
            page.until_live()
            self.assertFalse(page.run("return !document.getElementById('maintenance').hidden"))
            found = {"Set": 1, "Away": 1, "Components": 1200, "Silent": 2}
            page.run("window.hbtd.header.showMaintenance(given[0])", found)
            self.assertEqual(
                page.text("#maintenance"),
                "In maintenance: 1,200 components, 2 silent, which is no alarm; 1 component away,"
                " and expected back",
            )
            page.until(lambda: page.text("#maintenance") == "", "there is none", 60)
            self.assertEqual(page.complaints(), [])

        await self.look(story)

    async def test_squares(self) -> None:
        """On the map, what is silent in maintenance has its own colour until that has ended."""
        await self.serve("--warntime=2", "--errtime=600")

        def story(page: Browser) -> None:
            page.until_live()
            self.beat(ONE, CONTROLLER)
            wanted = {"XNames": [ONE], "For": 600}
            setting = self.sender.request("POST", f"{self.url}/hmi/v1/maintenance", wanted)
            _, answer = wait_for(setting)
            page.until(lambda: page.colour(ONE) == "spared", "it is in maintenance", 60)
            page.until(lambda: page.colour(CONTROLLER) == "warned", "the other one is silent", 60)
            self.assertEqual(tuple(page.counts()), (1, 1, 0))
            url = f"{self.url}/hmi/v1/maintenance/{answer['Id']}"
            wait_for(self.sender.request("DELETE", url))
            page.until(lambda: page.colour(ONE) == "warned", "it is no more", 60)
            self.assertEqual(page.complaints(), [])

        await self.look(story)


class _Client(ProxyClient):
    """The connection to hbtd; it ends with that of the browser."""

    def connectionMade(self) -> None:
        self.father.notifyFinish().addErrback(self._gone)
        super().connectionMade()

    def _gone(self, reason: object) -> None:
        self._finished = True
        assert self.transport is not None
        self.transport.loseConnection()


class _ClientFactory(ProxyClientFactory):
    protocol = _Client


class _Proxy(ReverseProxyResource):
    proxyClientFactoryClass = _ClientFactory

    def getChild(self, path: bytes, request: Any) -> "_Proxy":
        """Return the resource that has all below this one."""
        return _Proxy(self.host, self.port, self.path + b"/" + path, self.reactor)


def _is_put_right(page: Browser) -> None:
    """Have the page take ONE, which is dead, for healthy; wait until it is put right."""
    page.run(
        "const { machine, map } = window.hbtd; machine.states[0] = 0;"
        "machine.counts = [1, 0, 0, 0]; map.redraw()"
    )
    page.until(lambda: page.colour(ONE) == "healthy", "it is wrong")
    page.until(lambda: page.colour(ONE) == "dead", "put right")


def _asks(page: Browser) -> bool:
    return bool(page.run("return document.getElementById('ask').open"))
