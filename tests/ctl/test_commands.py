"""What the commands ask, print, and exit with."""

import json
from collections.abc import Iterator
from io import StringIO
from itertools import count
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hbtd.ctl.acting import wait
from hbtd.ctl.arguments import parse, settings
from hbtd.ctl.client import Client
from hbtd.ctl.failures import Misused, Refused
from hbtd.ctl.following import watch
from hbtd.ctl.invocation import Invocation
from hbtd.ctl.main import run
from hbtd.ctl.terminal import Terminal
from tests.support.hbtd_stand_in import (
    AT,
    TOLD,
    CommandTestCase,
    component,
    entry,
    free_port,
    problem,
)

HOSTILE = "\x1b]0;owned\x07\x9b2J\u202eevil"


def hindrance(**fields: object) -> dict[str, object]:
    """Return a hindrance as hbtd shows it."""
    usual = {"Kind": "stall", "Begin": AT, "End": TOLD, "Seconds": 12.0, "Cause": "did not run"}
    return {**usual, **fields}


def chassis(number: int, state: str = "healthy") -> list[dict[str, object]]:
    """Return the four nodes of a chassis."""
    return [
        component(f"x1000c{number}s{slot}b0n{node}", state, Hostname=f"nid{number}{slot}{node}")
        for slot in (0, 1)
        for node in (0, 1)
    ]


