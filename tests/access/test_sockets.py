"""Nodes and operators with their own certificates and tokens, on real sockets."""

import re
import socket
import ssl
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from treq.client import HTTPClient
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, ResponseNeverReceived
from twisted.web.server import Site

from hbtd.net.tls import Identity, ServerOptions, client_policy, load_identity
from tests.support.certificates import (
    make_identity,
    revocation_list,
    write_identity,
    write_lists,
)
from tests.support.issuer import KEYS, Issuer, JWKSPage, bearer
from tests.support.running import NODE, Hbtd, heartbeat, reactor, start_hbtd, until
from tests.support.short_paths import short_folder

NEIGHBOUR = "x1000c0s0b0n1"


class SocketsTestCase(TestCase):
    """A test with a service over TLS that verifies client certificates."""

    timeout = 240

    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()
        self.authority = make_identity("authority")
        self.server = make_identity("localhost")

    def start(self, **options: Any) -> Hbtd:
        """Start hbtd."""
        cert, key = write_identity(self.server, self.folder / "server")
        ca, _ = write_identity(self.authority, self.folder / "ca")
        paths = {"tls_cert": str(cert), "tls_key": str(key), "tls_client_ca": str(ca)}
        return start_hbtd(self, **paths, **options)

    def client(self, identity: Identity | None = None) -> HTTPClient:
        """Return a client, with a certificate if one is given."""
        trust, _ = write_identity(self.server, self.folder / "trust")
        if identity is not None:
            identity = load_or_keep(identity, self.folder / "client")
        pool = HTTPConnectionPool(reactor)
        self.addCleanup(pool.closeCachedConnections)
        return HTTPClient(Agent(reactor, client_policy(str(trust), identity), pool=pool))

    async def beats(
        self, hbtd: Hbtd, client: HTTPClient, name: str, headers: Any = None
    ) -> list[int]:
        """Send a heartbeat of a component to both routes; return the statuses."""
        statuses = []
        for path in ("heartbeat", f"heartbeat/{name}"):
            response = await client.post(
                f"{hbtd.url}/hmi/v1/{path}",
                json=heartbeat(name),
                headers=headers or {},
                timeout=20,
                reactor=reactor,
            )
            content = await response.content()
            if response.code >= 400:
                kind = response.headers.getRawHeaders("content-type")
                self.assertEqual(kind, ["application/problem+json"], content)
            statuses.append(response.code)
        return statuses


def load_or_keep(identity: Identity, folder: Path) -> Identity:
    """Load a certificate as hbtd does; if it is refused, return it as it is."""
    cert, key = write_identity(identity, folder)
    try:
        return load_identity(str(cert), str(key))
    except Exception:  # noqa: BLE001  # that is what is tested
        return identity


class CertificateTests(SocketsTestCase):
    """`--node_access=cert`."""

    async def test_own(self) -> None:
        """A certificate allows heartbeats of its own component, and of no other."""
        hbtd = self.start(node_access="cert")
        uri = f"spiffe://shasta/compute/{NODE}/workload/heartbeat"
        for identity in (
            make_identity(NODE, self.authority),
            make_identity("node", self.authority, dns=[f"{NODE}.hsn.example"]),
            make_identity("node", self.authority, uris=[uri]),
        ):
            client = self.client(identity)
            self.assertEqual(await self.beats(hbtd, client, NODE), [200, 200])
            self.assertEqual(await self.beats(hbtd, client, NEIGHBOUR), [403, 403])
        self.assertEqual((hbtd.service.tracker.healthy, hbtd.service.tracker.beats), (1, 6))

    async def test_authority_gone(self) -> None:
        """When an authority is removed, connections with its certificates are closed."""
        hbtd = self.start(node_access="cert")
        client = self.client(make_identity(NODE, self.authority))
        self.assertEqual(await self.beats(hbtd, client, NODE), [200, 200])
        hbtd.service.reload()  # nothing has changed
        self.assertEqual(await self.beats(hbtd, client, NODE), [200, 200])
        write_identity(make_identity("authority"), self.folder / "ca")
        hbtd.service.reload()
        await until(lambda: len(hbtd.service._connections) == 0)
        with self.assertRaises(ResponseNeverReceived):
            await self.beats(hbtd, client, NODE)

    async def test_handshake_goes_on(self) -> None:
        """When an authority is removed, connections without a complete handshake are closed."""
        hbtd = self.start(node_access="cert")
        connection = socket.create_connection(("127.0.0.1", int(hbtd.url.rpartition(":")[2])))
        self.addCleanup(connection.close)
        await until(lambda: len(hbtd.service._connections) == 1)
        write_identity(make_identity("authority"), self.folder / "ca")
        hbtd.service.reload()
        await until(lambda: len(hbtd.service._connections) == 0)

    async def test_none(self) -> None:
        """Heartbeats without a certificate are refused."""
        hbtd = self.start(node_access="cert")
        client = self.client()
        self.assertEqual(await self.beats(hbtd, client, NODE), [401, 401])
        response = await client.get(f"{hbtd.url}/hmi/v1/params")
        self.assertEqual((response.code, (await response.json())["Node_access"]), (200, "cert"))

    async def test_bad(self) -> None:
        """A certificate that is expired, not yet valid, or of another authority can't connect."""
        hbtd = self.start(node_access="cert")
        for identity in (
            make_identity(NODE, self.authority, days=-1),
            make_identity(NODE, self.authority, begins=0.5),
            make_identity(NODE, make_identity("authority")),
            make_identity(NODE),
        ):
            with self.assertRaises(ResponseNeverReceived):
                await self.beats(hbtd, self.client(identity), NODE)
        self.assertEqual(hbtd.service.tracker.beats, 0)

    async def test_operator(self) -> None:
        """Only the named certificate can change parameters."""
        hbtd = self.start(node_access="cert", operator_access="cert:ops")
        for name, status in (("ops", 200), (NODE, 403), ("Ops", 403)):
            client = self.client(make_identity(name, self.authority))
            response = await client.patch(f"{hbtd.url}/v1/params", json={"Errtime": "45"})
            await response.content()
            self.assertEqual(response.code, status, name)

    async def test_authority_replaced(self) -> None:
        """Certificates of a new authority are accepted once its file is read again."""
        hbtd = self.start(node_access="cert")
        other = make_identity("authority")
        client = self.client(make_identity(NODE, other))
        with self.assertRaises(ResponseNeverReceived):
            await self.beats(hbtd, client, NODE)
        write_identity(other, self.folder / "ca")
        hbtd.service.reload()
        self.assertEqual(await self.beats(hbtd, client, NODE), [200, 200])


