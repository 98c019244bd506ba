"""Who may do what, as a table: role by credential by endpoint by option, every outcome."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from OpenSSL import crypto
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from hbtd.app.service import HbtdService
from hbtd.config.params import Params
from hbtd.net.tls import Identity
from tests.support.certificates import make_identity
from tests.support.http_memory import (
    HEARTBEAT,
    PROBLEM,
    ROUTES,
    XNAME,
    MemoryReactor,
    Response,
    loopback_request,
)
from tests.support.issuer import Issuer, bearer

NEIGHBOUR = "x1000c0s0b0n1"
TOKEN = "a-token-that-operators-have"
AUTHORITY = make_identity("authority")
ISSUER = Issuer()
REMOTE = IPv4Address("TCP", "192.0.2.1", 40000)
LOCAL = IPv4Address("TCP", "127.0.0.1", 40000)


class Credential(NamedTuple):
    """What somebody presents, and from where."""

    address: Any = REMOTE
    headers: dict[str, str] = {}
    identity: Identity | None = None


def issued(name: str, **more: Any) -> Identity:
    """Make a certificate of the authority that clients are checked with."""
    return make_identity(name, AUTHORITY, **more)


def spiffe(xname: str) -> list[str]:
    """Give the URIs of a certificate for a component's heartbeats."""
    return [f"spiffe://site.example/compute/{xname}/workload/heartbeat"]


CREDENTIALS = {
    "nothing": Credential(),
    "on this host": Credential(LOCAL),
    "on this host, by IPv6": Credential(IPv6Address("TCP", "::1", 40000)),
    "on this host, mapped": Credential(IPv6Address("TCP", "::ffff:127.0.0.1", 40000)),
    "on this host, by a socket": Credential(UNIXAddress(None)),
    "through a proxy here": Credential(LOCAL, {"X-Forwarded-For": "192.0.2.7"}),
    "through a browser here": Credential(LOCAL, {"Origin": "https://evil.example"}),
    "claims to be here": Credential(REMOTE, {"X-Forwarded-For": "127.0.0.1"}),
    "operator's token": Credential(headers=bearer(TOKEN)),
    "other token": Credential(headers=bearer(TOKEN + "x")),
    "other scheme": Credential(headers={"Authorization": f"Basic {TOKEN}"}),
    "operator's certificate": Credential(identity=issued("ops")),
    "own certificate": Credential(identity=issued(XNAME)),
    "own certificate, by DNS": Credential(identity=issued("n", dns=[f"{XNAME}.local"])),
    "own certificate, by SPIFFE": Credential(identity=issued("n", uris=spiffe(XNAME))),
    "neighbour's certificate": Credential(identity=issued(NEIGHBOUR)),
    "expired certificate": Credential(identity=issued(XNAME, days=-1)),
    "own JWT": Credential(headers=bearer(ISSUER.token(XNAME))),
    "neighbour's JWT": Credential(headers=bearer(ISSUER.token(NEIGHBOUR))),
    "anybody's JWT": Credential(headers=bearer(ISSUER.token(None))),
    "someone else's JWT": Credential(headers=bearer(ISSUER.token(None, sub="alice"))),
    "expired JWT": Credential(headers=bearer(ISSUER.token(XNAME, exp=1))),
}

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

# What anybody may do, and how that is answered.
OPEN = {
    ("GET", "/params"): 200,
    ("GET", f"/hbstate/{XNAME}"): 200,
    ("POST", "/hbstates"): 200,
    ("GET", "/liveness"): 204,
    ("GET", "/readiness"): 204,
    ("GET", "/health"): 200,
    ("GET", "/openapi.json"): 200,
    ("GET", "/metrics"): 200,
}

# What a heartbeat of XNAME is answered with, by --node_access.
BEATS = """
                              any   cert  jwt   both  xname
nothing                       200   401   401   401   401
on this host                  200   401   401   401   401
on this host, by IPv6         200   401   401   401   401
on this host, mapped          200   401   401   401   401
on this host, by a socket     200   401   401   401   401
through a proxy here          200   401   401   401   401
through a browser here        200   401   401   401   401
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

# What a PATCH of parameters is answered with, by --operator_access. `jwt` is 403 where nodes show
# JWTs, for then it is known that this is no operator, and 401 elsewhere.
PATCHES = """
                              loopback  token  cert  any   all
nothing                       403       401    401   200   401
on this host                  200       401    401   200   200
on this host, by IPv6         200       401    401   200   200
on this host, mapped          200       401    401   200   200
on this host, by a socket     200       401    401   200   200
through a proxy here          403       401    401   200   401
through a browser here        403       401    401   200   401
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
    """Read a table; gives its cells by row and column."""
    header, *rows = (line for line in text.splitlines() if line)
    cells = {}
    for row in rows:
        for column, cell in zip(header.split(), row[30:].split(), strict=True):
            cells[row[:30].strip(), column] = cell
    return cells


