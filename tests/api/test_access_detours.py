"""Nothing bypasses the gate: neither earlier requests on the connection nor odd spelling."""

from socket import gethostname
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from hbtd.app.service import HbtdService
from tests.support.access_memory import (
    CREDENTIALS,
    ISSUER,
    LOCAL,
    NEIGHBOUR,
    TOKEN,
    AccessTestCase,
    Credential,
    Transport,
)
from tests.support.http_memory import (
    HEARTBEAT,
    XNAME,
    Connection,
    encode_request,
    head,
    parse_responses,
)
from tests.support.issuer import Issuer, bearer

OWN = bearer(ISSUER.token(XNAME))
OTHERS = bearer(ISSUER.token(NEIGHBOUR))
ANYBODYS = bearer(ISSUER.token(None))


def beat(name: str, headers: dict[str, str] | None = None) -> bytes:
    """Return a heartbeat of a component as a request."""
    return encode_request("POST", "/v1/heartbeat", {**HEARTBEAT, "Component": name}, headers)


def named(name: str, headers: dict[str, str] | None = None) -> bytes:
    """Return a heartbeat of the component in the path; its body names another one."""
    body = {**HEARTBEAT, "Component": NEIGHBOUR}
    return encode_request("POST", f"/v1/heartbeat/{name}", body, headers)


class DetoursTestCase(AccessTestCase):
    """A test that sends several requests on one connection."""

    def connect(self, credential: Credential = CREDENTIALS["nothing"]) -> Connection:
        """Open a connection with these credentials, which the end of the test closes."""
        connection = Connection(self.reactor.tcpServers[0][1], Transport(credential))
        self.addCleanup(connection.hang_up)
        return connection

    def statuses(self, connection: Connection, *pieces: bytes) -> list[int]:
        """Send bytes; return the statuses of the answers."""
        connection.send(*pieces)
        return [answer.status for answer in parse_responses(connection.received())]

    def jwt(self, **options: Any) -> HbtdService:
        """Start a service where nodes need JWTs and operators need tokens."""
        options.setdefault("operator_access", "token:{folder}/tokens")
        return self.start(node_access="jwt:{folder}/jwks.json", **options)


class ConnectionTests(DetoursTestCase):
    """Several requests with different credentials on one connection."""

    def test_credentials_of_others(self) -> None:
        """Credentials count only for the request that has them, in any order of requests."""
        service = self.jwt()
        requests = (
            (beat(XNAME, OWN), 200),
            (beat(XNAME), 401),
            (beat(XNAME, OWN), 200),
            (beat(NEIGHBOUR, OWN), 403),
            (beat(XNAME, OTHERS), 403),
            (beat(NEIGHBOUR, OTHERS), 200),
            (beat(NEIGHBOUR), 401),
            (named(XNAME, OWN), 200),
            (named(XNAME, OTHERS), 403),
            (beat(NEIGHBOUR, ANYBODYS), 200),
            (beat(NEIGHBOUR, OWN), 403),
            (beat("x0c0s0b0n9", ANYBODYS), 200),
            (beat("nobody", ANYBODYS), 400),
            (beat(XNAME, bearer("x.y.z")), 401),
            (beat(XNAME, OWN), 200),
            (head("GET /v1/params"), 200),
            (beat(XNAME), 401),
        )
        expected = [status for _, status in requests]
        stream = b"".join(request for request, _ in requests)
        self.assertEqual(self.statuses(self.connect(), stream), expected)
        pieces = [stream[i : i + 100] for i in range(0, len(stream), 100)]
        self.assertEqual(self.statuses(self.connect(), *pieces), expected)
        connection = self.connect()
        for request, status in requests * 2:
            self.assertEqual(self.statuses(connection, request), [status])
        self.assertEqual(service.tracker.healthy, 3)

    def test_spellings(self) -> None:
        """Names are compared in normal form, however they are written."""
        self.jwt()
        connection = self.connect()
        for name, status in (
            (XNAME, 200),
            (XNAME.upper(), 200),
            (f" {XNAME} ", 200),
            (XNAME.replace("x1000", "x01000"), 200),
            (NEIGHBOUR.upper(), 403),
            (XNAME[:-1] + "9", 403),
            ("x1000c0s0b0", 403),
        ):
            self.assertEqual(self.statuses(connection, beat(name, OWN)), [status], name)

    def test_operators(self) -> None:
        """An operator's token counts only for the request that has it."""
        self.jwt()
        change = {"Warntime": "11"}
        patch = encode_request("PATCH", "/v1/params", change)
        good = encode_request("PATCH", "/v1/params", change, bearer(TOKEN))
        forget = encode_request("DELETE", f"/v1/heartbeat/{XNAME}")
        stream = good + patch + beat(XNAME, OWN) + patch + forget + good + forget
        got = self.statuses(self.connect(), stream)
        self.assertEqual(got, [200, 401, 200, 401, 401, 200, 401])

    def test_keys_change(self) -> None:
        """When the keys change, tokens of open connections are verified again."""
        service = self.jwt()
        connection = self.connect()
        self.assertEqual(self.statuses(connection, beat(XNAME, OWN) * 2), [200, 200])
        service.access.gate._node_tokens._source.watched.current = ()  # type: ignore[union-attr]  # with JWTs
        self.assertEqual(self.statuses(connection, beat(XNAME, OWN) * 2), [401, 401])

    def test_signatures(self) -> None:
        """The signature of a token is checked once, good or bad, however many requests have it."""
        checked: list[bytes] = []
        decode = jwt.decode

        def counting(token: Any, *args: Any, **kw: Any) -> Any:
            checked.append(token)
            return decode(token, *args, **kw)

        self.patch(jwt, "decode", counting)
        self.jwt()
        change, path = {"Warntime": "11"}, f"/v1/heartbeat/{XNAME}"
        forged = bearer(
            Issuer("ES256", "one", ec.generate_private_key(ec.SECP256R1())).token(XNAME)
        )
        late = bearer(ISSUER.token(XNAME, exp=1))
        for number, (headers, statuses) in enumerate(
            ((forged, [401, 401, 401]), (late, [401, 401, 401]), (OTHERS, [403, 403, 403])), 1
        ):
            for _ in range(3):
                stream = (
                    beat(XNAME, headers)
                    + encode_request("PATCH", "/v1/params", change, headers)
                    + encode_request("DELETE", path, b"", headers)
                )
                self.assertEqual(self.statuses(self.connect(), stream), statuses)
            self.assertEqual(len(checked), number)

    def test_certificates(self) -> None:
        """A certificate allows heartbeats of the component it names, for every request."""
        self.start(node_access="cert", operator_access="cert:ops")
        connection = self.connect(CREDENTIALS["own certificate"])
        stream = beat(XNAME) + beat(NEIGHBOUR) + named(XNAME) + named(NEIGHBOUR) + beat(XNAME)
        self.assertEqual(self.statuses(connection, stream), [200, 403, 200, 403, 200])


