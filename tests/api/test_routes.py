"""Routes and their roles: who may call a route is asked before its handler is called."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.access.gate import Caller
from hbtd.access.refusals import NoRoom
from hbtd.access.service import Access
from hbtd.api.app import make_resource
from hbtd.api.authorization import Authorization
from hbtd.api.routes import Role, Route
from hbtd.config.params import Params
from hbtd.server.limits import limits_of
from hbtd.server.replies import Reply
from hbtd.server.site import LimitedSite
from tests.support.access_memory import CREDENTIALS, Transport
from tests.support.http_memory import XNAME, Response, loopback_request


class RoleTests(SynchronousTestCase):
    """A route for each role, with a handler that notes its calls."""

    open = False
    """Whether everybody may read."""

    def setUp(self):
        self.params = Params(node_access="cert", operator_access="cert:ops", tls_client_ca="x")
        self.access = Access(self.params, Clock(), None, (), lambda: 0.0)
        self.calls: list[dict[str, Any]] = []

    def handle(self, request: object, **arguments: Any) -> Reply:
        """Note the arguments."""
        self.calls.append(arguments)
        return Reply(204)

    def call(self, role: Role, credentials: str, handler: Any = None) -> Response:
        """Call a route of this role."""
        route = Route("GET", "/try/<name>", role, handler or self.handle)
        access = self.access
        authorization = Authorization(
            access.gate, access.peers, access.refusals, frozenset(), open_to_readers=self.open
        )
        resource = make_resource(authorization, [route])
        site = LimitedSite(resource, Clock(), limits_of(self.params), lambda *refusal: None)
        transport = Transport(CREDENTIALS[credentials])
        return loopback_request(site, "GET", "/v1/try/x", transport=transport)

    def test_required(self) -> None:
        """A route can't be made without a role."""
        incomplete: Any = Route
        with self.assertRaisesRegex(TypeError, "role"):
            incomplete("GET", "/try", handler=self.handle)

    def test_refused(self) -> None:
        """Without the credentials that the role needs, the handler is not called."""
        for role in set(Role) - {Role.ANYONE}:
            self.assertEqual(self.call(role, "nothing").status, 401, role)
        for role in (Role.OPERATOR, Role.READER):
            self.assertEqual(self.call(role, "own certificate").status, 403)
        self.assertEqual(self.calls, [])

    def test_called(self) -> None:
        """The handler gets the caller only if what it may do depends on the component."""
        for role, credentials in (
            (Role.ANYONE, "nothing"),
            (Role.NODE, "own certificate"),
            (Role.NODE_OR_OPERATOR, "operator's certificate"),
            (Role.OPERATOR, "operator's certificate"),
            (Role.READER, "operator's certificate"),
        ):
            self.assertEqual(self.call(role, credentials).status, 204, role)
        node = Caller(frozenset({XNAME}))
        self.assertEqual(
            self.calls,
            [
                {"name": "x"},
                {"name": "x", "caller": node},
                {"name": "x", "caller": Caller(operator=True)},
                {"name": "x"},
                {"name": "x"},
            ],
        )

    def test_open_to_readers(self) -> None:
        """Where reading is open, readers need no credentials, and operators still do."""
        self.open = True
        self.assertEqual(self.call(Role.READER, "nothing").status, 204)
        self.assertEqual(self.call(Role.OPERATOR, "nothing").status, 401)

    def test_refused_by_handler(self) -> None:
        """What a handler refuses is answered and counted like a refusal of the gate."""

        def refuse(request: object, **arguments: Any) -> Reply:
            raise NoRoom("Full")

        response = self.call(Role.ANYONE, "nothing", refuse)
        self.assertEqual((response.status, response.json()["detail"]), (503, "Full"))
        self.assertEqual(response.headers["retry-after"], "60")
        self.assertEqual(self.access.refusals.counts["full"], 1)
