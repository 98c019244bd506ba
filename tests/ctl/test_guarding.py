"""The command `guard`, and what other commands say of the guard."""

import json
from typing import Any

from hbtd.ctl import following
from hbtd.ctl.event_stream import Event
from tests.support.hbtd_stand_in import AT, CommandTestCase, component, problem

_DISRUPTION = {
    "Domain": "x1000c7",
    "Kind": "chassis",
    "At": AT,
    "Since": AT,
    "Until": "2026-11-26T18:57:30.000Z",
    "Away": 31,
    "Living": 32,
    "Includes": ["x1000c7s0"],
    "Text": "chassis x1000c7 is disrupted: 31 members silent",
    "Held": 31,
    "XNames": "x1000c7s[0-6]b0n[0-3]",
}
_STATEMENT = {
    "Number": 4,
    "At": AT,
    "What": "disrupted",
    "Text": "chassis x1000c7 is \x1bdisrupted: 32 of 32 are silent",
}
_ANSWER = {
    "Mode": "hold",
    "Share": 55,
    "Hold": 90,
    "Groups": 2,
    "Leading": True,
    "Leader": "host-1:28500",
    "Held": 31,
    "Disruptions": [_DISRUPTION],
    "Statements": [_STATEMENT],
}


class GuardTests(CommandTestCase):
    """What is asked, and printed."""

    def reply(self, path: str, answer: Any, status: int = 200) -> None:
        """Have a path answered."""
        self.hbtd.replies[path] = status, {}, answer

    def body(self) -> Any:
        """Return the body of the last request."""
        return self.hbtd.asked[-1][3]

    def test_show(self) -> None:
        """What is disrupted is printed with its members, and what was said last."""
        self.reply("/guard", _ANSWER)
        self.assertEqual(self.hbtctl("guard"), 0)
        self.assertEqual(
            self.out,
            "guard=hold: from 55 % of a domain on, deaths wait for at most 90 s; 2 groups\n"
            "x1000c7 (chassis) is disrupted since 2026-11-26 18:56:00: 31 members silent, in a"
            " domain of 32 that were not dead; 31"
            " deaths wait until 2026-11-26 18:57:30 at most; includes x1000c7s0\n"
            "  x1000c7s[0-6]b0n[0-3]\n"
            "said last, newest first:\n"
            "  2026-11-26 18:56:00  chassis x1000c7 is \\x1bdisrupted: 32 of 32 are silent\n",
        )

    def test_quiet(self) -> None:
        """If nothing is disrupted that is said; `--check` says it by the exit status."""
        self.reply("/guard", {**_ANSWER, "Mode": "report", "Disruptions": [], "Statements": []})
        self.assertEqual(self.hbtctl("guard", "--check"), 0)
        self.assertEqual(
            self.out,
            "guard=report: from 55 % of a domain on, none waits; 2 groups\nnothing is disrupted\n",
        )
        self.reply("/guard", {**_ANSWER, "Mode": "off", "Disruptions": [], "Statements": []})
        self.hbtctl("guard")
        self.assertEqual(self.out, "the guard is off\nnothing is disrupted\n")
        self.reply("/guard", _ANSWER)
        self.assertEqual(self.hbtctl("guard", "--check"), 1)

    def test_follower(self) -> None:
        """A replica that does not lead says whom to ask for the members."""
        shared = {**_DISRUPTION, "Held": None, "XNames": None}
        self.reply("/guard", {**_ANSWER, "Leading": False, "Disruptions": [shared]})
        self.hbtctl("guard")
        self.assertIn("this replica follows host-1:28500, which knows the members\n", self.out)
        self.assertIn("32 that were not dead; deaths wait until 2026-11-26 18:57:30", self.out)

    def test_json(self) -> None:
        """In JSON the answer is printed as it is."""
        self.reply("/guard", _ANSWER)
        self.hbtctl("guard", "-o", "json")
        self.assertIn('"Domain": "x1000c7"', self.out)

    def test_release(self) -> None:
        """Domains are released one by one, or all; what is not disrupted makes the status 1."""
        self.reply("/guard/release", {"Released": ["x1000c7"], "Components": 31})
        self.assertEqual(self.hbtctl("guard", "release", "x1000c7"), 0)
        self.assertEqual(self.body(), {"Domain": "x1000c7"})
        self.assertEqual(self.out, "released x1000c7: 31 deaths wait no more\n")
        self.reply("/guard/release", {"Released": [], "Components": 0})
        self.assertEqual(self.hbtctl("guard", "release", "--all"), 0)
        self.assertEqual((self.body(), self.out), ({}, "nothing was disrupted\n"))
        self.reply("/guard/release", problem(404, "x9 is not disrupted"), 404)
        self.assertEqual(self.hbtctl("guard", "release", "x9"), 1)
        self.assertEqual(self.err, "hbtctl: x9 is not disrupted\n")

    def test_misused(self) -> None:
        """What would be ambiguous is refused, and nothing is asked."""
        for words in (("release",), ("release", "x1", "--all"), ("--all",)):
            self.assertEqual(self.hbtctl("guard", *words), 2, words)
        self.assertEqual(self.hbtd.asked, [])

    def test_events(self) -> None:
        """`events --follow` says what the guard states, apart from the transitions."""
        found = Event("guard", json.dumps(_STATEMENT), "")
        self.patch(following, "follow", lambda *_: iter([found]))
        with self.assertRaises(AssertionError):
            self.hbtctl("events", "--follow", "-n", "0")
        self.assertEqual(self.out, "")
        self.assertIn("2026-11-26 18:56:00  chassis x1000c7 is \\x1bdisrupted", self.err)

    def test_why(self) -> None:
        """`why` says which disruption explains a silence, and until when a death is held."""
        disruption = {"Domain": "x1000c7", "Kind": "chassis", "At": AT, "HeldUntil": None}
        self.hbtd.components = [component("x1000c7s0b0n0", "warned", Disruption=disruption)]
        self.hbtctl("why", "x1000c7s0b0n0")
        self.assertIn("guard           x1000c7 is disrupted since 2026-11-26 18:56:00\n", self.out)
        disruption["HeldUntil"] = AT
        self.hbtctl("why", "x1000c7s0b0n0")
        self.assertIn("since 2026-11-26 18:56:00; held until 2026-11-26 18:56:00 at", self.out)
