"""The command `maintenance`, and what other commands say of maintenance."""

import json
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

from hbtd.ctl import following, maintaining
from hbtd.ctl.event_stream import Event
from tests.support.hbtd_stand_in import CommandTestCase, component, problem

_ROW = {
    "Id": "4g4r75",
    "At": "2026-11-26T18:56:00.000Z",
    "Until": "2026-11-26T20:56:00.000Z",
    "Back": False,
    "Reason": "new \x1bfirmware",
    "By": "alice",
    "Away": False,
    "Number": 4,
    "XNames": "x1000c7s[0-1]b0n[0-1]",
}
_AWAY = {**_ROW, "Id": "away-x1", "Back": True, "Reason": "", "By": "x1", "Away": True, "Number": 1}
_PATH = "/maintenance/4g4r75"


class MaintenanceTests(CommandTestCase):
    """What is asked, and printed."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(maintaining, "_user", lambda: "me@here")

    def reply(self, path: str, answer: Any, status: int = 200) -> None:
        """Have a path answered."""
        self.hbtd.replies[path] = status, {}, answer

    def body(self) -> Any:
        """Return the body of the last request."""
        return self.hbtd.asked[-1][3]

    def test_list(self) -> None:
        """Without an action all are listed, page by page; control characters are shown."""

        def page(method: str, path: str, query: dict[str, str], body: object) -> Any:
            if query.get("after"):
                return 200, {}, {"Maintenance": [_AWAY], "Next": None}
            return 200, {}, {"Maintenance": [_ROW], "Next": _ROW["Id"]}

        self.patch(self.hbtd, "answer", page)
        self.assertEqual(self.hbtctl("maintenance"), 0)
        lines = [line.split() for line in self.out.splitlines()]
        self.assertEqual(lines[0], ["ID", "UNTIL", "BACK", "NUMBER", "BY", "REASON", "COMPONENTS"])
        self.assertEqual(lines[1][:6], ["4g4r75", "2026-11-26", "20:56:00", "no", "4", "alice"])
        self.assertIn("new \\x1bfirmware", self.out)
        self.assertEqual(lines[2][3:], ["yes", "1", "-", "-", "x1000c7s[0-1]b0n[0-1]"])

    def test_events(self) -> None:
        """`events --follow` says what becomes of maintenances, apart from the transitions."""
        found = Event("maintenance", json.dumps({**_ROW, "What": "set"}), "")
        self.patch(following, "follow", lambda *_: iter([found]))
        with self.assertRaises(AssertionError):
            self.hbtctl("events", "--follow", "-n", "0")
        self.assertEqual(self.out, "")
        self.assertIn(
            "maintenance 4g4r75 set: until 2026-11-26 20:56:00; 4 components:"
            " x1000c7s[0-1]b0n[0-1]\n",
            self.err,
        )

    def test_list_one(self) -> None:
        """One is shown in full, with how many of its components are silent."""
        self.reply(_PATH, {**_ROW, "Silent": 3, "Untracked": 1})
        self.assertEqual(self.hbtctl("maintenance", "list", "4g4r75"), 0)
        self.assertEqual(
            self.out,
            "4g4r75: until 2026-11-26 20:56:00, by alice\n"
            "  reason      new \\x1bfirmware\n"
            "  in it       4 components: 3 silent, 1 not tracked\n"
            "  components  x1000c7s[0-1]b0n[0-1]\n",
        )

    def test_start(self) -> None:
        """One is set for a while, with who and why; options may stand before the components."""
        answer = {**_ROW, "Untracked": "", "Unknown": "", "Ambiguous": ""}
        self.reply("/maintenance", answer, 201)
        words = ("--for", "1.5h", "--reason", "fw", "x1000c7s[0-1]b0n0", "nid5")
        self.assertEqual(self.hbtctl("maintenance", "start", *words), 0)
        self.assertEqual(self.hbtd.asked[-1][:2], ("POST", "/maintenance"))
        self.assertEqual(
            self.body(),
            {"XNames": ["x1000c7s[0-1]b0n0,nid5"], "For": 5400.0, "Reason": "fw", "By": "me@here"},
        )
        self.assertEqual(
            self.out, "4g4r75: 4 components until 2026-11-26 20:56:00: x1000c7s[0-1]b0n[0-1]\n"
        )
        for text, seconds in (("90", 90.0), ("90s", 90.0), ("15m", 900.0), ("7d", 604800.0)):
            self.hbtctl("maintenance", "start", "x1", "--for", text)
            self.assertEqual(self.body()["For"], seconds)

    def test_start_until(self) -> None:
        """It ends when all are back, with a limit perhaps, or at a time; of a day, the next one."""
        answer = {**_AWAY, "Untracked": "x7", "Unknown": "", "Ambiguous": ""}
        self.reply("/maintenance", answer, 201)
        self.hbtctl("maintenance", "start", "x1", "--until", "back", "--for", "1h", "--by", "bob")
        self.assertEqual(
            self.body(),
            {"XNames": ["x1"], "For": 3600.0, "Until": "back", "Reason": "", "By": "bob"},
        )
        self.assertIn("until 2026-11-26 20:56:00, or until each is back", self.out)
        self.assertEqual(
            self.err, "hbtctl: in it, but not tracked now: x7; --under x7 is for what is in it\n"
        )
        self.hbtctl("maintenance", "start", "x1", "--until", "2026-11-27T06:00:00Z")
        self.assertEqual(self.body()["Until"], "2026-11-27T06:00:00Z")
        self.hbtctl("maintenance", "start", "x1", "--until", "06:00")
        self.assertRegex(self.body()["Until"], r"^20\d\d-\d\d-\d\dT06:00:00Z$")

    def test_not_known(self) -> None:
        """Names that are not in it are reported, and make the exit status 1."""
        answer = {**_ROW, "Untracked": "", "Unknown": "nid9", "Ambiguous": "login"}
        self.reply("/maintenance", answer, 201)
        self.assertEqual(self.hbtctl("maintenance", "start", "nid9,login", "--for", "5m"), 1)
        self.assertEqual(
            self.err,
            "hbtctl: not known, and not in it: nid9\n"
            "hbtctl: sent by several components, and not in it; name them by their xnames: login\n",
        )

    def test_under(self) -> None:
        """It can be set for what is tracked in parts of the machine, but only in all of them."""
        answer = {**_ROW, "Untracked": "", "Unknown": "", "Ambiguous": ""}
        names = [f"x1000c{chassis}s0b0n{n}" for chassis in (6, 7) for n in range(2)]
        self.hbtd.components = [component(name) for name in names]
        self.reply("/maintenance", answer, 201)
        self.hbtctl("maintenance", "start", "--under", "x1000c7", "--for", "5m")
        self.assertEqual(self.body()["XNames"], ["x1000c7s0b0n[0-1]"])
        parts = ("--under", "x1000c7", "--under", "x1000c6")
        self.hbtctl("maintenance", "start", *parts, "--for", "5m")
        self.assertEqual(self.body()["XNames"], ["x1000c[6-7]s0b0n[0-1]"])
        for part in ("x1000c5", "x1000c7"):
            asked = len(self.hbtd.asked)
            status = self.hbtctl("maintenance", "start", *parts, "--under", part, "--for", "5m")
            self.assertEqual(status, int(part == "x1000c5"))
            sent = [method for method, *_ in self.hbtd.asked[asked:]]
            self.assertEqual("POST" in sent, part == "x1000c7")

    def test_change(self) -> None:
        """The end of one is moved, and nothing else is asked to change."""
        self.reply(_PATH, _ROW)
        self.assertEqual(self.hbtctl("maintenance", "change", "4g4r75", "--for", "30m"), 0)
        self.assertEqual(self.hbtd.asked[-1][:2], ("PATCH", _PATH))
        self.assertEqual(self.body(), {"For": 1800.0})

    def test_end(self) -> None:
        """Some are ended; one that is over is an error."""
        self.reply(_PATH, _ROW)
        self.assertEqual(self.hbtctl("maintenance", "end", "4g4r75"), 0)
        self.assertEqual(self.hbtd.asked[-1][:2], ("DELETE", _PATH))
        self.assertEqual(
            self.out, "4g4r75 ended: 4 components judged again, unless in another one\n"
        )
        self.reply(_PATH, problem(404, "There is no maintenance 4g4r75: it is over"), 404)
        self.assertEqual(self.hbtctl("maintenance", "end", "4g4r75"), 1)
        self.assertEqual(
            self.err,
            "hbtctl: There is no maintenance 4g4r75: it is over"
            " (hbtctl maintenance lists all with their IDs)\n",
        )
        self.reply(_PATH, problem(404, "No such path"), 404)
        self.assertEqual(self.hbtctl("maintenance", "list", "4g4r75"), 5)
        self.assertIn("earlier release", self.err)

    def test_misused(self) -> None:
        """What can't be meant is said in one line, and hbtd is asked nothing."""
        for words, why in (
            (("start", "--for", "5m"), "no names"),
            (("start", "x1"), "no end"),
            (("change", "--for", "5m"), "no maintenance is named"),
            (("change", "4g4r75"), "nothing to change"),
            (("end",), "no maintenance is named"),
        ):
            self.assertEqual(self.hbtctl("maintenance", *words), 2, words)
            self.assertIn(why, self.err)
            self.assertEqual(self.err.count("\n"), 1)
        self.assertEqual(self.hbtd.asked, [])
        for line in (
            "start x1 --for soon",
            "start x1 --for 0",
            "stop 4g4r75",
            "end 4g4r75 --fro 5m",
        ):
            with redirect_stderr(StringIO()):
                self.assertRaises(SystemExit, self.hbtctl, "maintenance", *line.split())

    def test_status(self) -> None:
        """`status` says how many are in maintenance, and how many of these are silent."""
        self.hbtctl("status")
        self.assertNotIn("maintenance", self.out)
        self.hbtd.maintenance = {"Set": 1, "Away": 2, "Components": 12, "Silent": 3}
        self.hbtctl("status")
        self.assertIn("\n  in maintenance: 12 components, 3 of them silent, 2 away\n", self.out)

    def test_silent(self) -> None:
        """A component that is silent, and in maintenance, is shown as that, and why is said."""
        found = {**_ROW, "Silent": True}
        self.hbtd.components = [
            component("x1000c0s0b0n0", Maintenance=found),
            component("x1000c0s0b0n1", Maintenance={**found, "Silent": False}),
            component("x1000c0s0b0n2", "dead", Maintenance=found),
        ]
        self.hbtctl("list", "--columns", "xname,state,maintenance", "--no-headers")
        until = "4g4r75 until 2026-11-26 20:56:00: new \\x1bfirmware"
        self.assertEqual(
            [line.split(None, 2) for line in self.out.splitlines()],
            [
                ["x1000c0s0b0n0", "maintenance", until],
                ["x1000c0s0b0n1", "healthy", until],
                ["x1000c0s0b0n2", "dead", until],
            ],
        )
        self.hbtctl("why", "x1000c0s0b0n0")
        self.assertIn(f"\n  maintenance     {until}\n", self.out)