class LookingTests(CommandTestCase):
    """The commands that look."""

    def test_status(self) -> None:
        """`status` has the counts, HSM's condition and the groups that are silent."""
        self.hbtd.components = [*chassis(0), *chassis(7, "dead")]
        self.assertEqual(self.hbtctl("status"), 0)
        self.assertEqual(
            self.out,
            "8 components: 4 healthy, 0 warned, 4 dead\n"
            "HSM ready, 0 changes wait; replica host-1; 2026-11-26 18:56:30 UTC\n"
            "  x1000c7 4/4 silent since 18:56:00, HSM told 18:56:30\n",
        )

    def test_status_disrupted(self) -> None:
        """`status` says which failure domains are disrupted, and until when deaths wait."""
        text = "chassis x1000c7 is disrupted: 4 members silent"
        found = {"Domain": "x1000c7", "Text": text, "HeldUntil": None}
        self.hbtd.components = chassis(0)
        self.hbtd.disruptions = [found, {**found, "HeldUntil": AT}]
        self.assertEqual(self.hbtctl("status"), 0)
        until = "deaths in it wait until 2026-11-26 18:56:00 UTC at most"
        self.assertEqual(self.out.splitlines()[2:], [f"  {text}", f"  {text}; {until}"])

    def absent(self, names: str, number: int, **more: object) -> None:
        """Have hbtd say that nodes are absent."""
        found = {"After": 600, "At": AT, "Number": number, "XNames": names, **more}
        self.hbtd.replies["/reconcile"] = (200, {}, {"Leading": True, "Absent": found})

    def test_absent(self) -> None:
        """`absent` prints who is absent; with `--check` the status says whether anybody is."""
        self.absent("x1000c0s0b0n[0-1]", 2)
        self.assertEqual(self.hbtctl("absent"), 0)
        self.assertEqual(
            self.out,
            "2 nodes are absent, as of HSM's table at 2026-11-26 18:56:00\n  x1000c0s0b0n[0-1]\n",
        )
        self.assertEqual(self.hbtctl("absent", "-o", "nodeset"), 0)
        self.assertEqual(self.out, "x1000c0s0b0n[0-1]\n")
        self.assertEqual(self.hbtctl("absent", "-o", "json"), 0)
        self.assertEqual(json.loads(self.out)["Number"], 2)
        self.assertEqual(self.hbtctl("absent", "--check"), 1)
        self.absent("", 0)
        self.assertEqual(self.hbtctl("absent", "--check"), 0)
        self.assertEqual(self.out, "0 nodes are absent, as of HSM's table at 2026-11-26 18:56:00\n")
        self.absent("x1000c0s0b0n[0-999]", 1200)
        self.assertEqual(self.hbtctl("absent", "-o", "nodeset"), 0)
        self.assertEqual(self.err, "hbtctl: there are 1200; the first 1000 are named\n")

    def test_absent_not_known(self) -> None:
        """Where HSM's table was not read, it says so instead of that nobody is absent."""
        self.absent("", 0, At=None)
        self.assertEqual(self.hbtctl("absent"), 5)
        self.assertIn("this replica has not read HSM's table: it has yet to do so", self.err)
        self.absent("", 0, At=None, After=0)
        self.assertEqual(self.hbtctl("absent"), 5)
        self.assertIn("hbtd's option boot_time is 0", self.err)

    def test_status_absent(self) -> None:
        """`status` has how many nodes are absent, if any are."""
        self.hbtd.components = chassis(0)
        self.assertEqual(self.hbtctl("status"), 0)
        self.assertNotIn("absent", self.out)
        self.hbtd.absent = 3
        self.assertEqual(self.hbtctl("status"), 0)
        self.assertIn("\nHSM ready, 0 changes wait, 3 nodes absent; replica", self.out)

    def test_status_without_hsm(self) -> None:
        """With `nosm` nothing is wrong with HSM: it is left alone."""
        self.hbtd.components = chassis(0)
        self.hbtd.tells_hsm = False
        self.assertEqual(self.hbtctl("status"), 0)
        self.assertIn("\nHSM left alone (nosm), 0 changes wait; replica", self.out)

    def test_status_of_table(self) -> None:
        """`status` says how many components HSM's table was wrong about, if it was."""
        self.hbtd.components = chassis(0)
        self.hbtd.table = {"At": AT, "Wrong": 0, "Held": 0, "Contested": 0}
        self.hbtctl("status")
        self.assertNotIn("table", self.out)
        self.hbtd.table = {"At": AT, "Wrong": 3, "Held": 0, "Contested": 2}
        self.hbtctl("status")
        self.assertIn("0 changes wait, its table was wrong about 3; replica", self.out)

    def test_check(self) -> None:
        """`status --check` exits with status 1 if somebody is silent, and not in maintenance."""
        self.hbtd.components = chassis(0)
        self.assertEqual(self.hbtctl("status", "--check"), 0)
        self.hbtd.components = [*chassis(0), component("x1c0s0b0n0", "warned")]
        self.assertEqual(self.hbtctl("status", "--check"), 1)
        self.hbtd.components += [component("x1c0s0b0n1", "dead")]
        for warned, dead, status in ((1, 1, 0), (0, 1, 1), (1, 0, 1)):
            counts = {"Components": 2, "Silent": 2, "Warned": warned, "Dead": dead}
            self.hbtd.maintenance = {"Set": 1, "Away": 0, **counts}
            self.assertEqual(self.hbtctl("status", "--check"), status)

    def test_list(self) -> None:
        """`list` prints a line for each component; a suffix says that HSM was not told."""
        waiting = {"State": "waiting", "At": None, "Reason": "HSM is not ready"}
        aside = {"State": "set aside", "At": AT, "Reason": "400"}
        doubt = {"State": "in doubt", "At": None, "Reason": None}
        contested = {"State": "contested", "At": None, "Reason": "its table says Off/OK"}
        self.hbtd.components = [
            component("x1000c0s0b0n0"),
            component("x1000c0s0b0n1", "dead", HSM=waiting, Age=192.0),
            component("x1000c0s0b0n2", "warned", HSM=aside, NID=None),
            component("x1000c0s0b0n3", "dead", HSM=doubt, Since=None, Age=None),
            component("x1000c0s0b0n4", "dead", HSM=contested),
        ]
        self.assertEqual(self.hbtctl("list"), 0)
        self.assertEqual(
            self.out,
            "XNAME          NID  STATE    SINCE                AGE    HSM\n"
            "x1000c0s0b0n0  1    healthy  2026-11-26 18:56:00  1.5s   told 2026-11-26 18:56:30\n"
            "x1000c0s0b0n1  1    dead*    2026-11-26 18:56:00  3m12s  waiting: HSM is not ready\n"
            "x1000c0s0b0n2  -    warned!  2026-11-26 18:56:00  1.5s   set aside 2026-11-26 "
            "18:56:00: 400\n"
            "x1000c0s0b0n3  1    dead~    -                    -      in doubt\n"
            "x1000c0s0b0n4  1    dead?    2026-11-26 18:56:00  1.5s   contested: its table says"
            " Off/OK\n",
        )

    def test_list_query(self) -> None:
        """What is asked for is in the query; states have short names."""
        self.hbtctl(
            *("list", "x1000c[0-1]s0b0n0", "nid7", "--state", "silent"),
            *("--under", "x1000", "--type", "Node", "--flapping"),
        )
        self.assertEqual(
            self.hbtd.asked[0][2],
            {
                "names": "x1000c[0-1]s0b0n0,nid7",
                "state": "warned,dead",
                "under": "x1000",
                "type": "Node",
                "flapping": "true",
                "limit": "1000",
            },
        )
        self.hbtctl("list")
        self.assertEqual(self.hbtd.asked[-1][2], {"limit": "1000"})

    def test_list_maintenance(self) -> None:
        """Those in maintenance can be asked for, alone or with others."""
        self.hbtctl("list", "--state", "maintenance,silent")
        self.assertEqual(self.hbtd.asked[0][2]["state"], "maintenance,warned,dead")
        self.assertEqual(self.hbtctl("wait", "x1000c0s0b0n0", "--state", "maintenance"), 2)

    def test_unknown(self) -> None:
        """Components that are named but not tracked are said so, with status 1."""
        self.hbtd.components = chassis(0)
        self.assertEqual(self.hbtctl("list", "x1000c0s0b0n[0-1],x1000c9s0b0n0"), 1)
        self.assertEqual(self.err, "hbtctl: not tracked: x1000c9s0b0n0\n")
        self.assertEqual(self.out.count("\n"), 3)

    def test_columns(self) -> None:
        """`--columns` chooses columns; an unknown one is refused with those that exist."""
        self.hbtd.components = chassis(0)[:1]
        self.assertEqual(self.hbtctl("list", "--columns", "hostname,STATE", "--no-headers"), 0)
        self.assertEqual(self.out, "nid000  healthy\n")
        self.assertEqual(self.hbtctl("list", "--columns", "host"), 2)
        self.assertIn("no column 'host'; there are xname, type, hostname", self.err)

    def test_wide(self) -> None:
        """`-o wide` has all columns."""
        self.hbtd.components = chassis(0)[:1]
        self.hbtctl("list", "-o", "wide")
        header = self.out.splitlines()[0].split()
        self.assertEqual(len(header), 14)
        self.assertIn("10.1.2.3", self.out)

    def test_held(self) -> None:
        """One whose death the guard lets wait is held; one that died, or does not wait, is not."""
        waits = {"Domain": "x1", "Kind": "cabinet", "At": AT, "HeldUntil": AT}
        self.hbtd.components = [
            component("x1", State="warned", Disruption=waits),
            component("x2", State="warned", Disruption={**waits, "HeldUntil": None}),
            component("x3", State="dead", Disruption=waits),
        ]
        self.hbtctl("list", "--columns", "xname,state", "--no-headers")
        self.assertEqual(self.out, "x1  held\nx2  warned\nx3  dead\n")

    def test_flapping(self) -> None:
        """A column says who is flapping; `why` says how often one has changed."""
        self.hbtd.components = [component("x1", Flapping=True), component("x2", Flapping=False)]
        self.hbtctl("list", "--columns", "xname,flapping", "--no-headers")
        self.assertEqual(self.out, "x1  yes\nx2  -\n")
        self.hbtd.changes = 7
        for name, expected in (("x1", "7 within the last hour, flapping"), ("x2", "last hour\n")):
            self.hbtctl("why", name)
            self.assertIn("  state changes   7 within the last hour", self.out)
            self.assertIn(expected, self.out)
        self.hbtd.changes = 0
        self.hbtctl("why", "x1")
        self.assertNotIn("state changes", self.out)

    def test_nodeset(self) -> None:
        """`-o nodeset` prints the names, folded."""
        self.hbtd.components = [*chassis(0), *chassis(7, "dead")]
        self.assertEqual(self.hbtctl("list", "--state", "dead", "-o", "nodeset"), 0)
        self.assertEqual(self.out, "x1000c7s[0-1]b0n[0-1]\n")
        self.assertEqual(self.hbtctl("list", "--state", "warned", "-o", "nodeset"), 0)
        self.assertEqual(self.out, "\n")

    def test_pages(self) -> None:
        """All pages are fetched, up to `--limit`; then it is said that there are more."""
        self.hbtd.components = [component(f"x1000c0s{i}b0n0") for i in range(2500)]
        self.assertEqual(self.hbtctl("list", "--no-headers", "--columns", "xname"), 0)
        self.assertEqual(self.out.splitlines()[2499], "x1000c0s2499b0n0")
        self.assertEqual([query["limit"] for *_, query, _ in self.hbtd.asked], ["1000"] * 3)
        self.assertEqual(self.hbtctl("list", "--no-headers", "--limit", "1200"), 0)
        self.assertEqual(self.out.count("\n"), 1200)
        self.assertEqual(self.err, "hbtctl: there are more than 1200 (--limit)\n")

    def test_many_names(self) -> None:
        """Names that are too long for one query are asked for in several, and none is lost."""
        self.hbtd.components = [component(f"x{i}c0s0b0n0", Hostname=f"n{i}") for i in range(1000)]
        names = ",".join(f"x{i}c0s0b0n0" for i in range(999, -1, -2))
        self.assertEqual(self.hbtctl("list", names, "--no-headers", "--columns", "xname"), 0)
        self.assertEqual(self.out.split(), [f"x{i}c0s0b0n0" for i in range(1, 1000, 2)])
        self.assertGreater(len(self.hbtd.asked), 1)

    def test_many_names_limited(self) -> None:
        """Once there are as many as asked for, the names that are left are not asked about."""
        self.hbtd.components = [component(f"x{i}c0s0b0n0", Hostname=f"n{i}") for i in range(1000)]
        names = ",".join(f"x{i}c0s0b0n0" for i in range(1000))
        one = ("list", names, "--no-headers", "--columns", "xname", "--limit", "3")
        self.assertEqual(self.hbtctl(*one), 0)
        self.assertEqual(self.out.split(), [f"x{i}c0s0b0n0" for i in range(3)])
        self.assertEqual(len(self.hbtd.asked), 1)

    def test_one(self) -> None:
        """One component is counted in the singular."""
        self.hbtd.components = [component("x1000c0s0b0n0")]
        self.assertEqual(self.hbtctl("status"), 0)
        self.assertIn("1 component: 1 healthy", self.out)
        self.assertEqual(self.hbtctl("tree"), 0)
        self.assertIn("1 component: 1 healthy", self.out)

    def test_place(self) -> None:
        """Who names a chassis as if it were a component is told of `--under`."""
        self.hbtd.components = chassis(7)
        self.assertEqual(self.hbtctl("list", "x1000c7"), 1)
        self.assertEqual(
            self.err, "hbtctl: not tracked: x1000c7; --under x1000c7 is for what is in it\n"
        )
        self.hbtctl("list", "x1000c9s0b0n0")
        self.assertEqual(self.err, "hbtctl: not tracked: x1000c9s0b0n0\n")

    def test_json(self) -> None:
        """`-o json` is hbtd's own answer, before or behind the command."""
        self.hbtd.components = chassis(0)[:1]
        for words in (("-o", "json", "list"), ("list", "-o", "json")):
            self.assertEqual(self.hbtctl(*words), 0)
            self.assertEqual(
                json.loads(self.out),
                {"Components": chassis(0)[:1], "Next": None, "Unknown": ""},
            )

    def test_hostile_fields(self) -> None:
        """Whatever nodes choose, no command sends it to the terminal as it is."""
        c = component("x1000c0s0b0n0", "dead", Hostname=HOSTILE, Status=HOSTILE, Timestamp=HOSTILE)
        c |= {"NID": HOSTILE, "Source": HOSTILE}
        c["HSM"] = {"State": "set aside", "At": AT, "Reason": HOSTILE}
        self.hbtd.components = [c]
        self.hbtd.log = [entry(1, "x1000c0s0b0n0", Why=HOSTILE, Judge=HOSTILE)]
        self.hbtd.params = {"Warntime": HOSTILE}
        for words in (
            *(("list", "-o", form) for form in ("table", "wide", "json", "nodeset")),
            *(("why", "x1000c0s0b0n0"), ("tree",), ("events",), ("history",), ("params",)),
            *(("why", "x1000c0s0b0n0", "-o", "json"), ("events", "-o", "json")),
        ):
            for typed, environ in ((None, {}), ("", {"TERM": "xterm"})):
                self.hbtctl(*words, typed=typed, **environ)
                for char in ("\x1b", "\x07", "\x9b", "\u202e"):
                    self.assertNotIn(char, self.out + self.err, words)

    def test_why(self) -> None:
        """`why` says what the state is and since when, why, how it beats, and what HSM knows."""
        self.hbtd.components = chassis(7, "dead")
        self.hbtd.log = [
            entry(8, "x1000c7s0b0n0", "warned", From="healthy", At="2026-11-26T18:55:40.000Z"),
            entry(9, "x1000c7s0b0n0"),
        ]
        self.assertEqual(self.hbtctl("why", "nid700"), 0)
        self.assertEqual(
            self.out,
            "x1000c7s0b0n0 (Node, nid700, NID 1)\n"
            "dead since 2026-11-26 18:56:00\n"
            "  why             no heartbeat for 34.2 s, more than Errtime\n"
            "  last heartbeat  2026-11-26 18:55:29, 1.5s ago from 10.1.2.3\n"
            "  it said         status OK, time 2026-11-26T18:55:29Z\n"
            "  its period      3.00 s on average, +- 0.02 s; longest gap 3.9 s\n"
            "  limits          warned after 10 s of silence, dead after 30 s\n"
            "  HSM             told 2026-11-26 18:56:30\n"
            "transitions, newest first:\n"
            "  2026-11-26 18:56:00  died      silent for 30.2 s (host-1)\n"
            "  2026-11-26 18:55:40  warned    silent for 30.2 s (host-1)\n",
        )

    def test_why_hindered(self) -> None:
        """`why` has what hindered hbtd meanwhile, before the transitions."""
        self.hbtd.components = [component("x1000c7s0b0n0", "warned")]
        self.hbtd.log = [entry(7, "x1000c7s0b0n0", "warned")]
        self.hbtd.hindrances = [hindrance()]
        self.assertEqual(self.hbtctl("why", "x1000c7s0b0n0"), 0)
        self.assertIn(
            "what hindered hbtd meanwhile:\n"
            "  2026-11-26 18:56:00 to 2026-11-26 18:56:30    12.0s  stall        did not run\n"
            "transitions, newest first:\n",
            self.out,
        )

    def test_why_threshold(self) -> None:
        """`why` names the threshold by which a component has its limits, without its controls."""
        self.hbtd.components = chassis(7)
        self.hbtd.threshold_of["x1000c7s0b0n0"] = f"Node{HOSTILE}"
        self.assertEqual(self.hbtctl("why", "nid700"), 0)
        self.assertIn("s of silence, dead after 30 s, by the threshold Node\\x1b]0;owned", self.out)

    def test_why_unknown(self) -> None:
        """A component that is not known is said so, with status 1; others are still explained."""
        self.hbtd.components = chassis(0)
        self.assertEqual(self.hbtctl("why", "x1000c0s0b0n[0-1]", "x1000c9s0b0n0"), 1)
        self.assertEqual(self.out.count("limits"), 2)
        self.assertIn("No such thing", self.err)

    def test_history(self) -> None:
        """`history` prints transitions, and hands the times to hbtd."""
        self.hbtd.log = [entry(1, "x1000c0s0b0n0", "started", From=None), entry(2, "x1c0s0b0n0")]
        self.assertEqual(self.hbtctl("history", "x1000c0s0b0n0", "--since", "-2h"), 0)
        self.assertEqual(
            self.out,
            "TIME                 XNAME          FROM  TO       TRANSITION  WHY\n"
            "2026-11-26 18:56:00  x1000c0s0b0n0  -     healthy  started     silent for 30.2 s\n",
        )
        query = self.hbtd.asked[0][2]
        self.assertEqual((query["since"], query["order"]), ("-2h", "oldest"))

    def test_history_of_nobody(self) -> None:
        """If the log has nothing of a chassis, standard error says how to ask about one."""
        self.assertEqual(self.hbtctl("history", "x1000c7"), 0)
        self.assertIn("nothing of this is in the log: x1000c7; --under x1000c7", self.err)

    def test_history_names(self) -> None:
        """`history --at` prints names alone, too, and a time of day is the latest such moment."""
        self.hbtd.components = chassis(7, "dead")
        self.assertEqual(self.hbtctl("history", "--at", "18:56", "-o", "nodeset"), 0)
        self.assertEqual(self.out, "x1000c7s[0-1]b0n[0-1]\n")
        self.assertRegex(self.hbtd.asked[0][2]["at"], r"^\d{4}-\d\d-\d\dT18:56:00Z$")

    def test_empty_names(self) -> None:
        """Names that turn out to be nobody are refused, instead of standing for everybody."""
        self.hbtd.components = chassis(0)
        for command in ("list", "tree", "history", "events", "wait", "why", "forget"):
            for words in (["-"], [""], [","]):
                self.assertEqual(self.hbtctl(command, *words), 2, command)
                self.assertIn("stands for no component", self.err)
        self.assertEqual((self.out, self.hbtd.asked), ("", []))

    def test_history_limit(self) -> None:
        """It is said when there is more; 0 is no limit."""
        self.hbtd.log = [entry(i, "x1000c0s0b0n0") for i in range(1, 2002)]
        self.assertEqual(self.hbtctl("history", "--no-headers"), 0)
        self.assertEqual(self.out.count("\n"), 1000)
        self.assertIn("there are more than 1000; --limit 0 shows all", self.err)
        self.assertEqual(self.hbtctl("history", "--no-headers", "--limit", "0"), 0)
        self.assertEqual((self.out.count("\n"), self.err), (2001, ""))

    def test_moment(self) -> None:
        """`history --at` prints the states of a moment, and whether the log knows them all."""
        self.hbtd.components = chassis(7, "dead")
        self.assertEqual(self.hbtctl("history", "--at", AT, "--state", "ok"), 0)
        self.assertEqual(self.out.splitlines()[1], "x1000c7s0b0n0  dead   2026-11-26 18:56:00")
        self.assertIn("the log does not reach so far back", self.err)
        query = self.hbtd.asked[0][2]
        self.assertEqual((query["at"], query["state"]), (AT, "healthy"))
        self.assertEqual(self.hbtctl("history", "--state", "ok"), 2)