class RevocationTests(SocketsTestCase):
    """`--tls_client_crl` and `--tls_client_required`."""

    def write_list(self, *revoked: Identity) -> str:
        """Write the authority's revocation list; return its path."""
        made = revocation_list(self.authority, *revoked)
        return str(write_lists(self.folder / "crl.pem", made))

    async def test_kept(self) -> None:
        """A revoked node's connections end with the reload, those of the others go on."""
        hbtd = self.start(node_access="cert", tls_client_crl=self.write_list())
        revoked, other = (make_identity(each, self.authority) for each in (NODE, NEIGHBOUR))
        client, others = self.client(revoked), self.client(other)
        self.assertEqual(await self.beats(hbtd, client, NODE), [200, 200])
        self.assertEqual(await self.beats(hbtd, others, NEIGHBOUR), [200, 200])
        kept = set(hbtd.service._connections)
        self.assertEqual(len(kept), 2)
        self.write_list()
        hbtd.service.reload()
        self.assertEqual(await self.beats(hbtd, client, NODE), [200, 200])
        self.assertEqual(set(hbtd.service._connections), kept)
        self.write_list(revoked)
        hbtd.service.reload()
        await until(lambda: len(hbtd.service._connections) == 1)
        with self.assertRaises(ResponseNeverReceived):
            await self.beats(hbtd, client, NODE)
        self.assertEqual(await self.beats(hbtd, others, NEIGHBOUR), [200, 200])
        self.assertLess(set(hbtd.service._connections) & kept, kept)
        self.assertEqual(len(set(hbtd.service._connections) & kept), 1)
        self.write_list()  # it was suspended only
        hbtd.service.reload()
        self.assertEqual(await self.beats(hbtd, self.client(revoked), NODE), [200, 200])

    async def test_handshake_goes_on(self) -> None:
        """When a certificate is revoked, connections without a complete handshake are closed."""
        hbtd = self.start(tls_client_crl=self.write_list())
        connection = socket.create_connection(("127.0.0.1", int(hbtd.url.rpartition(":")[2])))
        self.addCleanup(connection.close)
        await until(lambda: len(hbtd.service._connections) == 1)
        (opened,) = hbtd.service._connections
        self.write_list()
        hbtd.service.reload()
        response = await self.client().get(f"{hbtd.url}/v1/liveness")
        self.assertEqual((response.code, await response.content()), (204, b""))
        self.assertIn(opened, hbtd.service._connections)
        self.write_list(make_identity(NODE, self.authority))
        hbtd.service.reload()
        # Before the time for its first request is over.
        await until(lambda: opened not in hbtd.service._connections, within=10)

    async def test_required(self) -> None:
        """A client without a certificate is told so by an alert, on TCP and on a Unix socket."""
        path = f"{short_folder(self)}/s"
        alerts = {
            ssl.TLSVersion.TLSv1_2: "handshake failure",
            ssl.TLSVersion.TLSv1_3: "certificate required",
        }
        for options in ({}, {"listen": f"unix:{path}"}):
            hbtd = self.start(tls_client_required=True, node_access="cert", **options)
            target = path if options else int(hbtd.url.rpartition(":")[2])
            for number, (version, alert) in enumerate(alerts.items(), 1):
                with capturedLogs() as events:
                    told = await deferToThread(_refused, target, version)
                self.assertIn(alert, told.lower().replace("_", " "))
                self.assertEqual(hbtd.service.access.refusals.counts["tls"], number)
                lines = [eventAsText(event) for event in events]
                named = any("the client presents no certificate" in line for line in lines)
                self.assertEqual(named, number == 1)  # the second one is in a line a minute later
            if not options:
                client = self.client(make_identity(NODE, self.authority))
                self.assertEqual(await self.beats(hbtd, client, NODE), [200, 200])
            await hbtd.service.stopService()


