"""The past over HTTP."""

from typing import Any

from hbtd.tracker.transitions import Phase
from tests.support.http_memory import APITestCase, Response
from tests.support.store_contract import DIED, STARTED
from tests.support.store_log_contract import judged

T0 = 1_772_600_767.25


class HistoryTests(APITestCase):
    """A log of three components, of which one has died."""

    def setUp(self) -> None:
        """Log it."""
        super().setUp()
        self.service.store.commit(
            [
                judged(name, T0 + i, STARTED, Phase.UNKNOWN)
                for i, name in enumerate(["x1c0", "x1c1", "x10c0"])
            ]
        )
        self.service.store.commit([judged("x1c1", T0 + 60, DIED)])

    def get(self, query: str = "") -> Response:
        """Ask for the history."""
        return self.request("GET", f"/hmi/v1/history{query}")

    def numbers(self, query: str) -> list[int]:
        """Return the numbers of the entries in an answer."""
        return [each["Number"] for each in self.get(query).json()["Entries"]]

    def test_entries(self) -> None:
        """Entries are those of the log, selected by name and time, in either order."""
        first = self.get("?limit=1").json()
        self.assertEqual(
            first,
            {
                "Entries": [
                    {
                        "Number": 1,
                        "XName": "x1c0",
                        "From": "unknown",
                        "To": "healthy",
                        "Transition": "started",
                        "At": "2026-03-04T05:06:07.250Z",
                        "Why": "why",
                        "Judge": first["Entries"][0]["Judge"],
                    }
                ],
                "Next": "1",
            },
        )
        self.assertEqual(self.numbers(""), [1, 2, 3, 4])
        self.assertEqual(self.numbers("?order=newest&under=x1"), [4, 2, 1])
        self.assertEqual(self.numbers("?names=x1c[0-1]&since=2026-03-04T05:06:08Z"), [2, 4])
        self.assertEqual(self.numbers(f"?until={T0 + 2}"), [1, 2])
        self.assertEqual(self.numbers("?since=-1s"), [])

    def test_pages(self) -> None:
        """Page by page, each entry comes once; the last page has no next one."""
        for order, expected in (("oldest", [1, 2, 3, 4]), ("newest", [4, 3, 2, 1])):
            found: list[int] = []
            after: Any = ""
            while after is not None:
                page = self.get(f"?limit=2&order={order}" + (after and f"&after={after}")).json()
                found += [each["Number"] for each in page["Entries"]]
                after = page["Next"]
            self.assertEqual(found, expected)

    def test_at(self) -> None:
        """With a time, the answer is what everybody was then."""
        answer = self.get(f"?at={T0 + 60}&limit=2").json()
        since = ["2026-03-04T05:06:09.250Z", "2026-03-04T05:06:07.250Z"]
        self.assertEqual(
            answer,
            {
                "Components": [
                    {"XName": "x10c0", "State": "healthy", "Since": since[0]},
                    {"XName": "x1c0", "State": "healthy", "Since": since[1]},
                ],
                "Next": "x1c0",
                "At": "2026-03-04T05:07:07.250Z",
                "Complete": True,
            },
        )
        rest = self.get(f"?at={T0 + 60}&limit=2&after=x1c0").json()
        self.assertEqual([each["XName"] for each in rest["Components"]], ["x1c1"])
        self.assertIs(rest["Next"], None)
        dead = self.get(f"?at={T0 + 60}&state=dead").json()["Components"]
        self.assertEqual([each["XName"] for each in dead], ["x1c1"])
        before = self.get(f"?at={T0 + 59}&state=dead").json()["Components"]
        self.assertEqual(before, [])

    def test_bad_input(self) -> None:
        """Times, cursors and combinations that can't be used are 400, with the reason."""
        for query, what in (
            ("at=yesterday", "at"),
            ("since=1e400", "since"),
            ("until=-99999999999999d", "until"),
            ("at=9999999999999999999", "at"),
            ("after=x1", "after"),
            ("after=-1", "after"),
            ("after=99999999999999999999", "after"),
            ("at=-1s&after=nobody", "after"),
            ("at=-1s&since=-2s", "since"),
            ("state=dead", "state"),
            ("at=-1s&state=asleep", "state"),
            ("order=upwards", "order"),
            ("limit=0", "limit"),
            ("names=x[0-9999]c[0-7]s[0-63]", "names"),
            ("nmaes=x1", "nmaes"),
        ):
            answer = self.get(f"?{query}")
            self.assertEqual(answer.status, 400, query)
            self.assertIn(f"Parameter {what}", answer.json()["detail"])