class TreeTests(CommandTestCase):
    """The machine as a tree."""

    def test_tree(self) -> None:
        """Places in one state are one line, others are opened down to the components."""
        alone = component("x1000c2s1b0n1", "dead")
        self.hbtd.components = [
            *chassis(0),
            *(alone if c["XName"] == alone["XName"] else c for c in chassis(2)),
            *chassis(7, "dead"),
            component("x3000c0s1b0n0"),
        ]
        self.assertEqual(self.hbtctl("tree"), 0)
        self.assertEqual(
            self.out,
            "13 components: 5 dead, 8 healthy\n"
            "|- x1000  5 dead, 7 healthy\n"
            "|  |- x1000c0  4/4 healthy\n"
            "|  |- x1000c2  1 dead, 3 healthy\n"
            "|  |  |- x1000c2s0  2/2 healthy\n"
            "|  |  `- x1000c2s1  1 dead, 1 healthy\n"
            "|  |     |- x1000c2s1b0n1  dead since 2026-11-26 18:56:00, "
            "HSM told 2026-11-26 18:56:30\n"
            "|  |     `- x1000c2s1b0n0  healthy\n"
            "|  `- x1000c7  4/4 dead since 2026-11-26 18:56:00, HSM told 2026-11-26 18:56:30\n"
            "`- x3000  1/1 healthy\n",
        )

    def test_down(self) -> None:
        """With `--down` there is nothing but what is silent, and who HSM was not told of."""
        waiting = {"State": "waiting", "At": None, "Reason": "HSM is not ready"}
        self.hbtd.components = [*chassis(0), *chassis(7, "dead")]
        self.hbtd.components[-1]["HSM"] = waiting
        self.assertEqual(self.hbtctl("tree", "--down"), 0)
        self.assertEqual(
            self.out,
            "8 components: 4 dead, 4 healthy\n"
            "`- x1000  4 dead, 4 healthy\n"
            "   `- x1000c7  4/4 dead since 2026-11-26 18:56:00, HSM not told of 1: "
            "waiting: HSM is not ready\n",
        )

    def test_down_asks(self) -> None:
        """`--down` asks for those that are silent, not for all others; `--under` is passed on."""
        self.hbtd.components = [*chassis(0), *chassis(7, "dead"), component("sms01", "dead")]
        node = "x1000c7s1b0n0"
        self.assertEqual(self.hbtctl("tree", "--down", "--under", node), 0)
        self.assertIn("1 component: 1 dead\n`- x1000  1/1 dead since 2026", self.out)
        self.hbtd.asked.clear()
        self.assertEqual(self.hbtctl("tree", "--down", "--under", "x1000c7s1"), 0)
        self.assertEqual(
            [(path, query.get("state"), query["under"]) for _, path, query, _ in self.hbtd.asked],
            [("/components", "warned,dead", "x1000c7s1"), ("/tree", None, "x1000c7s1")],
        )
        self.assertEqual(
            self.out,
            "2 components: 2 dead\n"
            "`- x1000  2/2 dead since 2026-11-26 18:56:00, HSM told 2026-11-26 18:56:30\n",
        )

    def test_down_meanwhile(self) -> None:
        """Who was heard again while hbtd was asked is not shown; nor is an error who died then."""
        self.hbtd.components = [*chassis(0), *chassis(7, "dead")]
        calm = {"healthy": 8, "warned": 0, "dead": 0, "total": 8}
        self.hbtd.replies["/tree"] = (200, {}, {"Counts": calm, "Parts": [], "Next": None})
        self.assertEqual(self.hbtctl("tree", "--down"), 0)
        self.assertEqual(self.out, "8 components: 8 healthy\n")
        everything = {"healthy": 0, "warned": 0, "dead": 8, "total": 8}
        parts = [{"XName": "x1000", "Type": "Cabinet", "Counts": everything}]
        self.hbtd.components = chassis(0)
        self.hbtd.replies["/tree"] = (
            200, {}, {"Counts": everything, "Parts": parts, "Next": None},
        )  # fmt: skip
        self.assertEqual(self.hbtctl("tree", "--down"), 0)
        self.assertIn("x1000  8/8 dead", self.out)

    def test_calm(self) -> None:
        """When nobody is silent, `--down` is one line."""
        self.hbtd.components = chassis(0)
        self.assertEqual(self.hbtctl("tree", "--down"), 0)
        self.assertEqual(self.out, "4 components: 4 healthy\n")

    def test_outside(self) -> None:
        """Components outside of slots, or of cabinets, are in the tree as well."""
        self.hbtd.components = [
            component("x1000c0b0", "warned"),
            component("x1000", "dead"),
            component("sms01", "dead"),
            component("x1000c0r1b0"),
        ]
        self.assertEqual(self.hbtctl("tree"), 0)
        for name in ("x1000c0b0  warned", "x1000c0r1  1/1 healthy", "sms01,x1000  dead"):
            self.assertIn(name, self.out)

    def test_unknown(self) -> None:
        """Components that are named but not tracked make status 1."""
        self.assertEqual(self.hbtctl("tree", "x1000c0s0b0n0"), 1)


