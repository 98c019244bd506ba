"""The closed example of docs/security.md, attacked while nodes beat and one of them dies."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import skipIf

from cryptography.hazmat.primitives.asymmetric import ec
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.server import Site

from hbtd.api.routes import Role, Route
from hbtd.app.service import HbtdService
from hbtd.config.params import Params
from hbtd.net.tls import Identity, ServerOptions, client_policy, load_identity
from hbtd.simulator.fake_hsm import FakeHSM
from tests.support.certificates import (
    issue,
    make_identity,
    revocation_list,
    write_identity,
    write_lists,
)
from tests.support.http_memory import MemoryReactor, encode_request
from tests.support.intruders import DETOURS, NOTHING, Answer, Intruder, bombs
from tests.support.issuer import Issuer, bearer, subject
from tests.support.prepared import CHECKOUT, run_prepared
from tests.support.processes import spawn
from tests.support.programs import run_program
from tests.support.running import heartbeat, reactor, until

LIVING = tuple(f"x1000c0s{number}b0n0" for number in range(3))
INTRUDER = LIVING[0]
"""The node that attackers have taken over; its own heartbeats go on."""
VICTIM = "x1000c0s7b0n0"
"""The node that dies, and that attackers would like to keep alive."""
INVENTED = "x9999c0s0b0n0"

ISSUED_BY = "https://spire.example"
TOKEN = "a-token-of-an-operator-of-this-test"

TIMES = {"WARNTIME": 4, "ERRTIME": 6, "INTERVAL": 1}
"""Seconds, so that the test need not last for a minute."""
COMMITS = 12
"""Seconds for commits, probes and retries that docs/guarantees.md allows."""
PERIOD = 0.4
HANDSHAKE_SECONDS = 4

MADE = "closed example: its clients"
"""What precedes the commands that make certificates, a list and tokens."""

LEFT = {
    *(("GET", "/params"), ("GET", "/hbstate/<xname>"), ("POST", "/hbstates")),
    *(("GET", "/liveness"), ("GET", "/readiness"), ("GET", "/health"), ("GET", "/openapi.json")),
    *(("GET", "/"), ("GET", "/ui"), ("GET", "/ui/"), ("GET", "/ui/<name>")),
}
"""The routes that are left to whoever has a certificate and no token, as the document says."""


def block(mark: str) -> str:
    """Return the lines for a shell in the document below a comment."""
    text = (CHECKOUT / "docs" / "security.md").read_text()
    return text.partition(f"<!-- {mark} -->\n```sh\n")[2].partition("```")[0]


def example() -> dict[str, str]:
    """Return the environment variables of the closed example."""
    lines = [
        line for line in block("closed example").splitlines() if line and not line.startswith("#")
    ]
    return dict(line.split("=", 1) for line in lines)


def routes() -> Iterator[tuple[Route, str]]:
    """Yield each route that hbtd serves, and a path of it, with all prefixes."""
    params = Params(kv_url="mem:", nosm=True, use_telemetry=False, tls=False, port=0)
    made = HbtdService(params, MemoryReactor()).routes
    served = [(prefix, route) for prefix in ("/hmi/v1", "/v1") for route in made.api]
    served += [("", route) for route in made.root]
    for prefix, route in served:
        path = prefix + route.path.replace("/ui/<name>", "/ui/app.js")
        yield route, re.sub("<[^>]*>", INVENTED, path)


class Node:
    """A rightful node, which beats until it is told to stop."""

    def __init__(self, url: str, xname: str, policy: Any, token: str) -> None:
        self._url, self.xname = url, xname
        self._headers: Any = bearer(token)
        self.pool = HTTPConnectionPool(reactor)
        self.pool.maxPersistentPerHost = 1
        self._http = HTTPClient(Agent(reactor, policy, pool=self.pool))
        self.times: list[float] = []
        """When its heartbeats were answered with 200."""
        self.others: list[Any] = []
        """What else happened to its heartbeats."""
        self.running = True
        self.ended: Deferred[None] = Deferred()

    async def beat(self) -> None:
        """Beat until it is stopped."""
        while self.running:
            response = await self._http.post(
                f"{self._url}/hmi/v1/heartbeat",
                json=heartbeat(self.xname),
                headers=self._headers,
                timeout=20,
                reactor=reactor,
            )
            content = await response.content()
            if response.code == 200:
                self.times.append(time.monotonic())
            else:
                self.others.append((response.code, content))
            await deferLater(reactor, PERIOD)

    async def stop(self) -> None:
        """Stop, and close the connection."""
        self.running = False
        await self.ended
        await self.pool.closeCachedConnections()

    @property
    def longest_silence(self) -> float:
        """The longest time between two answered heartbeats, in seconds."""
        return max(b - a for a, b in zip(self.times, self.times[1:], strict=False))


@skipIf(shutil.which("openssl") is None, "There is no openssl.")
class ClientsTests(SynchronousTestCase):
    """The authority, certificates, list and tokens that the document has openssl make."""

    def run_in(self, folder: Path, *command: str) -> None:
        """Run a program that succeeds."""
        status, said = run_program(command, folder=folder, within=60)
        self.assertEqual(status, 0, said)

    def test_made(self) -> None:
        """Hbtd takes them, and a client of its own is revoked by the next list."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        self.run_in(folder, "sh", "-ec", block(MADE))
        checked = ["verify", "-CAfile", "clients-ca.pem", "-crl_check", "-CRLfile"]
        checked += ["clients-crl.pem", "-purpose", "sslclient"]
        self.run_in(folder, "openssl", *checked, "x1000c0s0b0n0.pem", "alice.pem")
        self.check(folder, revoked=0)
        self.run_in(folder, "openssl", "ca", "-config", "ca.cnf", "-revoke", "alice.pem")
        (command,) = [line for line in block(MADE).splitlines() if "-gencrl" in line]
        self.run_in(folder, *shlex.split(command))
        self.check(folder, revoked=1)

    def check(self, folder: Path, revoked: int) -> None:
        """Have hbtd check the files."""
        environ = {
            "HBTD_KV_URL": "mem:",
            "HBTD_NOSM": "yes",
            "HBTD_PORT": "0",
            "HBTD_TLS_CLIENT_CA": str(folder / "clients-ca.pem"),
            "HBTD_TLS_CLIENT_CRL": str(folder / "clients-crl.pem"),
            "HBTD_OPERATOR_ACCESS": f"token:{folder / 'tokens'}",
        }
        status, said, *_ = run_prepared(["--check"], {**environ, "PATH": os.environ["PATH"]})
        self.assertEqual(status, 0, said)
        self.assertIn(f"clients-crl.pem, {revoked} certificate", said)
        self.assertNotIn("accessible to every user", said)


