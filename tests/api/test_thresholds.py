"""`/thresholds`, and the times of one component in `/params`."""

from collections.abc import Sequence
from typing import Any

import orjson
from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs, formatEvent

from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.settings import Setting
from tests.support.http_memory import APITestCase, Response

PATH = "/hmi/v1/thresholds"
INSTANCE = "/hmi/v1/thresholds"

ROWS = [
    {"Match": "x1000c0s[0-1]b0n0", "Warntime": 60, "Errtime": 180},
    {"Match": "NodeBMC", "Errtime": 120},
    {"Match": "Node", "Warntime": 20},
]


class _Store(MemoryStore):
    """A store that takes settings when it is told to, or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = False
        self.slow = False
        self.waiting: list[Any] = []

    def write_settings(self, settings: Sequence[Setting]) -> Deferred[None]:
        if self.failing:
            return fail(StoreUnusable("disk full"))
        done: Deferred[None] = Deferred(lambda _: self.waiting.clear())
        self.done = done
        write = super().write_settings
        self.waiting.append(lambda: write(settings).chainDeferred(done))
        if not self.slow:
            self.waiting.pop()()
        return done


class ThresholdsTestCase(APITestCase):
    """Has a service with some components."""

    def setUp(self) -> None:
        super().setUp()
        self.store = _Store()
        self.begin(make_store=lambda *args: self.store)
        for slot in range(3):
            for rest in ("b0", "b0n0", "b0n1"):
                self.service.monitor.beat(f"x1000c0s{slot}{rest}", "t", "OK")

    def put(self, rows: object) -> Response:
        """Replace the table."""
        return self.request("PUT", PATH, rows)

    def shown(self) -> Any:
        """Return the table."""
        return self.request("GET", PATH).json()


class TableTests(ThresholdsTestCase):
    """Tests of the table."""

    def test_nothing(self) -> None:
        """At first there are no rows."""
        response = self.request("GET", PATH)
        self.assertEqual((response.status, response.body), (200, b"[]"))

    def test_set(self) -> None:
        """The answer has the rows, each with how many components it is for; GET has the same."""
        answer = self.put(ROWS)
        counts = [2, 3, 4]
        rows = [{**row, "Components": count} for row, count in zip(ROWS, counts, strict=True)]
        self.assertEqual((answer.status, answer.json(), self.shown()), (200, rows, rows))
        self.assertNotIn("warning", answer.headers)
        times = [self.service.tracker.own_limits(f"x1000c0s0{rest}") for rest in ("b0n0", "b0")]
        self.assertEqual(times, [(60, 180), (None, 120)])
        self.assertEqual(self.put(answer.json()).json(), rows)

    def test_removed(self) -> None:
        """An empty list removes all rows."""
        self.put(ROWS)
        self.assertEqual(self.put([]).json(), [])
        self.assertEqual(self.shown(), [])
        self.assertEqual(self.service.tracker.own_limits("x1000c0s0b0"), (None, None))

    def test_refused(self) -> None:
        """What can't be used changes nothing, also if that is found after names were read."""
        before = self.put(ROWS).json()
        for rows, said in (
            ({}, "The body must be a JSON list"),
            (b"[", "The body must be a JSON list"),
            ([*ROWS, {"Match": "NodeBCM"}], "Row 4 matches 'NodeBCM', which is neither"),
            ([{"Match": "x[0-9999]"}, {"Match": "x1000!x1000"}], "Row 2 has an empty nodeset"),
            ([{"Match": "x0", "Errtime": 0}], "Row 1 has Errtime '0'; it must be a whole number"),
        ):
            answer = self.put(rows)
            self.assertEqual(answer.status, 400)
            self.assertIn(said, answer.json()["detail"])
        self.assert_problem(
            self.request("PUT", PATH + "?x=1", ROWS),
            400,
            "Parameter x is not known; known are: none",
            INSTANCE,
        )
        self.assertEqual(self.shown(), before)

    def test_metric(self) -> None:
        """The number of rows is a metric while there are any."""
        self.assertNotIn("hbtd_thresholds", self.request("GET", "/metrics").body.decode())
        self.put(ROWS)
        lines = self.request("GET", "/metrics").body.decode().splitlines()
        self.assertIn("hbtd_thresholds 3.0", lines)

    def test_doubts(self) -> None:
        """What is probably a mistake is done, and warned about."""
        answer = self.put([{"Match": "Node", "Warntime": 60}])
        self.assertEqual(answer.status, 200)
        self.assertEqual(
            answer.headers["warning"],
            '199 hbtd "No component of row 1 (Node) is warned about before it is declared dead:'
            ' Warntime is 60 s, Errtime 30 s"',
        )

    def test_many_names(self) -> None:
        """A table of very many names is taken, if there is memory for it."""
        rows = [{"Match": "x[0-9999]c[0-7]"}]
        self.assertEqual(self.put(rows).json(), [{**rows[0], "Components": 0}])
        self.begin(max_body_bytes=65_536)
        self.assertEqual(self.put(rows).status, 503)
        self.assertEqual(self.shown(), [])