class FollowingTests(CommandTestCase):
    """The commands that follow."""

    def test_latest(self) -> None:
        """`events` prints the last transitions, oldest first."""
        self.hbtd.log = [entry(i, f"x1000c0s{i}b0n0") for i in range(30)]
        self.assertEqual(self.hbtctl("events", "-n", "2"), 0)
        self.assertEqual(
            self.out,
            "2026-11-26 18:56:00  x1000c0s28b0n0   died      silent for 30.2 s (host-1)\n"
            "2026-11-26 18:56:00  x1000c0s29b0n0   died      silent for 30.2 s (host-1)\n",
        )

    def test_after(self) -> None:
        """`--after` prints what follows a number of the log."""
        self.hbtd.log = [entry(i, f"x1000c0s{i}b0n0") for i in range(2000)]
        self.assertEqual(self.hbtctl("events", "--after", "1997", "-o", "json"), 0)
        numbers = [json.loads(line)["Number"] for line in self.out.splitlines()]
        self.assertEqual(numbers, [1998, 1999])

    def test_follow(self) -> None:
        """`--follow` goes on after a break where it was, and says what is missing."""
        self.hbtd.log = [entry(7, "x1000c0s0b0n0")]

        def events(*lines: str) -> bytes:
            return "".join(f"{line}\n" for line in lines).encode()

        data = json.dumps(entry(8, "x1000c0s1b0n0"))
        self.hbtd.streams = [
            lambda: events(": hi", "id: 8", "event: transition", f"data: {data}", "", "id: 9"),
            lambda: events("event: missed", "data: {}", "", "event: transition", "data: 1", ""),
        ]
        self.assertEqual(self.hbtctl("events", "--follow", "x1000c0s[0-1]b0n0"), 5)
        self.assertEqual([line.split()[2] for line in self.out.splitlines()],
                         ["x1000c0s0b0n0", "x1000c0s1b0n0"])  # fmt: skip
        self.assertEqual(self.hbtd.last_ids, ["7", "8"])
        self.assertEqual(
            self.err.splitlines(),
            [
                "hbtctl: hbtd has ended the stream; connecting again",
                "hbtctl: connected again",
                "hbtctl: some transitions are missing here: `hbtctl history` has them",
                "hbtctl: /events sent what is no transition: 1",
            ],
        )

    def test_follow_flapping(self) -> None:
        """`--follow` says who begins and who ceases to be flapping, as JSON too."""
        marks = [
            {"XName": "x1", "Flapping": True, "Changes": 11, "At": AT},
            {"XName": "x1", "Flapping": False, "Changes": 5, "At": AT},
        ]
        data = [f"event: flapping\ndata: {json.dumps(mark)}\n\n" for mark in marks]
        stream = "".join([*data, "event: flapping\ndata: {}\n\n"]).encode()
        for options, expected in (
            (
                [],
                "2026-11-26 18:56:00  x1               flapping  11 state changes within the last"
                " hour\n"
                "2026-11-26 18:56:00  x1               steady    5 state changes within the last"
                " hour\n",
            ),
            (["-o", "json"], "".join(f"{json.dumps(mark)}\n" for mark in marks)),
        ):
            self.hbtd.streams = [lambda: stream]
            self.assertEqual(self.hbtctl("events", "--follow", *options), 5)
            self.assertEqual(self.out.replace(": ", ":").replace(", ", ","),
                             expected.replace(": ", ":").replace(", ", ","))  # fmt: skip
            self.assertIn("/events sent what is no flapping: {}", self.err)

    def test_follow_refused(self) -> None:
        """A stream that is refused at first ends the command."""
        self.assertEqual(self.hbtctl("events", "-f"), 5)
        self.assertIn("There are too many readers; again in 1 s", self.err)
        self.hbtd.replies["/events"] = (400, {}, problem(400, "names: no nodeset"))
        self.assertEqual(self.hbtctl("events", "-f"), 2)

    def test_watch(self) -> None:
        """`watch` prints the state of affairs at once and after each event, until refused."""
        self.hbtd.components = chassis(7, "dead")
        data = json.dumps(entry(8, "x1000c7s0b0n0"))

        def stream() -> bytes:
            self.hbtd.replies["/events"] = (400, {}, problem(400, "enough"))
            return f"id: 8\nevent: transition\ndata: {data}\n\n".encode()

        self.hbtd.streams = [stream]
        self.assertEqual(self.hbtctl("watch"), 2)
        self.assertIn("4 components: 0 healthy, 0 warned, 4 dead", self.out)
        self.assertIn("enough", self.err)


