"""The control interface of the fake HSM."""

from typing import Any

import orjson

from hbtd.simulator.behaviour import Behaviour
from tests.support.fake_hsm_memory import MemoryTestCase, bulk


class ControlTests(MemoryTestCase):
    """The fake is controlled over HTTP."""

    CONTROL = "http://hsm.example/control"

    def change(self, body: bytes) -> Any:
        """Change the behaviour."""
        return self.client.patch(f"{self.CONTROL}/behaviour", data=body)

    def test_behaviour(self):
        """The behaviour can be read, and changed field by field."""
        before = self.get(f"{self.CONTROL}/behaviour")
        self.assertEqual(before["cost_ms"], 0)
        changes = {
            "ready": False,
            "fail_status": 502,
            "refuse": ["x1", "x0"],
            "faulty": {"x0": "500", "x1": "hang"},
            "retry_after": "7",
            "cost_ms": 1,
            "cost_ms_by_state": {"Ready": 0.5},
        }
        self.assertEqual(self.status(self.change(orjson.dumps(changes))), 200)
        self.assertEqual(
            self.get(f"{self.CONTROL}/behaviour"), {**before, **changes, "refuse": ["x0", "x1"]}
        )
        self.assertEqual(self.status(self.change(b'{"fail_status":null}')), 200)
        self.assertIsNone(self.hsm.behaviour.fail_status)
        self.assertFalse(self.hsm.behaviour.ready)

    def test_components(self):
        """The table can be changed, and replaced by another one, as by a restored backup."""
        self.update(bulk("x0c0s0b0n0", "x0c0s0b0n1"))
        url = f"{self.CONTROL}/components"
        table = {"X0c0s0b0n00": "Standby/Alert", "x0c0s0b0n2": "on/ok"}
        self.assertEqual(self.status(self.client.patch(url, data=orjson.dumps(table))), 204)
        self.assertEqual(
            {name: f"{row.state}/{row.flag}" for name, row in self.hsm.components.items()},
            {"x0c0s0b0n0": "Standby/Alert", "x0c0s0b0n1": "Ready/OK", "x0c0s0b0n2": "On/OK"},
        )
        self.assertEqual(self.status(self.client.put(url, data=orjson.dumps(table))), 204)
        self.assertEqual(sorted(self.hsm.components), ["x0c0s0b0n0", "x0c0s0b0n2"])

    def test_components_refused(self):
        """Rows that are none are refused, naming the component, and nothing is changed."""
        self.update(bulk("x0c0s0b0n0"))
        for table in ({"x0c0s0b0n0": "Blue/OK"}, {"nope": "Ready/OK"}, {"x0c0s0b0n1": "Ready"}):
            answer = self.client.put(f"{self.CONTROL}/components", data=orjson.dumps(table))
            status, detail = self.problem(answer)
            self.assertEqual(status, 400)
            self.assertIn(next(iter(table)), detail)
        self.assertEqual(self.problem(self.client.put(f"{self.CONTROL}/components"))[0], 400)
        self.assertEqual(list(self.hsm.components), ["x0c0s0b0n0"])

    def test_round_trip(self):
        """The behaviour as read can be sent back."""
        text = Behaviour(refuse={"x0"}, fail_status=418).as_json()
        self.assertEqual(Behaviour().merged(orjson.loads(text)).as_json(), text)

    def test_behaviour_refused(self):
        """A change with an invalid field is refused, naming the field, and changes nothing."""
        for field, value in (
            ("colour", "red"),
            ("ready", 1),
            ("hang", None),
            ("hang_ready", "yes"),
            ("reset", []),
            ("garbage", 0),
            ("page", "yes"),
            ("database_gone", 1),
            ("retry_after", 7),
            ("faulty", ["x0"]),
            ("faulty", {"x0": "200"}),
            ("faulty", {"x0": "explode"}),
            ("fail_status", True),
            ("fail_status", 100),
            ("fail_status", "500"),
            ("refuse", "x0"),
            ("refuse", [7]),
            ("cost_ms", -1),
            ("cost_ms", True),
            ("cost_ms", "1"),
            ("cost_ms_by_state", 1),
            ("cost_ms_by_state", {"Ready": "fast"}),
        ):
            answer = self.change(orjson.dumps({"cost_ms_by_state": {}, "hang": True, field: value}))
            status, detail = self.problem(answer)
            self.assertEqual(status, 400)
            self.assertTrue(detail.startswith(f"{field}: "), detail)
        self.assertEqual(self.hsm.behaviour, Behaviour())

    def test_how_to_end_it(self):
        """A refusal of null says what ends a behaviour."""
        for field, said in (
            ("refuse", "refuse: must be a list of names; [] ends it"),
            ("faulty", "faulty: must be an object from names to faults; {} ends it"),
            ("cost_ms_by_state", "cost_ms_by_state: must be an object from states to milliseconds"),
            ("hang", "hang: must be true or false"),
        ):
            _, detail = self.problem(self.change(orjson.dumps({field: None})))
            self.assertEqual(detail[: len(said)], said)

    def test_behaviour_not_json(self):
        """A change must be a JSON object."""
        for body in (b"", b"[]", b"{"):
            self.assertEqual(self.problem(self.change(body))[0], 400)

    def test_updates(self):
        """Updates are listed in order, from any index on."""
        for number in range(3):
            self.update(bulk(f"x0c0s0b0n{number}"))
        listed = self.get(f"{self.CONTROL}/updates")
        self.assertEqual([each["index"] for each in listed], [0, 1, 2])
        self.assertEqual(listed[2]["names"], ["x0c0s0b0n2"])
        self.assertEqual(listed[2]["body"], bulk("x0c0s0b0n2").decode())
        self.assertEqual(listed[2]["status"], 204)
        self.assertEqual(self.get(f"{self.CONTROL}/updates?since=2"), listed[2:])
        self.assertEqual(self.get(f"{self.CONTROL}/updates?since=9"), [])

    def test_updates_refused(self):
        """The index to start from must be a number."""
        for since in ("-1", "x", ""):
            answer = self.client.get(f"{self.CONTROL}/updates?since={since}")
            self.assertEqual(self.problem(answer)[0], 400)

    def test_clear(self):
        """Updates and table can be cleared."""
        self.update(bulk("x0c0s0b0n0"))
        self.assertEqual(self.status(self.client.delete(f"{self.CONTROL}/updates")), 204)
        self.assertEqual((self.hsm.updates, self.hsm.components), ([], {}))
