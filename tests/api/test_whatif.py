"""`/whatif`, with the time in the test's hands."""

from typing import Any

from twisted.internet.defer import Deferred, fail

from hbtd.runtime.host import Host
from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.past import SilencesThen
from tests.support.http_memory import HEARTBEAT, PROBLEM, XNAME, APITestCase, start_in_memory

T0 = 1_772_600_767.0


class BrokenStore(MemoryStore):
    """A store whose table of silences can't be read."""

    def silences(self, *args: Any, **options: Any) -> Deferred[SilencesThen]:
        """Fail."""
        return fail(StoreUnusable("the disk is gone"))


class WhatIfTests(APITestCase):
    """How many alarms there would have been with other limits."""

    def begin(self, **options: Any) -> None:
        """Start a service whose clocks are the reactor's."""
        store = options.pop("store", None) or MemoryStore()
        self.service, self.reactor = start_in_memory(
            self,
            make_store=lambda *_: store,
            make_host=lambda reactor: Host(
                elapsed=reactor.seconds,
                wall=lambda: T0 + reactor.seconds(),
                processor=lambda: 0.0,
            ),
            **options,
        )
        self.factory = self.reactor.tcpServers[0][1]
        self.reactor.pump([0.125])

    def beat(self, *waits: float) -> None:
        """Let the component beat, each time after some seconds."""
        for wait in waits:
            self.reactor.pump([0.125] * round(wait * 8))
            self.assertEqual(self.request("POST", "/v1/heartbeat", HEARTBEAT).status, 200)

    def get(self, query: str = "") -> Any:
        """Return an answer."""
        answer = self.request("GET", f"/hmi/v1/whatif{query}")
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json()

    def test_answer(self) -> None:
        """It says how many alarms there would have been, of whom, and what is not known."""
        self.beat(1.0, 3.0, 3.0, 4.5, 8.0)
        self.reactor.pump([0.125] * 8 * 25)
        self.assertEqual(
            self.get("?warntime=7&errtime=20"),
            {
                "At": "2026-03-04T05:06:51.625Z",
                "Since": "2026-03-04T05:06:07.000Z",
                "Warntime": 7,
                "Errtime": 20,
                "Warnings": {"Number": 2, "Returned": 1, "Components": 1, "XNames": XNAME},
                "Deaths": {"Number": 1, "Returned": 0, "Components": 1, "XNames": XNAME},
                "WholeSince": "2026-03-04T05:06:07.000Z",
                "Complete": True,
                "Floor": {
                    "Seconds": 4.5,
                    "Components": 0,
                    "XNames": "",
                },
            },
        )
        self.assertEqual(self.get("?warntime=4")["Floor"]["XNames"], XNAME)
        self.assertEqual(self.get("?warntime=7&since=-19s")["Warnings"]["Number"], 1)
        self.assertEqual(self.get("?warntime=7&since=-17s")["Warnings"]["Number"], 0)
        self.assertFalse(self.get("?since=2026-03-04T05:06:06Z")["Complete"])

    def test_limits_in_force(self) -> None:
        """A limit that is not given is the one in force."""
        self.begin(warntime=20)
        answer = self.get()
        self.assertEqual((answer["Warntime"], answer["Errtime"]), (20, 30))
        self.request("PATCH", "/v1/params", {"Errtime": "60"})
        answer = self.get("?warntime=7")
        self.assertEqual((answer["Warntime"], answer["Errtime"]), (7, 60))

    def test_after_a_restart(self) -> None:
        """What a store has kept counts after a restart of hbtd, also what ended just before it."""
        store = MemoryStore()
        self.begin(store=store)
        self.beat(1.0, 3.0, 12.0)
        self.reactor.pump([0.125] * 40)
        self.assertEqual(len(self.successResultOf(store.silences()).silences), 1)
        self.beat(7.0)
        self.service.stopService()
        self.reactor.pump([0.1] * 10)
        self.begin(store=store)
        self.beat(1.0)
        answer = self.get()
        self.assertEqual((answer["Warnings"]["Number"], answer["Warnings"]["Returned"]), (2, 2))
        self.assertEqual(answer["WholeSince"], "2026-03-04T05:06:07.000Z")
        self.assertEqual(self.successResultOf(store.silences()).noticed[0].missed, 3.0)

    def test_bad_input(self) -> None:
        """Limits and times that can't be used are 400, with the reason."""
        for query, what in (
            ("warntime=0", "warntime"),
            ("errtime=7.5", "errtime"),
            ("errtime=", "errtime"),
            ("warntime=-3", "warntime"),
            ("warntime=99999999999", "warntime"),
            ("since=yesterday", "since"),
            ("since=", "since"),
            ("until=-1h", "until"),
            ("warntime=7&warntime=8", "warntime"),
        ):
            answer = self.request("GET", f"/hmi/v1/whatif?{query}")
            self.assertEqual((answer.status, answer.content_type), (400, PROBLEM), query)
            self.assertIn(f"Parameter {what}", answer.json()["detail"])

    def test_unreadable(self) -> None:
        """If the table can't be read, the answer is 503, and says so."""
        self.begin(store=BrokenStore())
        answer = self.request("GET", "/hmi/v1/whatif")
        detail = "The table of long silences can't be read: the disk is gone"
        self.assert_problem(answer, 503, detail, "/hmi/v1/whatif")