class Trickle:
    """An API whose events come one after another; it counts the summaries that it is asked for."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.summaries = 0

    def get(self, path: str, query: Any = None) -> Any:
        """Return an empty history, or a summary."""
        self.summaries += path == "/summary"
        counts = {"healthy": 1, "warned": 0, "dead": 0, "total": 1}
        return {"Entries": []} if path == "/history" else {"Counts": counts, "At": AT}

    def stream(self, path: str, query: Any, last_id: str, silence: float) -> Iterator[bytes]:
        """Return the events, and refuse what comes after them."""
        for number in range(1, self.events + 1):
            data = json.dumps(entry(number, "x1000c7s0b0n0"))
            yield f"id: {number}\nevent: transition\ndata: {data}\n\n".encode()
            mark = {"XName": "x1000c7s0b0n0", "Flapping": True, "Changes": 11, "At": AT}
            yield f"event: flapping\ndata: {json.dumps(mark)}\n\n".encode()
        raise Refused("enough")


class TrickleTests(SynchronousTestCase):
    """`watch` while something happens all the time."""

    def test_redrawn(self) -> None:
        """It is drawn about once a second: neither for each event, nor only when there is peace."""
        api: Any = Trickle(events=30)
        out = StringIO()
        options = parse(["watch"], {})
        times = count(0.0, 0.25)  # so long takes each event, whenever the other thread reads it
        terminal = Terminal(StringIO(), out, StringIO(), {})
        run = Invocation(api, terminal, options, lambda: next(times))
        self.assertRaises(Refused, watch, run, api)
        self.assertEqual(out.getvalue().count("1 component:"), api.summaries)
        self.assertIn(api.summaries, range(60 // 5, 60 // 2))
        for line in ("died      silent for 30.2 s", "flapping  11 state changes within the last"):
            self.assertIn(f"x1000c7s0b0n0    {line}", out.getvalue())


class ActingTests(CommandTestCase):
    """The commands that do something."""

    def test_forget_under(self) -> None:
        """`--under` forgets what is in a part of the machine; status 1 if that is nothing."""
        self.hbtd.components = [*chassis(0), *chassis(7)]
        self.assertEqual(self.hbtctl("forget", "--under", "x1000c7", typed="y\n"), 0)
        self.assertIn("Forget x1000c7s[0-1]b0n[0-1]? [y/N] ", self.err)
        self.assertEqual(self.hbtd.components, chassis(0))
        self.assertEqual(self.hbtctl("forget", "--yes", "--under", "x1000c7"), 1)
        self.assertEqual(self.err, "hbtctl: nothing of that is tracked in x1000c7\n")
        only = ("--under", "x1000c0", "x1000c0s0b0n0,x1000c7s0b0n0")
        self.assertEqual(self.hbtctl("forget", "--yes", *only), 0)
        self.assertEqual(self.hbtd.components, chassis(0)[1:])
        self.assertEqual(self.hbtctl("forget", "--yes", "x1000c7"), 1)
        self.assertIn("--under x1000c7 is for what is in it", self.err)

    def test_forget(self) -> None:
        """`forget --yes` asks nobody, and says what was found; status 1 if not all were."""
        self.hbtd.components = chassis(0)
        self.assertEqual(self.hbtctl("forget", "--yes", "x1000c0s0b0n[0-1]"), 0)
        self.assertEqual(self.out, "2 forgotten: x1000c0s0b0n[0-1]\n")
        self.assertEqual(self.hbtctl("forget", "-y", "x1000c0s[0-1]b0n0"), 1)
        self.assertEqual(self.out, "1 forgotten: x1000c0s1b0n0\n")
        self.assertEqual(self.err, "hbtctl: not tracked: x1000c0s0b0n0\n")

    def test_forget_asks(self) -> None:
        """On a terminal it asks, and does nothing without a yes."""
        self.hbtd.components = chassis(0)
        self.assertEqual(self.hbtctl("forget", "x1000c0s0b0n0", typed="\n"), 1)
        self.assertIn("Forget x1000c0s0b0n0? [y/N] ", self.err)
        self.assertEqual(self.hbtd.asked, [])
        self.assertEqual(self.hbtctl("forget", "x1000c0s0b0n0", typed="y\n"), 0)
        self.assertEqual(len(self.hbtd.components), 3)

    def test_forget_piped(self) -> None:
        """Where nobody can be asked it does nothing without `--yes`, nor without names."""
        self.assertEqual(self.hbtctl("forget", "x1000c0s0b0n0"), 2)
        self.assertIn("--yes", self.err)
        self.assertEqual(self.hbtctl("forget", "--yes", ","), 2)
        self.assertEqual(self.hbtd.asked, [])

    def test_params(self) -> None:
        """`params` prints all parameters, or some, whatever the case."""
        self.assertEqual(self.hbtctl("params", "--no-headers"), 0)
        self.assertEqual(self.out, "Warntime  10\nErrtime   30\nSm_url    http://hsm\n")
        self.assertEqual(self.hbtctl("params", "--no-headers", "errtime"), 0)
        self.assertEqual(self.out, "Errtime  30\n")

    def test_params_change(self) -> None:
        """A value changes a parameter; the old one is shown."""
        self.assertEqual(self.hbtctl("params", "--no-headers", "warntime=20", "sm_url=a=b"), 0)
        self.assertEqual(self.out, "Warntime  20 (was 10)\nSm_url    a=b (was http://hsm)\n")
        self.assertEqual(self.hbtd.asked[1][3], {"Warntime": "20", "Sm_url": "a=b"})
        self.assertEqual(self.err, "")

    def test_params_order(self) -> None:
        """A change after which nobody is warned any more is remarked on."""
        self.assertEqual(self.hbtctl("params", "errtime=3"), 0)
        self.assertIn("Errtime is not above Warntime", self.err)

    def test_params_unknown(self) -> None:
        """An unknown parameter is refused before anything is changed."""
        self.assertEqual(self.hbtctl("params", "errtime=40", "warntim=20"), 2)
        self.assertIn("no parameter 'warntim' (did you mean Warntime?)", self.err)
        self.assertEqual(self.hbtctl("params", "errtime", "40"), 2)
        self.assertEqual(self.err, "hbtctl: to change errtime, write errtime=40\n")
        self.assertEqual([method for method, *_ in self.hbtd.asked], ["GET", "GET"])

    def test_send(self) -> None:
        """`send` is a node: all five fields, as often as asked."""
        words = ("send", "x1000c0s0b0n0", "--nid", "7", "--hostname", "nid7", "--status", "Fine")
        self.assertEqual(self.hbtctl(*words, "--count", "3", "--period", "0.01"), 0)
        self.assertEqual(self.out, "3 heartbeats sent\n")
        bodies = [body for *_, body in self.hbtd.asked]
        self.assertEqual(len(bodies), 3)
        self.assertRegex(bodies[0].pop("Timestamp"), r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            bodies[0],
            {"Component": "x1000c0s0b0n0", "Hostname": "nid7", "NID": "7", "Status": "Fine"},
        )

    def test_send_leave(self) -> None:
        """With `--leave` the component is forgotten at the end."""
        self.assertEqual(self.hbtctl("send", "x1c0s0b0n0", "--count", "1", "--leave"), 0)
        self.assertEqual(
            [(method, path) for method, path, *_ in self.hbtd.asked],
            [("POST", "/heartbeat"), ("DELETE", "/heartbeat/x1c0s0b0n0")],
        )

    def test_send_refused(self) -> None:
        """A heartbeat that is refused ends it; one that finds nobody is tried again."""
        self.hbtd.replies["/heartbeat"] = (400, {}, problem(400, "Invalid NID"))
        self.assertEqual(self.hbtctl("send", "x1c0s0b0n0"), 2)
        invalid = problem(400, "Invalid Component Name")
        self.hbtd.replies["/heartbeat"] = (400, {}, invalid)
        self.assertEqual(self.hbtctl("send", "nid000001"), 2)
        self.assertIn("Invalid Component Name: nid000001 is no xname such as", self.err)
        self.url = f"http://localhost:{free_port()}"
        self.assertEqual(self.hbtctl("send", "x1c0s0b0n0", "--count", "2", "--period", ".01"), 3)
        self.assertEqual(self.err.count("trying again every 0.01 s"), 1)

    def test_health(self) -> None:
        """`health` prints what hbtd says; status 1 if it is not ready."""
        self.assertEqual(self.hbtctl("health"), 0)
        self.assertEqual(self.out, "ready\nKvStore: HBTD_OK\nHsmStatus: Ready\n")
        self.hbtd.ready = False
        self.assertEqual(self.hbtctl("health"), 1)
        self.assertEqual(self.out.splitlines()[0], "NOT READY")

    def test_health_hindered(self) -> None:
        """`health` prints what hinders hbtd, one hindrance a line; whatever a cause says."""
        hindrances = [hindrance(End=None, Cause=HOSTILE), hindrance(Kind="slow_store")]
        self.hbtd.replies["/health"] = (200, {}, {"HsmStatus": "Ready", "Hindrances": hindrances})
        self.assertEqual(self.hbtctl("health"), 0)
        self.assertEqual(
            self.out.splitlines()[1:],
            [
                "HsmStatus: Ready",
                "what hinders hbtd, or did in the last ten minutes:",
                "  2026-11-26 18:56:00 until now                 12.0s  stall      "
                "  \\x1b]0;owned\\x07\\x9b2J\\u202eevil",
                "  2026-11-26 18:56:00 to 2026-11-26 18:56:30    12.0s  slow_store   did not run",
            ],
        )

    def test_internals(self) -> None:
        """`internals` prints nested facts as an outline."""
        self.hbtd.replies["/internals"] = (
            *(200, {}),
            {"Uptime": 7.25, "Kafka": None, "TLS": True, "Gaps": [{"At": AT, "Seconds": 3.0}],
             "Store": {"Kind": "etcd", "Members": ["a\x1b", "b"]}},
        )  # fmt: skip
        self.assertEqual(self.hbtctl("internals"), 0)
        self.assertEqual(
            self.out,
            "Uptime: 7.25\nKafka: -\nTLS: yes\n"
            f"Gaps:\n  - At {AT}, Seconds 3\n"
            "Store:\n  Kind: etcd\n  Members:\n    - a\\x1b\n    - b\n",
        )


class ReconcileTests(CommandTestCase):
    """`reconcile`, whose comparison has ended at once."""

    def reconcile(self, *words: str, **found: object) -> int:
        """Run it; hbtd's comparison finds this, and nothing else."""
        nothing = {"Number": 0, "XNames": ""}
        groups = ("Told", "Waiting", "Held", "Contested", "Unsettled", "Unknown")
        report = {"Number": 7, "DryRun": bool(words), "Nosm": False, "Rows": 9, "Differences": 1}
        last = {**report, **dict.fromkeys(groups, nothing), **found}
        answer = {"Number": 7, "Last": last, "Begun": 7, "State": "idle", "Leading": True}
        self.hbtd.replies["/reconcile"] = (200, {}, answer)
        return self.hbtctl("reconcile", *words)

    def test_dry_run(self) -> None:
        """A dry run asks for one, says what would be told, and exits with 1 if anything would."""
        some = {"Number": 1, "XNames": "x0c0s0b0n0"}
        self.assertEqual(self.reconcile("--dry-run", Told=some), 1)
        self.assertEqual(self.hbtd.asked[0], ("POST", "/reconcile", {}, {"DryRun": True}))
        self.assertEqual(
            self.out, "HSM's table has 9 rows; wrong: 1\n1 would be told again: x0c0s0b0n0\n"
        )
        self.assertEqual(self.reconcile("--dry-run"), 0)

    def test_told(self) -> None:
        """Without that, what is told again is right soon: the status is 0."""
        some = {"Number": 1, "XNames": "x0c0s0b0n0"}
        self.assertEqual(self.reconcile(Told=some), 0)
        self.assertEqual(self.hbtd.asked[0], ("POST", "/reconcile", {}, {"DryRun": False}))
        self.assertIn("\n1 told again: x0c0s0b0n0\n", self.out)

    def test_stays_wrong(self) -> None:
        """What stays wrong is said, and the status is 1."""
        some = {"Number": 101, "XNames": "x0c0s0b0n[0-100]"}
        for name, said in (("Held", "deaths that are too many"), ("Contested", "contested")):
            self.assertEqual(self.reconcile(**{name: some}), 1)
            self.assertIn(f"\n101 {said}", self.out)

    def test_nosm(self) -> None:
        """With nosm it is said that HSM is told nothing; what is wrong stays so."""
        some = {"Number": 1, "XNames": "x0c0s0b0n0"}
        self.assertEqual(self.reconcile(Nosm=True, Told=some), 1)
        self.assertIn("\nnosm is set: HSM is told nothing\n1 would be told again: x", self.out)


