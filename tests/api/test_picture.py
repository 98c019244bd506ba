"""The picture of the whole machine over HTTP, and the page that is drawn from it."""

import re
from importlib.resources import files
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from hbtd.api.picture import Picture
from hbtd.queries.machine import Layout, Machine, Silence
from tests.support.components_api import ComponentsTestCase
from tests.support.processes import CHECKOUT


async def no_marks(xnames: object, turn: object) -> None:
    """Return what nothing in maintenance is."""


class PictureTests(ComponentsTestCase):
    """`GET /picture`."""

    def test_healthy(self):
        """All names are there in natural order, each with a letter."""
        answer = self.get("/picture")
        names = answer["Names"].split("\n")
        self.assertEqual(len(names), 18)
        self.assertEqual(names[:2], ["x1000c7s0b0n0", "x1000c7s0b0n1"])
        self.assertEqual(names[-2:], ["x1001c0s9b0n0", "x1001c0s10b0n0"])
        self.assertEqual(answer["States"], "h" * 18)
        self.assertNotIn("Maintenance", answer)

    def test_parameters(self):
        """There are none."""
        self.assertIn("limit is not known", self.refused("/picture?limit=3"))


class StatesTests(SynchronousTestCase):
    """The letters of states."""

    @given(st.lists(st.sampled_from("hwd"), max_size=300))
    def test_letters(self, states):
        """Each component has the letter of its state, at the position of its name."""
        names = [f"x{number}" for number in range(len(states))]
        silence = Silence(
            Layout(names, (), ()),
            bytes(state == "w" for state in states),
            bytes(state == "d" for state in states),
        )
        self.assertEqual(Picture.states(silence), "".join(states))


class NumberTests(ComponentsTestCase):
    """The number from which on events follow."""

    def test_before(self):
        """What is logged while the picture is made comes after its number: no event is missed."""
        numbers = iter(range(10, 20))
        machine = Machine(self.service.tracker)
        picture = Picture(machine, lambda: 18, lambda: next(numbers), lambda: 1.0, no_marks)

        class Request:
            """A request whose turns take a while, in which something is logged."""

            def hold(self, count: int) -> bool:
                return True

            def turn(self):
                next(numbers)
                return succeed(None)

        request: Any = Request()
        reply = self.successResultOf(Deferred.fromCoroutine(picture.make(request)))
        self.assertEqual(orjson.loads(reply.body)["Number"], 10)
        self.assertGreater(next(numbers), 11)

    def test_latest(self):
        """The number is that of the log's latest entry."""
        self.reactor.pump([0.1] * 20)  # until all is stored
        entries = self.get("/history")["Entries"]
        self.assertEqual(self.get("/picture")["Number"], entries[-1]["Number"])


class KeysTests(SynchronousTestCase):
    """The keys of the page."""

    def setUp(self):
        self.folder = files("hbtd.api").joinpath("ui")
        page = self.folder.joinpath("index.html").read_text(encoding="utf-8")
        dialog = page[page.index('<dialog id="help"') : page.index("</dl>")]
        found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", dialog)
        self.help = [tuple(re.sub("</?kbd>", "`", text) for text in each) for each in found]

    def test_documented(self):
        """The help and the documents list the same keys, for the same purposes."""
        document = (CHECKOUT / "docs" / "operations.md").read_text(encoding="utf-8")
        section = document.partition("\n## The page\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| (`.*?`) \| (.*?) \|$", section, re.MULTILINE)
        self.assertEqual(rows, self.help)

    def test_all(self):
        """The help lists all keys that do something, and those only."""
        scripts = {name: self.folder.joinpath(name).read_text() for name in ("app.js", "strip.js")}
        actions = re.findall(r'^  "?(.)"?: ', scripts["app.js"].partition("const ACTIONS")[2], re.M)
        steps = re.findall(r"(\w+): -?1", scripts["strip.js"].partition("const KEYS")[2][:90])
        arrows = {"\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}"}
        arrows |= {"\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"}
        others = {*arrows, "Shift", "Home", "End", "Enter", "Esc", "Tab", *steps[2:]}
        listed = {key for row in self.help for text in row for key in re.findall("`(.*?)`", text)}
        # `=` is where `+` is without Shift.
        self.assertEqual(listed, ({*actions} - {"="}) | others)


class PageTests(ComponentsTestCase):
    """`GET /` and `/ui/`."""

    def page(self, path: str, headers: dict[str, str] | None = None):
        """Return an answer."""
        return self.request("GET", path, headers=headers or {})

    def test_page(self):
        """The page and its files are served, with a policy under which nothing else can run."""
        for path, prefix in (("/", "ui/"), ("/ui/", "")):
            answer = self.page(path)
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers["content-type"], "text/html; charset=utf-8")
            policy = answer.headers["content-security-policy"]
            self.assertIn("default-src 'none'", policy)
            self.assertNotIn("unsafe", policy)
            body = answer.body.decode()
            self.assertNotRegex(body, r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|@ui")
            for name in re.findall(r'(?:src|href)="([^"]*)"', body):
                self.assertTrue(name.startswith(prefix), name)
                self.assertEqual(self.page(f"/ui/{name[len(prefix) :]}").status, 200, name)

    def test_all_files(self):
        """Every file of the page is served, with its type."""
        types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
        for each in files("hbtd.api").joinpath("ui").iterdir():
            if each.name != "index.html":
                answer = self.page(f"/ui/{each.name}")
                self.assertEqual(answer.body, each.read_bytes())
                wanted = types.get(each.name.rpartition(".")[2], "image/svg+xml")
                self.assertEqual(answer.headers["content-type"], wanted)
                self.assertEqual(answer.headers["x-content-type-options"], "nosniff")

    def test_unchanged(self):
        """A browser that has a file is told so."""
        tag = self.page("/ui/app.js").headers["etag"]
        answer = self.page("/ui/app.js", {"If-None-Match": f'"other", W/{tag}'})
        self.assertEqual((answer.status, answer.body), (304, b""))
        self.assertEqual(answer.headers["etag"], tag)
        self.assertEqual(self.page("/ui/app.js", {"If-None-Match": '"other"'}).status, 200)

    def test_folder(self):
        """`/ui` leads to `/ui/`, where the page finds its files."""
        answer = self.page("/ui")
        self.assertEqual((answer.status, answer.headers["location"]), (301, "ui/"))

    def test_folder_query(self):
        """On the way from `/ui` to `/ui/` the wallboard stays one."""
        for query in ("?wallboard", "?wallboard&x=%22a%20b", "?"):
            answer = self.page("/ui" + query)
            self.assertEqual((answer.status, answer.headers["location"]), (301, "ui/" + query))

    def test_unknown(self):
        """There are no other files."""
        for name in ("index.html", "nothing.js", "..%2fopenapi.json", "../openapi.json", "%2e%2e"):
            self.assertEqual(self.page(f"/ui/{name}").status, 404, name)
