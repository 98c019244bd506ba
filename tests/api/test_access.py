"""Access as a table: every kind of credential, on every route, under every option."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from hbtd.api.routes import Role
from hbtd.app.service import HbtdService
from tests.support.access_memory import CREDENTIALS, AccessTestCase
from tests.support.http_memory import HEARTBEAT, XNAME

NODES: dict[str, dict[str, Any]] = {
    "any": {"node_access": "any"},
    "cert": {"node_access": "cert"},
    "jwt": {"node_access": "jwt:{folder}/jwks.json"},
    "both": {"node_access": "cert+jwt:{folder}/jwks.json"},
    "xname": {"node_access": "jwt:{folder}/jwks.json", "jwt_require_xname": True},
}

OPERATORS = {
    "loopback": "loopback",
    "token": "token:{folder}/tokens",
    "cert": "cert:root,ops",
    "any": "any",
    "all": "loopback+token:{folder}/tokens+cert:ops",
}

# What everyone may do, with the status of the answer.
OPEN = {
    ("GET", "/params"): 200,
    ("GET", f"/hbstate/{XNAME}"): 200,
    ("POST", "/hbstates"): 200,
    ("GET", "/liveness"): 204,
    ("GET", "/readiness"): 204,
    ("GET", "/health"): 200,
    ("GET", "/openapi.json"): 200,
}

# What everybody may read unless --reader_access=operators.
READ = {
    ("GET", "/metrics"): 200,
    ("GET", "/components"): 200,
    ("GET", f"/components/{XNAME}"): 404,
    ("GET", "/summary"): 200,
    ("GET", "/tree"): 200,
    ("GET", "/picture"): 200,
    ("GET", "/history"): 200,
    ("GET", "/maintenance"): 200,
    ("GET", "/maintenance/x"): 404,
    ("GET", "/reconcile"): 200,
    ("GET", "/whatif"): 200,
    ("GET", "/thresholds"): 200,
    ("GET", "/guard"): 200,
}

# The status of the answer to a heartbeat of XNAME, by --node_access.
BEATS = """
                              any   cert  jwt   both  xname
nothing                       200   401   401   401   401
on this host                  200   401   401   401   401
on this host, by IPv6         200   401   401   401   401
on this host, mapped          200   401   401   401   401
on this host, by a socket     200   401   401   401   401
through a proxy here          200   401   401   401   401
through a browser here        403   403   403   403   403
by another name here          200   401   401   401   401
by another name, by a socket  200   401   401   401   401
claims to be here             200   401   401   401   401
operator's token              200   401   401   401   401
other token                   200   401   401   401   401
other scheme                  200   401   401   401   401
operator's certificate        200   403   401   403   401
own certificate               200   200   401   200   401
own certificate, by DNS       200   200   401   200   401
own certificate, by SPIFFE    200   200   401   200   401
neighbour's certificate       200   403   401   403   401
expired certificate           200   401   401   401   401
own JWT                       200   401   200   200   200
neighbour's JWT               200   401   403   403   403
anybody's JWT                 200   401   200   200   403
someone else's JWT            200   401   403   403   403
expired JWT                   200   401   401   401   401
"""

# The status of the answer to a PATCH of parameters, by --operator_access. `jwt` means 403 where
# nodes have JWTs, as then the caller is known not to be an operator, and 401 elsewhere.
PATCHES = """
                              loopback  token  cert  any   all