class WaitTests(CommandTestCase):
    """`wait`, whose time tests can advance."""

    def wait(self, *words: str, then: dict[float, str] | None = None) -> int:
        """Run it; at the times in `then`, all components change their state."""
        now = 0.0
        changes = dict(then or {})

        def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds
            for at in [at for at in changes if at <= now]:
                for each in self.hbtd.components:
                    each["State"] = changes[at]
                del changes[at]

        options = parse(["wait", *words], {"HBTCTL_URL": self.url})
        out, err = StringIO(), StringIO()
        terminal = Terminal(StringIO(), out, err, {})
        client = Client(settings(options))
        status = wait(Invocation(client, terminal, options, lambda: now, sleep))
        client.close()
        self.out, self.err, self.now = out.getvalue(), err.getvalue(), now
        return status

    def test_at_once(self) -> None:
        """If all are in the state there is nothing to wait for."""
        self.hbtd.components = chassis(0)
        self.assertEqual(self.wait("x1000c0s[0-1]b0n[0-1]"), 0)
        self.assertEqual((self.out, self.now), ("x1000c0s[0-1]b0n[0-1]: ok\n", 0.0))
        self.assertEqual(self.wait("x1000c0s0b0n0", "--state", "dead", "--timeout", "0"), 1)

    def test_later(self) -> None:
        """It ends when the last of them is in the state."""
        self.hbtd.components = chassis(0, "dead")
        self.assertEqual(self.wait("x1000c0s[0-1]b0n[0-1]", "-q", then={9.5: "healthy"}), 0)
        self.assertEqual((self.out, self.err, self.now), ("", "", 10.0))

    def test_timeout(self) -> None:
        """When the time is over it says which are missing, and how."""
        self.hbtd.components = chassis(0, "warned")
        self.assertEqual(self.wait("x1000c0s[0-1]b0n0,x1000c5s0b0n0", "--timeout", "7"), 1)
        self.assertEqual(self.now, 7.0)
        self.assertEqual(
            self.err,
            "hbtctl: not ok within 7 s: x1000c0s[0-1]b0n0, x1000c5s0b0n0 (not tracked)\n",
        )

    def test_short_answers(self) -> None:
        """Only those are asked for that are in none of the wanted states."""
        self.hbtd.components = chassis(0)
        self.wait("x1000c0s0b0n0", "--state", "alive")
        self.assertEqual(self.hbtd.asked[0][2]["state"], "dead")

    def test_gone(self) -> None:
        """`gone` waits for components to be forgotten."""
        self.assertEqual(self.wait("x1000c0s0b0n0", "--state", "gone"), 0)
        self.hbtd.components = chassis(0)
        self.assertEqual(self.wait("x1000c0s0b0n0", "--state", "gone", "--timeout", "0"), 1)

    def test_under(self) -> None:
        """`--under` waits for what is tracked in a part of the machine; nothing is not ok."""
        self.hbtd.components = [*chassis(0, "dead"), *chassis(7)]
        self.assertEqual(self.wait("--under", "x1000c7"), 0)
        self.assertEqual(self.out, "x1000c7: ok\n")
        self.assertEqual(self.wait("--under", "x1000c0", "--timeout", "0"), 1)
        self.assertIn("not ok within 0 s: x1000c0s[0-1]b0n[0-1]\n", self.err)
        self.assertEqual(self.wait("--under", "x1000c3", "--timeout", "0"), 1)
        self.assertIn("not ok within 0 s: nothing is tracked in x1000c3\n", self.err)
        self.assertEqual(self.wait("--under", "x1000c3", "--state", "gone"), 0)
        self.assertEqual(self.wait("x1000c0s0b0n0", "--under", "x1000c7", "--timeout", "0"), 0)
        self.assertEqual(self.wait("x1000c7", "--timeout", "0"), 1)
        self.assertIn("(not tracked; --under x1000c7 is for what is in it)", self.err)
        self.assertRaises(Misused, self.wait, ",")

    def test_any_state(self) -> None:
        """To be in any state means to be tracked."""
        self.hbtd.components = chassis(0, "dead")
        self.assertEqual(self.wait("x1000c0s0b0n0", "--state", "alive,dead"), 0)
        self.assertEqual(self.wait("x9c0s0b0n0", "--state", "alive,dead", "--timeout", "0"), 1)

    def test_away(self) -> None:
        """While hbtd is away it goes on asking; if that lasts to the end, the status is 3."""
        self.hbtd.replies["/components"] = (503, {}, problem(503, "not ready"))
        self.assertEqual(self.wait("x1000c0s0b0n0", "--timeout", "5"), 3)
        self.assertEqual(self.err.count("trying again"), 1)

    def test_refused(self) -> None:
        """A question that hbtd refuses ends it at once."""
        self.hbtd.replies["/components"] = (400, {}, problem(400, "names: no nodeset"))
        self.assertEqual(self.hbtctl("wait", "x[", "--timeout", "600"), 2)
        self.assertEqual(self.hbtctl("wait", "x1", "--state", "up"), 2)
        self.assertIn("give ok, warned, dead", self.err)


