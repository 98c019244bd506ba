"""A service in memory, and all kinds of credentials to make requests to it with."""

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
from tests.support.http_memory import PROBLEM, XNAME, MemoryReactor, Response, loopback_request
from tests.support.issuer import Issuer, bearer

NEIGHBOUR = "x1000c0s0b0n1"
TOKEN = "a-token-that-operators-have"
AUTHORITY = make_identity("authority")
ISSUER = Issuer()
REMOTE = IPv4Address("TCP", "192.0.2.1", 40000)
LOCAL = IPv4Address("TCP", "127.0.0.1", 40000)


class Credential(NamedTuple):
    """What a client presents, and the address it connects from."""

    address: Any = REMOTE
    headers: dict[str, str] = {}
    identity: Identity | None = None


def issued(name: str, **more: Any) -> Identity:
    """Return a certificate signed by the authority that the service trusts."""
    return make_identity(name, AUTHORITY, **more)


def spiffe(xname: str) -> list[str]:
    """Return the URIs in a certificate for a component's heartbeats."""
    return [f"spiffe://site.example/compute/{xname}/workload/heartbeat"]


CREDENTIALS = {
    "nothing": Credential(),
    "on this host": Credential(LOCAL),
    "on this host, by IPv6": Credential(IPv6Address("TCP", "::1", 40000)),
    "on this host, mapped": Credential(IPv6Address("TCP", "::ffff:127.0.0.1", 40000)),
    "on this host, by a socket": Credential(UNIXAddress(None)),
    "through a proxy here": Credential(LOCAL, {"X-Forwarded-For": "192.0.2.7"}),
    "through a browser here": Credential(LOCAL, {"Origin": "https://evil.example"}),
    "by another name here": Credential(LOCAL, {"Host": "evil.example:28500"}),
    "by another name, by a socket": Credential(UNIXAddress(None), {"Host": "evil.example"}),
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
"""Credentials by what they are, as the tables of tests/api/test_access.py name them."""


class Transport(StringTransport):
    """A client's connection, with the certificate that it has presented, if any."""

    def __init__(self, credential: Credential) -> None:
        super().__init__(peerAddress=credential.address)
        self._identity = credential.identity

    def getPeerCertificate(self) -> crypto.X509 | None:
        """Return the certificate."""
        identity = self._identity
        return crypto.X509.from_cryptography(identity.chain[0]) if identity else None


class AccessTestCase(TestCase):
    """A test that makes requests, with various credentials, to services with various options."""

    fast_lane = True
    """Whether plain heartbeats take the fast lane."""

    timeout = 240

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
        """Make a request with these credentials; return the response."""
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
        """Make a request; return the status.

        Check that a refusal is a problem document and has no effect, and that 401, and only that,
        has a challenge.
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
