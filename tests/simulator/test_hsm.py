"""The fake HSM behaves as the real one does, and fails when it is told to."""

from typing import Any

import orjson
from treq.client import HTTPClient
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, ResponseFailed, ResponseNeverReceived
from twisted.web.server import Site

from hbtd.simulator.behaviour import Behaviour
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.simulator.hsm_table import ComponentState
from tests.support.fake_hsm_memory import BASE, MemoryTestCase, bulk


class UpdateTests(MemoryTestCase):
    """Bulk updates are applied or rejected, and recorded."""

    def test_applied(self):
        """An update is applied to all its components by normalised name, and answered 204."""
        answer = self.update(bulk("x1c0s0b0n0", " X0001c0s0b0N01", state="Standby", flag="Alert"))
        self.assertEqual(self.status(answer), 204)
        expected = ComponentState("Standby", "Alert", "hello")
        self.assertEqual(self.hsm.components, {"x1c0s0b0n0": expected, "x1c0s0b0n1": expected})

    def test_recorded(self):
        """An update is recorded with its contents and its outcome."""
        body = bulk("x1c0s0b0n0", " X0001c0s0b0N01", message="m")
        self.update(body)
        (update,) = self.hsm.updates
        self.assertEqual(update.names, ["x1c0s0b0n0", " X0001c0s0b0N01"])
        self.assertEqual((update.state, update.flag, update.message), ("Ready", "OK", "m"))
        self.assertEqual((update.received, update.applied, update.answered), (1000, 1000, 1000))
        self.assertEqual((update.body, update.status), (body, 204))
        self.assertEqual((update.user_agent, update.content_type), ("tester", "application/json"))
        self.assertEqual(self.told, [update])

    def test_bases(self):
        """The API is served under the base paths of a real HSM, and without one."""
        for base in ("", "/hsm/v1", "/hsm/v2", "/hsm/smd/v1", "/apis/smd/hsm/v2"):
            root = f"http://hsm.example{base}"
            self.assertEqual(self.status(self.update(bulk("x0c0s0b0n0"), root)), 204)
            self.get(f"{root}/service/ready")
            self.get(f"{root}/State/Components")
            self.get(f"{root}/State/Components/x0c0s0b0n0")

    def test_wrong_base(self):
        """Any other path is answered with 404, so that a wrong --sm_url is noticed."""
        for base in ("/hsm/v3", "/hms/v1", "/v1", "/hsm", "/hsm/v1/hsm/v1", "/hsm/v1/x"):
            root = f"http://hsm.example{base}"
            self.assertEqual(self.problem(self.update(bulk("x0c0s0b0n0"), root))[0], 404, base)
            for path in ("service/ready", "State/Components", "State/Components/x0c0s0b0n0"):
                self.assertEqual(self.problem(self.client.get(f"{root}/{path}"))[0], 404, base)
        self.assertEqual((self.hsm.updates, self.hsm.components), ([], {}))

    def test_one_bad_name(self):
        """One invalid xname makes HSM reject the whole update."""
        status, detail = self.problem(self.update(bulk("x0c0s0b0n0", "lettuce", "x0c0s0b0n1")))
        self.assertEqual((status, detail), (400, "invalid xname ID"))
        self.assertEqual(self.hsm.components, {})
        self.assertEqual(self.told, [])
        (update,) = self.hsm.updates
        self.assertEqual(update.names, ["x0c0s0b0n0", "lettuce", "x0c0s0b0n1"])
        self.assertEqual((update.status, update.answered, update.applied), (400, 1000, None))

    def test_malformed(self):
        """A malformed update is rejected, but recorded."""
        good = orjson.loads(bulk("x0c0s0b0n0"))
        bodies = [
            b"",
            b"{",
            b"[]",
            bulk(),
            bulk("x0c0s0b0n0", state="Sideways"),
            bulk("x0c0s0b0n0", state=7),
            bulk("x0c0s0b0n0", flag="Red"),
            bulk("x0c0s0b0n0", flag=None),
            orjson.dumps({**good, "ComponentIDs": "x0c0s0b0n0"}),
            orjson.dumps({**good, "ComponentIDs": ["x0c0s0b0n0", 7]}),
            orjson.dumps({**good, "ExtendedInfo": "hello"}),
            orjson.dumps({**good, "ExtendedInfo": {"Message": 7}}),
        ]
        for body in bodies:
            self.assertEqual(self.problem(self.update(body))[0], 400, body)
        self.assertEqual([update.body for update in self.hsm.updates], bodies)
        self.assertEqual(self.hsm.components, {})

    def test_optional_fields(self):
        """Flag and message are optional; the state may be in any case."""
        self.assertEqual(
            self.status(self.update(b'{"ComponentIDs":["x0c0s0b0n0"],"State":"ready"}')), 204
        )
        self.assertEqual(self.hsm.components, {"x0c0s0b0n0": ComponentState("Ready", "OK", "")})

    def test_table(self):
        """The table can be read whole or by component."""
        self.update(bulk("x0c0s0b0n0", flag="Warning"))
        state = {"ID": "x0c0s0b0n0", "Type": "Node", "State": "Ready", "Flag": "Warning"}
        row = {**state, "Enabled": True, "Role": "Compute", "NetType": "Sling", "Arch": "X86"}
        self.assertEqual(self.get(f"{BASE}/State/Components"), {"Components": [row]})
        self.assertEqual(
            self.get(f"{BASE}/State/Components?stateonly=true"), {"Components": [state]}
        )
        self.assertEqual(self.get(f"{BASE}/State/Components/X0c0s0b0n00"), row)

    def test_table_misses(self):
        """A component that is not in the table gets 404, an invalid name 400."""
        for name, status in (("x0c0s0b0n7", 404), ("lettuce", 400)):
            answer = self.client.get(f"{BASE}/State/Components/{name}")
            self.assertEqual(self.problem(answer)[0], status)

    def test_unknown_path_and_method(self):
        """Unknown paths and wrong methods get problem documents, too."""
        self.assertEqual(self.problem(self.client.get(f"{BASE}/nowhere"))[0], 404)
        response = self.successResultOf(self.client.post(f"{BASE}/service/ready"))
        self.assertEqual(response.code, 405)
        self.assertIn("GET", response.headers.getRawHeaders("allow")[0])