class WritingTests(DetoursTestCase):
    """Odd spellings of requests and of their headers."""

    def test_headers(self) -> None:
        """The header's name may be in any case, and must not come twice."""
        self.jwt()
        value = OWN["Authorization"]
        for name in ("authorization", "AUTHORIZATION", "aUTHORIZATION"):
            self.assertEqual(self.statuses(self.connect(), beat(XNAME, {name: value})), [200])
        for twice in (
            {"Authorization": f"{value}\r\nAuthorization: {value}"},
            {"Authorization": value, "authorization": value},
            {"Authorization": f"{OTHERS['Authorization']}\r\nauthorization: {value}"},
            {"Authorization": f"{value}, {value}"},
            {"X-Authorization": value},
            {"Proxy-Authorization": value},
            {"Cookie": f"Authorization={value}"},
        ):
            self.assertEqual(self.statuses(self.connect(), beat(XNAME, twice)), [401], twice)

    def test_targets(self) -> None:
        """Every form of a route's target needs credentials."""
        service = self.jwt()
        for target in (
            "http://h/v1/heartbeat",
            "https://127.0.0.1/hmi/v1/heartbeat?x=y",
            "/v1/heartbeat?Authorization=x",
            f"/v1/heartbeat/{XNAME}?",
        ):
            request = encode_request("POST", target, HEARTBEAT)
            self.assertEqual(self.statuses(self.connect(), request), [401], target)
        for target in (
            "/v1//heartbeat",
            "//v1/heartbeat",
            "/v1/./heartbeat",
            "/v1/x/../heartbeat",
            "/v1/%68eartbeat",
            "/v1/heartbea%74",
            "/%76%31/heartbeat",
            "/hmi/v%31/heartbeat",
        ):
            request = encode_request("POST", target, HEARTBEAT)
            self.assertEqual(self.statuses(self.connect(), request), [404], target)
        self.assertEqual(service.tracker.beats, 0)

    def test_methods(self) -> None:
        """Only the request line determines the method, not headers or the query."""
        service = self.jwt()
        before = service.params.current
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            for method in ("GET", "HEAD"):
                connection = self.connect()
                target = "/v1/params?_method=PATCH"
                request = encode_request(method, target, {"Warntime": "99"}, {name: "PATCH"})
                connection.send(request)
                (answer,) = parse_responses(connection.received(), [method])
                self.assertEqual(answer.status, 200)
            request = encode_request("POST", "/v1/params", {"Warntime": "99"}, {name: "PATCH"})
            self.assertEqual(self.statuses(self.connect(), request), [405])
        for method in ("patch", "Patch"):
            request = encode_request(method, "/v1/params", {"Warntime": "99"})
            self.assertEqual(self.statuses(self.connect(), request), [405])
        self.assertEqual(service.params.current, before)

    def test_framing(self) -> None:
        """Chunked bodies, `Expect` and other framing need the same credentials."""
        self.jwt()
        plain = beat(XNAME)
        for field in (b"Expect: 100-continue", b"Connection: close", b"TE: trailers"):
            request = plain.replace(b"\r\n", b"\r\n" + field + b"\r\n", 1)
            statuses = self.statuses(self.connect(), request)
            self.assertEqual(statuses[-1], 401)
        body = plain.partition(b"\r\n\r\n")[2]
        chunked = head("POST /v1/heartbeat", "Transfer-Encoding: chunked")
        chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        self.assertEqual(self.statuses(self.connect(), chunked), [401])

    def test_relayed(self) -> None:
        """Headers that proxies add count in any case and at any place, and no others do."""
        self.start(operator_access="loopback")
        here = CREDENTIALS["on this host"]
        change = {"Warntime": "12"}
        relaying = (
            *("forwarded", "VIA", "oRIGIN", "X-Real-IP", "X-Client-IP", "TRUE-client-ip"),
            *("X-Forwarded", "x-forwarded-FOR", "X-Forwarded-Host", "X-Forwarded-Proto"),
            *("x-forwarded-PORT", "CF-Connecting-IP", "X-Envoy-External-Address", "x-envoy-x"),
            *("X-ORIGINAL-URI", "X-Original-Forwarded-For"),
        )
        for name in (*relaying, "X-Envoy", "X-Original", "Not-Via", "X-Request-ID"):
            status = 403 if name in relaying else 200
            request = encode_request("PATCH", "/v1/params", change, {"X": "y", name: ""})
            self.assertEqual(self.statuses(self.connect(here), request), [status], name)

    def test_loaded_by_a_page(self) -> None:
        """What a web page of another site loads, as a script or a picture, comes from no operator.

        Browsers send no `Origin` with such requests, and name this host in `Host`.
        """
        self.start(operator_access="loopback", reader_access="operators")
        here = CREDENTIALS["on this host"]
        for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
            for path in ("/v1/summary", "/v1/internals", "/metrics"):
                request = encode_request("GET", path, headers={"Sec-Fetch-Site": site})
                self.assertEqual(self.statuses(self.connect(here), request), [status], site)