class PrettyTests(CommandTestCase):
    """What a person sees at a terminal."""

    def test_table(self) -> None:
        """Tables are laid out by rich, and coloured by state, unless NO_COLOR is set."""
        self.hbtd.components = chassis(7, "dead")
        out, err = _Screen(), _Screen()
        environ = {"HBTCTL_URL": self.url, "TERM": "xterm-256color"}
        self.assertEqual(run(["tree"], environ, StringIO(), out, err), 0)
        self.assertIn("\x1b[31m4 dead\x1b[0m", out.getvalue())
        out = _Screen()
        self.assertEqual(run(["list"], environ, StringIO(), out, err), 0)
        self.assertIn("x1000c7s1b0n1", out.getvalue())
        out = _Screen()
        run(["list"], {**environ, "NO_COLOR": "1"}, StringIO(), out, err)
        self.assertNotIn("\x1b", out.getvalue())

    def test_markup(self) -> None:
        """What looks like markup of rich stays text."""
        self.hbtd.components = [component("x1000c0s0b0n0", Hostname="[red]x[/]", Status="[/nope]")]
        out = _Screen()
        words = ["list", "--columns", "hostname,status"]
        environ = {"HBTCTL_URL": self.url, "TERM": "xterm"}
        self.assertEqual(run(words, environ, StringIO(), out, StringIO()), 0)
        self.assertIn("[red]x[/]", out.getvalue())
        self.assertIn("[/nope]", out.getvalue())


class _Screen(StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True