class WorkTests(MemoryTestCase):
    """Updates take time, one after another."""

    def test_costs(self):
        """An update waits for its cost per component before it is applied and answered."""
        self.hsm.behaviour.cost_ms = 500
        answer = self.update(bulk("x0c0s0b0n0", "x0c0s0b0n1"))
        self.advance(0.999)
        self.assertNoResult(answer)
        self.assertEqual(self.hsm.components, {})
        self.advance(0.001)
        self.assertEqual(self.status(answer), 204)
        self.assertEqual(self.hsm.updates[0].answered, 1001)

    def test_cost_by_state(self):
        """A state's own cost overrides the general one."""
        behaviour = Behaviour(cost_ms=1, cost_ms_by_state={"Standby": 2})
        self.assertEqual(behaviour.cost("Standby", 5000), 10)
        self.assertEqual(behaviour.cost("Ready", 5000), 5)

    def test_serial(self):
        """Updates wait for earlier ones, even if they cost nothing themselves."""
        self.hsm.behaviour.cost_ms_by_state = {"Standby": 1000}
        answers = [
            self.update(bulk("x0c0s0b0n0", state=state))
            for state in ("Standby", "Standby", "Ready")
        ]
        self.advance(1)
        self.assertEqual(self.status(answers[0]), 204)
        self.assertNoResult(answers[1])
        self.advance(1)
        self.assertEqual([self.status(answer) for answer in answers[1:]], [204, 204])
        self.assertEqual([update.applied for update in self.hsm.updates], [1001, 1002, 1002])
        self.assertEqual(self.hsm.components["x0c0s0b0n0"].state, "Ready")

    def test_client_gone(self):
        """An update goes on after its client has disconnected, and others wait for it."""
        self.hsm.behaviour.cost_ms = 1000
        given_up, patient = self.update(bulk("x0c0s0b0n0")), self.update(bulk("x0c0s0b0n1"))
        given_up.cancel()
        self.client.flush()
        self.failureResultOf(given_up)
        self.advance(1)
        self.assertIn("x0c0s0b0n0", self.hsm.components)
        update = self.hsm.updates[0]
        self.assertEqual((update.applied, update.answered, update.status), (1001, None, None))
        self.assertNoResult(patient)
        self.advance(1)
        self.assertEqual(self.status(patient), 204)

    def test_bad_requests_do_not_wait(self):
        """An update is rejected at once, even while another is being applied."""
        self.hsm.behaviour.cost_ms = 1000
        self.update(bulk("x0c0s0b0n0"))
        self.assertEqual(self.problem(self.update(bulk("lettuce")))[0], 400)

    def test_stop(self):
        """A fake that is stopped has no timer and applies nothing more."""
        self.hsm.behaviour.cost_ms = 1000
        self.update(bulk("x0c0s0b0n0"))
        self.update(bulk("x0c0s0b0n1"))
        self.hsm.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.advance(10)
        self.assertEqual(self.hsm.components, {})


