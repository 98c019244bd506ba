"""`hbtctl whatif`."""

import json
from typing import Any

from tests.support.hbtd_stand_in import CommandTestCase

AT = "2026-11-26T18:56:30.000Z"


def alarms(number: int = 0, returned: int = 0, components: int = 0, names: str = "") -> Any:
    """Return the part of an answer about one kind of alarms."""
    return {"Number": number, "Returned": returned, "Components": components, "XNames": names}


class WhatIfTests(CommandTestCase):
    """What it asks, prints, and says is missing."""

    def answer(self, **fields: Any) -> dict[str, Any]:
        """Let hbtd answer, and return the answer."""
        answer = {
            "At": AT,
            "Since": "2026-11-25T18:56:30.000Z",
            "Warntime": 8,
            "Errtime": 20,
            "Warnings": alarms(12, 11, 7, "x1000c7s[0-6]b0n0"),
            "Deaths": alarms(),
            "WholeSince": "2026-11-20T01:02:03.000Z",
            "Complete": True,
            "Floor": {"Seconds": 6.1, "Components": 0, "XNames": ""},
            **fields,
        }
        self.hbtd.replies["/whatif"] = (200, {}, answer)
        return answer

    def test_printed(self) -> None:
        """It prints how many alarms there would have been, of whom, and how many came back."""
        self.answer()
        self.assertEqual(self.hbtctl("whatif", "--warntime", "8", "--errtime=20"), 0)
        self.assertEqual(
            self.out,
            "with Warntime 8 s and Errtime 20 s, since 2026-11-25 18:56:30:\n"
            "  warnings  12, of 7 components; 11 of them came back\n"
            "            x1000c7s[0-6]b0n0\n"
            "  deaths    0\n",
        )
        self.assertEqual(self.err, "")

    def test_asked(self) -> None:
        """The limits and the time are hbtd's to check; what is not given is not sent."""
        self.answer()
        self.hbtctl("whatif", "--errtime", "20", "--since", "-2h")
        self.hbtctl("whatif")
        (_, path, query, _), (_, _, nothing, _) = self.hbtd.asked
        self.assertEqual((path, query), ("/whatif", {"errtime": "20", "since": "-2h"}))
        self.assertEqual(nothing, {})
        self.assertIn("T18:56:00Z", self.sent("--since", "18:56"))
        self.assertEqual(self.sent("--warntime", "7"), "{'warntime': '7'}")

    def sent(self, *options: str) -> str:
        """Return the query that options lead to."""
        self.hbtd.asked.clear()
        self.hbtctl("whatif", *options)
        return str(self.hbtd.asked[0][2])

    def test_all_or_none(self) -> None:
        """It says in words if all came back, or none."""
        self.answer(Warnings=alarms(2, 2, 1, "x1"), Deaths=alarms(1, 0, 1, "x2"))
        self.hbtctl("whatif")
        self.assertIn("warnings  2, of 1 component; all of them came back\n", self.out)
        self.assertIn("deaths    1, of 1 component; none of them came back\n", self.out)

    def test_many(self) -> None:
        """It says how many more there are than are named."""
        self.answer(Deaths=alarms(3000, 0, 2500, "x[0-999]"))
        self.hbtctl("whatif")
        self.assertIn("            x[0-999] and 1500 more\n", self.out)

    def test_missing(self) -> None:
        """Standard error says what the numbers don't include."""
        floor = {"Seconds": 8.2, "Components": 2, "XNames": "x1000c7s[0-1]b0n0"}
        self.answer(Complete=False, Floor=floor)
        self.assertEqual(self.hbtctl("whatif"), 0)
        self.assertEqual(
            self.err,
            "hbtctl: long silences are known since 2026-11-20 01:02:03 only: there may be more"
            " alarms\n"
            "hbtctl: with limits above 8.2 s the numbers are exact; with these there may be more"
            " alarms, of 2 components: x1000c7s[0-1]b0n0\n",
        )
        for seconds, warntime, errtime, said in (
            (8.0, 8, 20, True),
            (7.9, 8, 20, False),
            (8.0, 20, 8, True),
        ):
            floor = {"Seconds": seconds, "Components": 0, "XNames": ""}
            self.answer(Floor=floor, Warntime=warntime, Errtime=errtime)
            self.hbtctl("whatif")
            self.assertEqual(f"periods of up to {seconds} s were not kept" in self.err, said)

    def test_json(self) -> None:
        """As JSON, it prints what hbtd answers."""
        answer = self.answer(Complete=False)
        self.assertEqual(self.hbtctl("whatif", "-o", "json"), 0)
        self.assertEqual(json.loads(self.out), answer)
        self.assertEqual(self.err, "")