class TokenTests(SocketsTestCase):
    """`--node_access=jwt:PATH`."""

    async def test_tokens(self) -> None:
        """A token allows heartbeats of its own component; invalid tokens allow nothing."""
        issuers = [Issuer(algorithm, algorithm) for algorithm in KEYS]
        first, *others = issuers
        path = first.publish(self.folder / "jwks.json", *others)
        hbtd = self.start(node_access=f"jwt:{path}")
        client = self.client()
        with capturedLogs() as events:
            for issuer in issuers:
                own = bearer(issuer.token(NODE))
                self.assertEqual(await self.beats(hbtd, client, NODE, own), [200, 200])
                self.assertEqual(await self.beats(hbtd, client, NEIGHBOUR, own), [403, 403])
            stranger = Issuer("ES256", "ES256", ec.generate_private_key(ec.SECP256R1()))
            wrong = [
                first.token(NODE, exp=1),
                first.token(NODE, nbf=2**33),
                first.token(NODE, aud="other"),
                stranger.token(NODE),
                *(issuer.unsigned(NODE) for issuer in issuers),
                *(issuer.confused(NODE) for issuer in issuers),
            ]
            for token in wrong:
                got = await self.beats(hbtd, client, NODE, bearer(token))
                self.assertEqual(got, [401, 401], token)
            self.assertEqual(await self.beats(hbtd, client, NODE), [401, 401])
        said = "\n".join(eventAsText(event) for event in events)
        for token in (*wrong, own["Authorization"].split()[1]):
            for part in token.split("."):
                self.assertFalse(part and part in said)

    async def test_url(self) -> None:
        """Keys are fetched from an https URL only if its certificate is trusted."""
        for trusted, statuses in ((True, [200, 200]), (False, [503, 503])):
            self.assertEqual(await self.fetched(trusted=trusted), statuses)

    async def fetched(self, *, trusted: bool) -> list[int]:
        """Start a service that fetches keys by https; return the statuses of heartbeats."""
        issuer = Issuer("RS256")
        page = JWKSPage(issuer.jwks())
        cert, key = write_identity(make_identity("localhost"), self.folder / "spire")
        options: Any = ServerOptions(load_identity(str(cert), str(key)))
        listening = reactor.listenSSL(0, Site(page), options, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        url = f"https://localhost:{listening.getHost().port}/keys"
        said = "Fetched the keys" if trusted else "can't be fetched.*: TLS fails, see --jwt_ca: "
        with capturedLogs() as events:
            hbtd = self.start(node_access=f"jwt:{url}", jwt_ca=str(cert) if trusted else "system")
            await until(lambda: any(re.search(said, eventAsText(event)) for event in events))
        headers = bearer(issuer.token(NODE))
        statuses = await self.beats(hbtd, self.client(), NODE, headers)
        await hbtd.service.stopService()
        return statuses


class SuiteTests(SocketsTestCase):
    """The TLS versions and cipher suites that are offered."""

    async def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are accepted, only with forward secrecy."""
        hbtd = self.start()
        port = int(hbtd.url.rpartition(":")[2])
        for suites, version, fine in (
            ("ECDHE+AESGCM", ssl.TLSVersion.TLSv1_2, True),
            ("kRSA", ssl.TLSVersion.TLSv1_2, False),
            ("DEFAULT", ssl.TLSVersion.TLSv1_3, True),
        ):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.maximum_version = version
            context.set_ciphers(suites)
            connecting = deferToThread(_handshake, port, context)
            if fine:
                self.assertEqual(await connecting, version.name.replace("_", "."))
            else:
                with self.assertRaises((ssl.SSLError, ConnectionError)):
                    await connecting


def _refused(target: int | str, version: ssl.TLSVersion) -> str:
    """Connect without a certificate; return the error after the handshake or in it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    raw = socket.socket(socket.AF_UNIX if isinstance(target, str) else socket.AF_INET)
    raw.settimeout(10)
    with raw:
        raw.connect(target if isinstance(target, str) else ("127.0.0.1", target))
        try:
            with context.wrap_socket(raw) as connection:
                connection.recv(1)
        except ssl.SSLError as error:
            return str(error)
    raise AssertionError("there was no alert")


def _handshake(port: int, context: ssl.SSLContext) -> str | None:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        return connection.version()