class FaultTests(MemoryTestCase):
    """The fake fails when it is told to."""

    def test_not_ready(self):
        """The readiness probe can be set to 503, while updates are still applied."""
        self.hsm.behaviour.ready = False
        self.assertEqual(self.problem(self.client.get(f"{BASE}/service/ready"))[0], 503)
        self.assertEqual(self.status(self.update(bulk("x0c0s0b0n0"))), 204)

    def test_fail_status(self):
        """Every update can be answered with a status, and is not applied then."""
        self.hsm.behaviour.fail_status = 500
        self.assertEqual(self.problem(self.update(bulk("x0c0s0b0n0")))[0], 500)
        self.assertEqual(self.hsm.components, {})
        self.assertEqual(self.hsm.updates[0].status, 500)

    def test_refuse(self):
        """Updates that name certain components, in any spelling, can be rejected."""
        self.hsm.behaviour.refuse = {"X0c0s0b0n01"}
        status, detail = self.problem(self.update(bulk("x0c0s0b0n0", "x0c0s0b0n1")))
        self.assertEqual(status, 400)
        self.assertIn("x0c0s0b0n1", detail)
        self.assertEqual(self.hsm.components, {})
        self.assertEqual(self.status(self.update(bulk("x0c0s0b0n0"))), 204)

    def test_faulty(self):
        """Updates that name certain components, in any spelling, can fail in any way."""
        self.hsm.behaviour.faulty = {"X0c0s0b0n01": "503", "x0c0s0b0n2": "hang"}
        self.assertEqual(self.problem(self.update(bulk("x0c0s0b0n0", "x00c0s0b0n1")))[0], 503)
        self.assertNoResult(self.update(bulk("x0c0s0b0n2")))
        self.assertEqual(self.hsm.components, {})
        self.assertEqual(self.status(self.update(bulk("x0c0s0b0n0"))), 204)

    def test_page(self):
        """An update can be answered with a page for a browser."""
        self.hsm.behaviour.page = True
        response = self.successResultOf(self.update(bulk("x0c0s0b0n0")))
        kind = response.headers.getRawHeaders("content-type")
        self.assertEqual((response.code, kind), (200, ["text/html; charset=utf-8"]))
        self.assertEqual(self.hsm.components, {})

    def test_retry_after(self):
        """Errors can ask to wait."""
        self.hsm.behaviour = Behaviour(fail_status=503, retry_after="7")
        response = self.successResultOf(self.update(bulk("x0c0s0b0n0")))
        self.assertEqual(response.headers.getRawHeaders("retry-after"), ["7"])

    def test_hang(self):
        """An update that hangs is never answered or applied, not even once updates work again."""
        self.hsm.behaviour.hang = True
        answer = self.update(bulk("x0c0s0b0n0"))
        self.get(f"{BASE}/service/ready")
        self.hsm.behaviour.hang = False
        self.advance(3600)
        self.assertNoResult(answer)
        self.assertEqual(self.hsm.components, {})
        self.assertIsNone(self.hsm.updates[0].status)

    def test_hang_ready(self):
        """The readiness probe can hang, too."""
        self.hsm.behaviour = Behaviour(hang=True, hang_ready=True)
        self.assertNoResult(self.client.get(f"{BASE}/service/ready"))