class Transport(StringTransport):
    """A connection of somebody, who may have presented a certificate in its handshake."""

    def __init__(self, credential: Credential) -> None:
        super().__init__(peerAddress=credential.address)
        self._identity = credential.identity

    def getPeerCertificate(self) -> crypto.X509 | None:
        """Give the certificate."""
        identity = self._identity
        return crypto.X509.from_cryptography(identity.chain[0]) if identity else None


class AccessTestCase(TestCase):
    """Speaks to services with various options, as various people."""

    fast_lane = True
    """Which lane is tested."""

    timeout = 120

    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()
        ISSUER.publish(self.folder / "jwks.json")
        tokens = self.folder / "tokens"
        tokens.write_text(f"# Operators'\n\n{TOKEN}\nanother-token-of-operators\n")
        tokens.chmod(0o600)

    def start(self, **options: Any) -> HbtdService:
        """Start a service, until the test ends."""
        given: dict[str, Any] = {
            name: value.format(folder=self.folder) if isinstance(value, str) else value
            for name, value in options.items()
        }
        reactor = MemoryReactor()
        given.update(kv_url="mem:", nosm=True, use_telemetry=False, tls=False)
        given.setdefault("fast_lane", self.fast_lane)
        service = HbtdService(Params(**given), reactor)
        service.startService()

        def end() -> Any:
            ended = service.stopService()
            reactor.pump([0.2] * 20)
            return ended

        self.addCleanup(end)
        self.reactor = reactor
        return service

    def speak(
        self,
        service: HbtdService,
        credential: Credential,
        method: str,
        path: str,
        body: object = b"",
    ) -> Response:
        """Make a request as somebody."""
        return loopback_request(
            self.reactor.tcpServers[0][1],
            method,
            path,
            body,
            credential.headers,
            Transport(credential),
        )

    def outcome(
        self,
        service: HbtdService,
        credential: Credential,
        method: str,
        path: str,
        body: object = b"",
    ) -> int:
        """Make a request; gives the status.

        Refusals are problems, 401 says what would do, and nothing of hbtd's state has changed.
        """
        tracker = service.tracker

        def state() -> tuple[object, ...]:
            counts = (tracker.beats, tracker.healthy, tracker.warned, tracker.dead)
            return (*counts, service.params.current)

        before = state()
        response = self.speak(service, credential, method, path, body)
        if response.status >= 400:
            self.assertEqual(response.content_type, PROBLEM)
            self.assertEqual(response.json()["status"], response.status)
            self.assertEqual(state(), before)
        self.assertEqual(response.status == 401, "www-authenticate" in response.headers)
        return response.status


class TableTests(AccessTestCase):
    """The table."""

    def cases(self) -> Iterator[tuple[str, str, HbtdService]]:
        """Start a service for every combination of options."""
        for nodes, operators in product(NODES, OPERATORS):
            options: dict[str, Any] = {**NODES[nodes], "operator_access": OPERATORS[operators]}
            yield nodes, operators, self.start(**options)

    def test_beats(self) -> None:
        """Heartbeats are taken as --node_access says, whoever may be an operator."""
        expected = table(BEATS)
        self.assertEqual(len(expected), len(CREDENTIALS) * len(NODES))
        for nodes, operators, service in self.cases():
            for name, credential in CREDENTIALS.items():
                status = int(expected[name, nodes])
                for path in ("/hmi/v1/heartbeat", f"/v1/heartbeat/{XNAME.upper()}"):
                    got = self.outcome(service, credential, "POST", path, HEARTBEAT)
                    self.assertEqual(got, status, (nodes, operators, name, path))

    def test_patches(self) -> None:
        """Parameters are changed by those whom --operator_access names, and nobody else."""
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

    def test_forgetting(self) -> None:
        """A component is forgotten for operators, and for itself if it can show who it is."""
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
                else:
                    status = 401 if beat == "401" else 403
                path = f"/hmi/v1/heartbeat/{XNAME}"
                got = self.outcome(service, credential, "DELETE", path)
                self.assertEqual(got, status, (nodes, operators, name))

    def test_open(self) -> None:
        """What clients and probes of the field read is read by anybody, under any option."""
        for _, _, service in self.cases():
            for name in ("nothing", "other token", "claims to be here"):
                for (method, path), status in OPEN.items():
                    got = self.outcome(service, CREDENTIALS[name], method, "/v1" + path, {})
                    self.assertEqual(got, status, path)

    def test_complete(self) -> None:
        """Of every route that there is, these tables say who may use it."""
        closed = {
            ("POST", "/heartbeat"),
            ("POST", f"/heartbeat/{XNAME}"),
            ("DELETE", f"/heartbeat/{XNAME}"),
            ("PATCH", "/params"),
        }
        routes = {
            (method, path)
            for path, methods in ROUTES.items()
            for method in methods
            if method != "HEAD"
        }
        self.assertEqual(closed | set(OPEN), routes)