class StoreTests(ThresholdsTestCase):
    """Tests of what becomes of a change."""

    def lines(self, events: Any) -> list[str]:
        """Return the log lines about changes."""
        lines = map(formatEvent, events)
        return [line for line in lines if "Change by" in line or "Thresholds" in line]

    def test_logged(self) -> None:
        """The log says who has set which rows, which were there before, and what is doubtful."""
        who = "Change by loopback from 127.0.0.1: PUT /hmi/v1/thresholds:"
        with capturedLogs() as events:
            self.put(ROWS[:1])
            self.put([{"Match": "Node", "Errtime": 10}])
            self.put([{"Match": "Node", "Errtime": 10}])
        first = "x1000c0s[0-1]b0n0: Warntime 60 s, Errtime 180 s"
        doubt = (
            "No component of row 1 (Node) is warned about before it is declared dead: Warntime is"
            " 10 s, Errtime 10 s."
        )
        self.assertEqual(
            self.lines(events),
            [
                f"{who} thresholds are {first}; were none.",
                f"{who} thresholds are Node: Errtime 10 s; were {first}. {doubt}",
                f"{who} nothing changed. {doubt}",
            ],
        )

    def test_not_stored(self) -> None:
        """If the store fails, the answer says why, and nothing changes."""
        self.store.failing = True
        self.assert_problem(
            self.put(ROWS),
            503,
            "The thresholds can't be stored: disk full; GET /thresholds says which are in force",
            INSTANCE,
        )
        self.assertEqual(self.shown(), [])

    def hang_up(self) -> list[str]:
        """Send a table, and hang up before it is stored; return what is logged of it."""
        self.store.slow = True
        client = self.connect()
        body = orjson.dumps(ROWS)
        with capturedLogs() as events:
            client.send(
                b"PUT /v1/thresholds HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            self.reactor.pump([0.01] * 5)
            client.hang_up()
            self.reactor.pump([0.01] * 5)
        return self.lines(events)

    def test_hung_up(self) -> None:
        """A client that does not wait changes the thresholds nevertheless, and is logged."""
        (line,) = self.hang_up()
        self.assertTrue(line.endswith("; were none. The client did not wait for it."), line)
        self.store.waiting.pop()()
        self.reactor.pump([0.01] * 5)
        self.assertEqual([row["Components"] for row in self.shown()], [2, 3, 4])

    def test_hung_up_in_vain(self) -> None:
        """If the store fails after that, the log says so, too."""
        self.hang_up()
        with capturedLogs() as events:
            self.store.waiting.pop()
            self.store.done.errback(StoreUnusable("disk full"))
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["The thresholds for which a client did not wait could not be stored: disk full."],
        )
        self.assertEqual(self.shown(), [])


class ParamsTests(ThresholdsTestCase):
    """Tests of the times of one component."""

    def times(self, query: str) -> tuple[str, str]:
        """Return what is said of a component."""
        answer = self.request("GET", f"/v1/params{query}").json()
        return answer["Warntime"], answer["Errtime"]

    def test_component(self) -> None:
        """A component's own times take the place of the parameters, and nothing else changes."""
        self.put(ROWS)
        whole = self.request("GET", "/v1/params")
        for component, times in (
            ("x1000c0s0b0n0", ("60", "180")),
            ("X1000c0s00b0", ("10", "120")),
            ("x5c0s0b0n7", ("20", "30")),
            ("x5", ("10", "30")),
        ):
            answer = self.request("GET", f"/v1/params?component={component}")
            self.assertEqual(
                list(answer.json().items()),
                list({**whole.json(), "Warntime": times[0], "Errtime": times[1]}.items()),
            )
        self.assertEqual(self.request("GET", "/v1/params?component=x5").body, whole.body)

    def test_no_thresholds(self) -> None:
        """Without thresholds everybody has the parameters."""
        whole = self.request("GET", "/v1/params").body
        self.assertEqual(self.request("GET", "/v1/params?component=x1000c0s0b0n0").body, whole)

    def test_other_queries(self) -> None:
        """Other queries are ignored, however they are written."""
        whole = self.request("GET", "/v1/params").body
        for query in ("", "?", "?x", "?component", "?x=component=x1", "?a=%ff&%", "?xcomponent=1"):
            answer = self.request("GET", f"/v1/params{query}")
            self.assertEqual((answer.status, answer.body), (200, whole), query)

    def test_no_component(self) -> None:
        """What is no xname, or several, is refused."""
        for query in ("component=", "component=nid1", "component=x1&component=x2", "component=%ff"):
            self.assert_problem(
                self.request("GET", f"/v1/params?{query}"),
                400,
                "Parameter component is to be one xname, such as x1000c0s0b0n0",
                "/hmi/v1/params",
            )