_BAD_NAME = (400, "invalid xname ID")

# What a real HSM (hms-smd 2025-11) answered: state of its database, names, status and detail.
RECORDED: Any = [
    (True, ["x1000c0s0b0n0", "x1000c0s0b0n1"], 204, ""),
    (True, ["x9c0s0b0n0"], 204, ""),
    (True, ["x1000c0s0b0n0", "not-a-name"], *_BAD_NAME),
    (True, [], 400, "Missing IDs"),
    (False, ["x1000c0s0b0n0"], 400, "operation 'Bulk StateData Update' failed"),
    (False, ["x1000c0s0b0n0", "not-a-name"], *_BAD_NAME),
]


class RecordedTests(MemoryTestCase):
    """The fake answers as a real HSM was recorded to answer, with its database and without."""

    def test_updates(self):
        """Updates have the recorded status, type and detail."""
        for database, names, status, detail in RECORDED:
            self.hsm.behaviour.database_gone = not database
            answer = self.update(bulk(*names))
            self.advance(1.5)
            if status == 204:
                self.assertEqual(self.status(answer), 204)
            else:
                self.assertEqual(self.problem(answer), (status, detail), names)

    def test_probe(self):
        """The probe has the recorded answers, and so has the table without a database."""
        ready = {"code": 0, "message": "HSM is healthy"}
        self.assertEqual(self.get(f"{BASE}/service/ready"), ready)
        self.hsm.behaviour.database_gone = True
        self.assertEqual(
            self.problem(self.client.get(f"{BASE}/service/ready")),
            (503, "HSM's database is unhealthy: connect: connection refused"),
        )
        for path in ("", "/x0c0s0b0n0"):
            answer = self.client.get(f"{BASE}/State/Components{path}")
            self.assertNoResult(answer)
            self.advance(1.5)
            self.assertEqual(self.problem(answer), (500, "failed to query DB."))

    def test_off(self):
        """A component that others turned off takes nothing but Ready/OK, though all succeeds."""
        component = f"{BASE}/State/Components/x1000c0s0b0n1"
        self.update(bulk("x1000c0s0b0n1"))
        self.assertEqual(self.change(component, State="Off", Force=True), 204)
        for state, flag, then in (
            ("Standby", "Alert", ("Off", "OK")),
            ("Ready", "Warning", ("Off", "OK")),
            ("Ready", "OK", ("Ready", "OK")),
            ("Standby", "Alert", ("Standby", "Alert")),
        ):
            answer = self.update(bulk("x1000c0s0b0n1", state=state, flag=flag))
            self.assertEqual(self.status(answer), 204)
            shown = self.get(component)
            self.assertEqual((shown["State"], shown["Flag"]), then)

    def test_unknown(self):
        """A component that HSM does not know is ignored by an update that succeeds."""
        self.hsm.behaviour.discovers = False
        self.assertEqual(self.status(self.update(bulk("x9c0s0b0n0"))), 204)
        self.assertEqual(self.get(f"{BASE}/State/Components"), {"Components": []})

    def change(self, url: str, **change: object) -> Any:
        """Change a component as others than hbtd do, and return the status."""
        return self.status(self.client.patch(f"{url}/StateData", data=orjson.dumps(change)))

    def test_others(self):
        """Others change a component that HSM knows; without force by the rules for updates."""
        self.update(bulk("x0c0s0b0n0", state="Off"))
        url = f"{BASE}/State/Components/x0c0s0b0n0"
        self.assertEqual(self.change(url, State="Standby"), 204)
        self.assertEqual(self.get(url)["State"], "Off")
        self.assertEqual(self.change(url, State="On", Force=True), 204)
        self.assertEqual(self.get(url)["State"], "On")
        self.assertEqual(self.change(url, State="Blue"), 400)
        self.assertEqual(self.change(f"{BASE}/State/Components/x0c0s0b0n1", State="Off"), 404)

    def ids(self, query: str) -> list[str]:
        """Return the components that a query finds."""
        url = f"{BASE}/State/Components{query}"
        return [each["ID"] for each in self.get(url)["Components"]]

    def test_queries(self):
        """The table is asked for names, types, states and flags; what it lacks is left out."""
        self.update(bulk("x0c0s0b0n0", "x0c0s0b0n1", "x0c0s0b0"))
        self.update(bulk("x0c0s0b0n1", state="Standby", flag="Alert"))
        self.assertEqual(self.ids("?type=Node"), ["x0c0s0b0n0", "x0c0s0b0n1"])
        self.assertEqual(self.ids("?type=node&state=ready"), ["x0c0s0b0n0"])
        self.assertEqual(self.ids("?flag=Alert&flag=Warning"), ["x0c0s0b0n1"])
        self.assertEqual(self.ids("?state=Off"), [])
        self.assertEqual(self.ids("?id=X0c0s0b0n01&id=x7c0s0b0n0&id=nope"), ["x0c0s0b0n1"])
        self.assertEqual(self.ids("?enabled=false"), [])

    def test_query_by_body(self):
        """The same can be asked for in a body."""
        self.update(bulk("x0c0s0b0n0", "x0c0s0b0n1"))
        names = ["x0c0s0b0n1", "nope"]
        body = orjson.dumps({"ComponentIDs": names, "type": ["Node"], "stateonly": True})
        answer = self.successResultOf(self.client.post(f"{BASE}/State/Components/Query", data=body))
        state = {"ID": "x0c0s0b0n1", "Type": "Node", "State": "Ready", "Flag": "OK"}
        self.assertEqual(self.successResultOf(answer.json()), {"Components": [state]})

    def test_reads(self):
        """Reads of the table can take time, and can be missing, as in other releases of HSM."""
        self.hsm.behaviour.read_ms = 500
        answer = self.client.get(f"{BASE}/State/Components")
        self.advance(0.4)
        self.assertNoResult(answer)
        self.advance(0.2)
        self.assertEqual(self.status(answer), 200)
        self.hsm.behaviour.lists = False
        self.assertEqual(self.problem(self.client.get(f"{BASE}/State/Components"))[0], 404)

    def test_time(self):
        """An update that is given up meanwhile is not applied either, nor noted as answered."""
        self.hsm.behaviour.database_gone = True
        given_up = self.update(bulk("x0c0s0b0n0"))
        given_up.cancel()
        self.client.flush()
        self.failureResultOf(given_up)
        self.advance(1.5)
        (update,) = self.hsm.updates
        self.assertEqual((update.status, update.applied, self.hsm.components), (None, None, {}))