class ClosedTests(TestCase):
    """hbtd, a process of its own, with the configuration of the document."""

    timeout = 240

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        (self.folder / "store").mkdir(parents=True)
        self.clients_authority = make_identity("clients' authority")
        self.nodes = {
            name: make_identity(name, self.clients_authority) for name in (*LIVING, VICTIM)
        }
        self.operator = make_identity("an operator", self.clients_authority)
        self.revoked = make_identity(VICTIM, self.clients_authority)
        self.issuer = Issuer()
        self.site_authority = make_identity("site authority")
        self.hsm = self.start_hsm()

    def token(self, xname: str | None, **claims: object) -> str:
        """Return a token that names a component, right but for `claims`."""
        return self.issuer.token(xname, **{"iss": ISSUED_BY, **claims})

    def start_hsm(self) -> FakeHSM:
        """Serve a fake HSM over TLS."""
        hsm = FakeHSM(reactor)
        own = make_identity("localhost", self.site_authority)
        cert, key = write_identity(own, self.folder / "hsm")
        options: Any = ServerOptions(load_identity(str(cert), str(key)))
        port = reactor.listenSSL(0, Site(hsm.resource()), options, interface="127.0.0.1")
        self.addCleanup(hsm.stop)
        self.addCleanup(port.stopListening)
        self.hsm_port = port.getHost().port
        return hsm

    def environment(self) -> dict[str, str]:
        """Write the files of the example; return it with paths, addresses and times of the test."""
        made = self.folder / "made"
        ca, _ = write_identity(self.clients_authority, made / "clients")
        site, _ = write_identity(self.site_authority, made / "site")
        own = make_identity("localhost", self.site_authority)
        cert, key = write_identity(own, made / "own")
        files = {"clients-ca.pem": ca, "site-ca.pem": site, "cert.pem": cert, "key.pem": key}
        for name, path in files.items():
            path.rename(self.folder / name)
        (self.folder / "key.pem").chmod(0o600)
        lists = revocation_list(self.clients_authority, self.revoked)
        write_lists(self.folder / "clients-crl.pem", lists)
        self.issuer.publish(self.folder / "jwks.json")
        tokens = self.folder / "tokens"
        tokens.write_text(f"alice:{TOKEN}\n")
        tokens.chmod(0o600)
        given = example()
        for name, value in given.items():
            value = value.replace("10.0.0.5", "127.0.0.1").replace("/etc/hbtd", str(self.folder))
            value = value.replace("/var/lib/hbtd", str(self.folder / "store"))
            given[name] = value.replace("hsm.example", f"localhost:{self.hsm_port}")
        given |= {f"HBTD_{name}": str(seconds) for name, seconds in TIMES.items()}
        return given | {"HBTD_PORT": "0", "HBTD_REQUEST_TIMEOUT": str(HANDSHAKE_SECONDS)}

    def node(self, xname: str) -> Node:
        """Return a node with its own certificate and token, which is stopped with the test."""
        identity = self.nodes[xname]
        policy = client_policy(str(self.folder / "site-ca.pem"), identity)
        node = Node(self.url, xname, policy, self.token(xname))
        ensureDeferred(node.beat()).chainDeferred(node.ended)
        self.addCleanup(node.stop)
        return node

    def intruder(self, identity: Identity | None, source: str = "127.0.0.66") -> Intruder:
        """Return an intruder with a certificate, or without."""
        self.made = getattr(self, "made", 0) + 1
        return Intruder(self.port, self.folder / f"intruder{self.made}", identity, source)

    async def test_attacked(self) -> None:
        """No attack gets further than the document says, and both promises to nodes are kept."""
        environ = self.environment()
        checked = await deferToThread(
            run_prepared, ["--check"], {**environ, "PATH": os.environ["PATH"]}
        )
        self.assertEqual(checked[0], 0, checked[1])
        self.assertNotIn("Risky", checked[1])
        self.process = spawn(self, ["-m", "hbtd"], environ)
        self.port = int((await self.process.url).rpartition(":")[2])
        self.url = f"https://localhost:{self.port}"
        living = [self.node(name) for name in LIVING]
        victim = self.node(VICTIM)
        await until(lambda: all(len(node.times) > 1 for node in (*living, victim)))
        await victim.stop()
        died = victim.times[-1]
        slow = await deferToThread(self.begin_slowly)
        faults = await deferToThread(self.attack)
        self.assertEqual(faults, [])
        await until(lambda: self.told(VICTIM, "Standby"), within=60)
        self.assertEqual(await deferToThread(self.end_slowly, slow), [])
        for node in living:
            await node.stop()
        self.check_promises(living, died)
        await self.check_log()

    def told(self, xname: str, state: str, flag: str | None = None) -> list[float]:
        """Return when HSM was told a state of a component, on the clock of the reactor."""
        return [
            update.received
            for update in self.hsm.updates
            if xname in update.names and state == update.state and flag in (None, update.flag)
        ]

    def check_promises(self, living: list[Node], died: float) -> None:
        """Check that nobody who beats was told dead or warned of, and the death in time."""
        for node in living:
            self.assertEqual(node.others, [])
            self.assertGreater(len(node.times), 10)
            silent = node.longest_silence  # of this process, too, on a host that is too busy
            for state, flag, least in (
                ("Standby", None, TIMES["ERRTIME"]),
                ("Ready", "Warning", TIMES["WARNTIME"]),
            ):
                wrong = self.told(node.xname, state, flag)
                self.assertTrue(not wrong or silent > least - 0.5, (node.xname, state, silent))
        (told,) = self.told(VICTIM, "Standby")
        late = told - died - (reactor.seconds() - time.monotonic())
        self.assertGreater(late, TIMES["ERRTIME"] - 0.5)
        self.assertLess(late, sum(TIMES.values()) + COMMITS)
        named = {name for update in self.hsm.updates for name in update.names}
        self.assertEqual(named, {*LIVING, VICTIM})

    async def check_log(self) -> None:
        """Check that hbtd ends well, and that the log has nothing unescaped and no secret."""
        self.process.signal(signal.SIGTERM)
        self.assertEqual(await self.process.ended, 0)
        said = self.process.said
        self.assertNotIn("Traceback", said)
        self.assertNotRegex(said, r"[^\n -~]")
        self.assertLess(said.count("\n"), 60)
        for secret in (TOKEN, "PRIVATE KEY", *self.secrets):
            self.assertNotIn(secret, said)
        for words in (
            *("the client presents no certificate", "Refused a change from 127.0.0.66"),
            *(
                "plain HTTP was sent to the TLS port",
                "127.0.0.71: The TLS handshake took more than",
            ),
            "127.0.0.67: A connection without heartbeats was closed to make room",
        ):
            self.assertIn(words, said, said)

    # The attacks, in a thread. Each returns what went wrong.

    def attack(self) -> list[str]:
        """Make all attacks; return those that got too far."""
        self.secrets: list[str] = []
        kinds = (
            *(self.try_certificates, self.try_versions, self.try_other_protocols),
            *(self.try_routes, self.try_tokens, self.try_operating, self.try_bombs),
            *(self.try_detours, self.try_renegotiation),
        )
        return [f"{kind.__name__}: {fault}" for kind in kinds for fault in kind()]

    def try_certificates(self) -> Iterator[str]:
        """Connect without a certificate, or with one that is not good: there is no answer."""
        of_the_name = make_identity("clients' authority")
        middle = issue(ec.generate_private_key(ec.SECP256R1()), "middle", self.clients_authority)
        for who, identity, why in (
            ("no certificate", None, "certificate required"),
            ("self-signed", make_identity(VICTIM), ""),
            ("another authority", make_identity(VICTIM, make_identity("other")), "unknown ca"),
            ("an authority of the name", make_identity(VICTIM, of_the_name), ""),
            ("signed by a node", make_identity(VICTIM, self.nodes[INTRUDER]), ""),
            ("signed by no authority", make_identity(VICTIM, middle), ""),
            ("of the servers' authority", make_identity(VICTIM, self.site_authority), "unknown ca"),
            ("expired", make_identity(VICTIM, self.clients_authority, days=-1), "expired"),
            ("not valid yet", make_identity(VICTIM, self.clients_authority, begins=0.5), ""),
            ("revoked", self.revoked, "revoked"),
        ):
            intruder = self.intruder(identity)
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                request = self.beat_request(VICTIM, self.token(VICTIM))
                answer = intruder.ask(request, version)
                if answer.status != NOTHING:
                    yield f"{who} got {answer.head}"
                elif version == ssl.TLSVersion.TLSv1_3 and not _says(answer, why):
                    yield f"{who} was told {answer.why}"

    def try_versions(self) -> Iterator[str]:
        """Speak old versions of TLS, which are not served, not even to who has a certificate."""
        intruder = self.intruder(self.nodes[INTRUDER])
        old = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
        for version in (*old, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            answer = intruder.ask(encode_request("GET", "/v1/liveness"), version)
            if answer.status != (NOTHING if version in old else "204"):
                yield f"{version.name}: {answer}"

    def try_other_protocols(self) -> Iterator[str]:
        """Speak no TLS, and learn nothing, but for a hint that is given to HTTP."""
        stranger = self.intruder(None, "127.0.0.70")
        for request in (
            *(encode_request("GET", "/hmi/v1/params"), b"GET / HTTP/1.0\r\n\r\n"),
            self.beat_request(VICTIM, self.token(VICTIM)),
        ):
            answer = stranger.send_plain(request)
            if not re.fullmatch(
                rb'HTTP/1.1 400 .*"Plain HTTP was sent to a port that speaks HTTPS".*',
                answer,
                re.DOTALL,
            ):
                yield f"plain HTTP: {answer!r}"
        for garbage in (b"\x00" * 300, b"SSH-2.0-x\r\n", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"):
            answer = stranger.send_plain(garbage)
            if b"HTTP/1.1 2" in answer:
                yield f"{garbage[:10]!r}: {answer!r}"

    def try_routes(self) -> Iterator[str]:
        """Ask for each route in each role: it is refused unless that role has a right to it."""
        stranger, node = self.intruder(None), self.intruder(self.nodes[INTRUDER])
        own = bearer(self.token(INTRUDER))
        found = set()
        for route, path in routes():
            body: object = heartbeat(INVENTED) if route.role is Role.NODE else {}
            is_left = (route.method, route.path) in LEFT
            found.add((route.method, route.path))
            answer = stranger.request(route.method, path, body)
            if answer.status != NOTHING:
                yield f"{route.method} {path} of a stranger: {answer.head}"
            for who, headers in (("without a token", {}), ("with its token", own)):
                answer = node.request(route.method, path, body, headers)
                refused = answer.status in ("401", "403")
                if answer.status == NOTHING or refused is is_left:
                    yield f"{route.method} {path} of a node {who}: {answer}"
                if (answer.status == "401") != ("www-authenticate: bearer" in answer.head.lower()):
                    yield f"{route.method} {path} of a node {who}: {answer}"
            operator = self.intruder(self.operator, "127.0.0.68")
            answer = operator.request(route.method, path, body, bearer(TOKEN))
            if (answer.status in ("401", "403")) is not (route.role is Role.NODE):
                yield f"{route.method} {path} of an operator: {answer}"
        if not found >= LEFT:
            yield f"there are no such routes: {LEFT - found}"

    def try_tokens(self) -> Iterator[str]:
        """Send heartbeats with tokens: only one of the node itself and the issuer will do."""
        intruder = self.intruder(self.nodes[INTRUDER])
        other = Issuer(key=ec.generate_private_key(ec.SECP256R1()))
        evil = subject(INTRUDER).replace("site.example", "evil.example")
        good = self.token(INTRUDER)
        wrong = {
            "no token": None,
            "another key": other.token(INTRUDER, iss=ISSUED_BY),
            "another issuer": self.token(INTRUDER, iss="https://evil.example/\x1b[31m\r\nrefused"),
            "no issuer": self.token(INTRUDER, iss=None),
            "another trust domain": self.token(INTRUDER, sub=evil),
            "another subject": self.token(INTRUDER, sub="\x1b[31m\nroot"),
            "another audience": self.token(INTRUDER, aud="etcd"),
            "expired": self.token(INTRUDER, exp=int(time.time()) - 60),
            "from the future": self.token(INTRUDER, nbf=int(time.time()) + 60),
            "without an end": self.token(INTRUDER, exp=None),
            "alg none": self.issuer.unsigned(INTRUDER),
            "alg HS256 with the public key": self.issuer.confused(INTRUDER),
            "a changed signature": good[:-8] + "AAAAAAAA",
            "an operator's": TOKEN,
            "garbage": "a.b.c",
        }
        self.secrets += [token for token in wrong.values() if token and len(token) > 20]
        for what, token in wrong.items():
            for path in ("heartbeat", f"heartbeat/{INTRUDER}"):
                headers = bearer(token) if token else {}
                answer = intruder.request("POST", f"/v1/{path}", heartbeat(INTRUDER), headers)
                challenged = 'WWW-Authenticate: Bearer realm="hbtd"' in answer.head
                if answer.status != "401" or not challenged:
                    yield f"{what}: {answer}"
        for name, token, status in (
            *((INTRUDER, good, "200"), (VICTIM, good, "403"), (INVENTED, good, "403")),
            *((VICTIM, self.token(None), "403"), (INTRUDER, self.token(VICTIM), "403")),
        ):
            answer = intruder.ask(self.beat_request(name, token))
            if answer.status != status:
                yield f"a heartbeat of {name}, {status} expected: {answer}"

    def try_operating(self) -> Iterator[str]:
        """Try to steer hbtd without an operator's token, as if from hbtd's own host, too."""
        change = {"Errtime": "4000"}
        basic = b64encode(f"alice:{TOKEN}".encode()).decode()
        for who, identity in (("node", self.nodes[INTRUDER]), ("operator", self.operator)):
            intruder = self.intruder(identity, "127.0.0.1" if who == "operator" else "127.0.0.66")
            for what, headers in (
                ("nothing", {}),
                ("a wrong token", bearer(TOKEN + "x")),
                ("a part of a token", bearer(TOKEN[:-1])),
                ("a name for a token", bearer("alice")),
                ("Basic", {"Authorization": f"Basic {basic}"}),
                ("a node's token", bearer(self.token(INTRUDER))),
                ("an address", {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}),
                ("another method", {"X-HTTP-Method-Override": "PATCH"}),
            ):
                answer = intruder.request("PATCH", "/hmi/v1/params", change, headers)
                if answer.status not in ("401", "403"):
                    yield f"{who} with {what}: {answer}"
        shown = self.intruder(self.operator).request("GET", "/v1/params")
        if shown.status != "200":
            yield f"params: {shown}"

    def try_bombs(self) -> Iterator[str]:
        """Send what is too much, or ambiguous."""
        intruder = self.intruder(self.nodes[INTRUDER])
        token = self.token(INTRUDER).encode()
        for what, (request, status) in bombs(INTRUDER, token).items():
            answer = intruder.ask(request)
            if answer.status != status:
                yield f"{what}, {status} expected: {answer}"

    def try_detours(self) -> Iterator[str]:
        """Spell paths so that they might lead around the gate, or to a file."""
        intruder = self.intruder(self.nodes[INTRUDER])
        for path in DETOURS:
            for method in ("GET", "HEAD"):
                answer = intruder.request(method, path)
                if answer.status not in ("301", "400", "401", "403", "404"):
                    yield f"{method} {path}: {answer}"

    def try_renegotiation(self) -> Iterator[str]:
        """Ask for a new handshake within a connection: that is refused, the connection goes on."""
        intruder = self.intruder(self.nodes[INTRUDER])
        begun, answered = intruder.renegotiate(self.beat_request(INTRUDER, self.token(INTRUDER)))
        if begun or not answered:
            yield f"handshake begun: {begun}, answered: {answered}"

    def beat_request(self, xname: str, token: str) -> bytes:
        """Return a request with a heartbeat and a token."""
        return encode_request("POST", "/hmi/v1/heartbeat", heartbeat(xname), bearer(token))

    def begin_slowly(self) -> list[socket.socket]:
        """Begin more handshakes from one address than it may have connections; do not go on."""
        opened = []
        for source in ("127.0.0.71", *("127.0.0.67",) * 40):
            opened.append(self.intruder(None, source).connect())
            with contextlib.suppress(ConnectionError):
                opened[-1].sendall(b"\x16\x03\x01\x02")
        return opened

    def end_slowly(self, opened: list[socket.socket]) -> list[str]:
        """Return what is wrong with the handshakes that were begun: all must have been ended."""
        faults = []
        for each in opened:
            with each, contextlib.suppress(ConnectionError):
                if data := each.recv(1000):
                    faults.append(f"a slow handshake: {data!r}")
        return faults


def _says(answer: Answer, why: str) -> bool:
    return why in answer.why.lower().replace("_", " ")