nothing                       403       401    401   200   401
on this host                  200       401    401   200   200
on this host, by IPv6         200       401    401   200   200
on this host, mapped          200       401    401   200   200
on this host, by a socket     200       401    401   200   200
through a proxy here          403       401    401   200   401
through a browser here        403       401    401   200   401
by another name here          403       401    401   200   403
by another name, by a socket  200       401    401   200   200
claims to be here             403       401    401   200   401
operator's token              403       200    401   200   200
other token                   403       401    401   200   401
other scheme                  403       401    401   200   401
operator's certificate        403       403    200   200   200
own certificate               403       403    403   200   403
own certificate, by DNS       403       403    403   200   403
own certificate, by SPIFFE    403       403    403   200   403
neighbour's certificate       403       403    403   200   403
expired certificate           403       401    401   200   401
own JWT                       403       jwt    jwt   200   jwt
neighbour's JWT               403       jwt    jwt   200   jwt
anybody's JWT                 403       jwt    jwt   200   jwt
someone else's JWT            403       jwt    jwt   200   jwt
expired JWT                   403       401    401   200   401
"""


def table(text: str) -> dict[tuple[str, str], str]:
    """Parse a table; return its cells by row and column."""
    header, *rows = (line for line in text.splitlines() if line)
    cells = {}
    for row in rows:
        for column, cell in zip(header.split(), row[30:].split(), strict=True):
            cells[row[:30].strip(), column] = cell
    return cells


class TableTests(AccessTestCase):
    """Every cell of the tables."""

    def cases(self) -> Iterator[tuple[str, str, HbtdService]]:
        """Start a service for each combination of options."""
        for nodes, operators in product(NODES, OPERATORS):
            options: dict[str, Any] = {**NODES[nodes], "operator_access": OPERATORS[operators]}
            yield nodes, operators, self.start(**options)

    def test_beats(self) -> None:
        """Heartbeats are taken as --node_access says, whatever --operator_access says."""
        expected = table(BEATS)
        self.assertEqual(len(expected), len(CREDENTIALS) * len(NODES))
        for nodes, operators, service in self.cases():
            for name, credential in CREDENTIALS.items():
                status = int(expected[name, nodes])
                for path in ("/hmi/v1/heartbeat", f"/v1/heartbeat/{XNAME.upper()}"):
                    got = self.outcome(service, credential, "POST", path, HEARTBEAT)
                    self.assertEqual(got, status, (nodes, operators, name, path))

    def test_patches(self) -> None:
        """Only operators, as --operator_access defines them, can change parameters."""
        expected = table(PATCHES)
        self.assertEqual(len(expected), len(CREDENTIALS) * len(OPERATORS))
        for number, (nodes, operators, service) in enumerate(self.cases()):
            for name, credential in CREDENTIALS.items():
                cell = expected[name, operators]
                known = nodes in ("jwt", "both", "xname")
                status = int(cell if cell != "jwt" else "403" if known else "401")
                change = {"Warntime": str(11 + number)}
                got = self.outcome(service, credential, "PATCH", "/v1/params", change)
                self.assertEqual(got, status, (nodes, operators, name))

    def test_own_component(self) -> None:
        """Operators can have any component forgotten, or be away, authenticated nodes their own."""
        beats, patches = table(BEATS), table(PATCHES)
        for nodes, operators, service in self.cases():
            for name, credential in CREDENTIALS.items():
                beat, patch = beats[name, nodes], patches[name, operators]
                if patch == "200":
                    status = 204
                elif nodes == "any":
                    status = int(patch) if patch != "jwt" else 401
                elif beat == "200" and name != "anybody's JWT":
                    status = 204
                elif name == "by another name here":
                    status = int(patch)
                elif name == "through a browser here":
                    status = 401
                else:
                    status = 401 if beat == "401" else 403
                path = f"/hmi/v1/heartbeat/{XNAME}"
                got = self.outcome(service, credential, "DELETE", path)
                self.assertEqual(got, status, (nodes, operators, name))
                got = self.outcome(service, credential, "POST", f"{path}/away", {"For": 5})
                self.assertEqual(got, status, (nodes, operators, name))

    def test_maintenance(self) -> None:
        """Only operators, as --operator_access defines them, can set maintenance, or end it."""
        expected = table(PATCHES)
        for nodes, operators, service in self.cases():
            for name, credential in CREDENTIALS.items():
                cell = expected[name, operators]
                known = nodes in ("jwt", "both", "xname")
                refused = int(cell if cell != "jwt" else "403" if known else "401")
                for method, path, body, granted in (
                    ("POST", "/maintenance", {"XNames": [XNAME], "For": 5}, 201),
                    ("PATCH", "/maintenance/x", {"For": 5}, 404),
                    ("DELETE", "/maintenance/x", b"", 404),
                ):
                    status = granted if cell == "200" else refused
                    got = self.outcome(service, credential, method, f"/v1{path}", body)
                    self.assertEqual(got, status, (nodes, operators, name, path))

    def test_open(self) -> None:
        """Everything else needs no credentials, whatever the options are."""
        for _, _, service in self.cases():
            for name in ("nothing", "other token", "claims to be here"):
                for (method, path), status in (OPEN | READ).items():
                    got = self.outcome(service, CREDENTIALS[name], method, "/v1" + path, {})
                    self.assertEqual(got, status, path)

    def test_closed_reading(self) -> None:
        """With --reader_access=operators, only operators may read, except the old queries."""
        expected = table(PATCHES)
        for operators in ("loopback", "token"):
            service = self.start(operator_access=OPERATORS[operators], reader_access="operators")
            for name, credential in CREDENTIALS.items():
                cell = expected[name, operators]
                for (method, path), status in READ.items():
                    wanted = status if cell == "200" else 401 if cell == "jwt" else int(cell)
                    got = self.outcome(service, credential, method, "/v1" + path)
                    self.assertEqual(got, wanted, (operators, name, path))
                for (method, path), status in OPEN.items():
                    got = self.outcome(service, credential, method, "/v1" + path, {})
                    self.assertEqual(got, status, path)

    def test_complete(self) -> None:
        """Every route has the role that these tables test: no route is missing from them."""
        service = self.start()
        roles = {(route.method, route.path): route.role for route in service.routes.api}
        closed = {
            ("POST", "/heartbeat"): Role.NODE,
            ("POST", "/heartbeat/<xname>"): Role.NODE,
            ("DELETE", "/heartbeat/<xname>"): Role.NODE_OR_OPERATOR,
            ("POST", "/heartbeat/<xname>/away"): Role.NODE_OR_OPERATOR,
            ("POST", "/maintenance"): Role.OPERATOR,
            ("PATCH", "/maintenance/<id>"): Role.OPERATOR,
            ("DELETE", "/maintenance/<id>"): Role.OPERATOR,
            ("PATCH", "/params"): Role.OPERATOR,
            ("GET", "/internals"): Role.OPERATOR,
            ("POST", "/forget"): Role.OPERATOR,
            ("POST", "/reconcile"): Role.OPERATOR,
            ("PUT", "/thresholds"): Role.OPERATOR,
            ("POST", "/guard/release"): Role.OPERATOR,
        }
        closed["GET", "/events"] = Role.READER  # an answer without an end
        for method, path in READ:
            path = path.replace("/maintenance/x", "/maintenance/<id>")
            closed[method, path.replace(XNAME, "<name>")] = Role.READER
        opened = {(method, path.replace(XNAME, "<xname>")): Role.ANYONE for method, path in OPEN}
        self.assertEqual(roles, closed | opened)
        at_root = {route.path: route.role for route in service.routes.root}
        self.assertEqual(at_root.pop("/metrics"), Role.READER)
        # The page has no data of its own: it asks for them, with what its reader may do.
        self.assertEqual(at_root, dict.fromkeys(("/", "/ui", "/ui/", "/ui/<name>"), Role.ANYONE))