class SocketTests(TestCase):
    """The fake HSM on real connections."""

    def setUp(self):
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.hsm = FakeHSM(self.reactor)
        site: Any = Site(self.hsm.resource(), reactor=reactor)
        port: Any = self.reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}/hsm/v1"
        self.client = HTTPClient(Agent(self.reactor))

    def update(self, **kwargs: Any) -> Any:
        """Send a bulk update."""
        url = f"{self.url}/State/Components/BulkStateData"
        return self.client.patch(url, data=bulk("x0c0s0b0n0"), **kwargs)

    def assert_never_answered(self) -> None:
        """Assert that the update was received, but neither applied nor answered."""
        (update,) = self.hsm.updates
        self.assertEqual((update.status, update.answered, update.applied), (None, None, None))
        self.assertEqual(self.hsm.components, {})

    async def test_answers(self):
        """An update is answered once it has been applied."""
        self.hsm.behaviour.cost_ms = 10
        response = await self.update()
        self.assertEqual(response.code, 204)
        self.assertEqual(await response.content(), b"")

    async def test_reset(self):
        """The connection is aborted instead of an answer."""
        self.hsm.behaviour.reset = True
        await self.assertFailure(self.update(), ResponseNeverReceived)
        self.assert_never_answered()

    async def test_garbage(self):
        """The answer is not HTTP."""
        self.hsm.behaviour.garbage = True
        await self.assertFailure(self.update(), ResponseFailed)
        self.assert_never_answered()

    async def test_hang(self):
        """No answer comes, and the client times out."""
        self.hsm.behaviour.hang = True
        giving_up = self.update(timeout=0.05, reactor=self.reactor)
        await self.assertFailure(giving_up, ResponseNeverReceived)
        self.assert_never_answered()