class HostTests(DetoursTestCase):
    """Operators on this host, and what their requests name as their host."""

    def patch_from(self, credential: Credential, host: str) -> int:
        """Change a parameter; return the status of the answer."""
        headers = {**credential.headers, "Host": host}
        request = encode_request("PATCH", "/v1/params", {"Warntime": "12"}, headers)
        (status,) = self.statuses(self.connect(credential), request)
        return status

    def test_loopback(self) -> None:
        """An operator by a loopback address names this host; anything else is refused, and said."""
        service = self.start(operator_access="loopback")
        for name in ("on this host", "on this host, by IPv6", "on this host, mapped"):
            here = CREDENTIALS[name]
            for host in ("localhost", "LocalHost.:28500", "127.0.0.1:1", "[::1]", gethostname()):
                self.assertEqual(self.patch_from(here, host), 200, host)
            for host in ("evil.example", "192.0.2.9:28500", "localhost.evil.example", ""):
                self.assertEqual(self.patch_from(here, host), 403, host)
        elsewhere = CREDENTIALS["by another name here"]
        for method, path in (("PATCH", "/v1/params"), ("DELETE", f"/v1/heartbeat/{XNAME}")):
            answer = self.speak(service, elsewhere, method, path, {"Warntime": "13"})
            self.assertIn("must name it in the Host header", answer.json()["detail"])
        old = encode_request("PATCH", "/v1/params", {"Warntime": "14"})
        odd = old.replace(b"localhost", b"\xff")
        self.assertEqual(self.statuses(self.connect(here), odd), [403])
        old = old.replace(b"Host: localhost\r\n", b"").replace(b"HTTP/1.1", b"HTTP/1.0")
        self.assertEqual(self.statuses(self.connect(here), old), [403])
        self.assertEqual(service.params.current.warntime, 12)

    def test_other_proofs(self) -> None:
        """Whatever the host is called, a socket, a token and a certificate prove an operator."""
        self.start(operator_access="loopback+token:{folder}/tokens+cert:ops")
        ops = CREDENTIALS["operator's certificate"]
        for credential in (
            CREDENTIALS["on this host, by a socket"],
            CREDENTIALS["operator's token"],
            CREDENTIALS["operator's token"]._replace(address=LOCAL),
            ops,
            ops._replace(address=LOCAL),
        ):
            self.assertEqual(self.patch_from(credential, "hbtd.site.example"), 200)

    def test_nodes(self) -> None:
        """A node on this host is forgotten by itself, whatever it calls its host."""
        service = self.start(operator_access="loopback", node_access="cert")
        own = CREDENTIALS["own certificate"]._replace(
            address=LOCAL, headers={"Host": "hbtd.site.example"}
        )
        for name, status in ((XNAME, 204), (NEIGHBOUR, 403)):
            got = self.outcome(service, own, "DELETE", f"/v1/heartbeat/{name}")
            self.assertEqual(got, status)

    def test_reading(self) -> None:
        """What needs no operator needs no certain host."""
        service = self.start()
        elsewhere = CREDENTIALS["by another name here"]
        self.assertEqual(self.outcome(service, elsewhere, "GET", "/v1/params"), 200)
        got = self.outcome(service, elsewhere, "POST", "/v1/heartbeat", HEARTBEAT)
        self.assertEqual(got, 200)
