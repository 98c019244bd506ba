"""The keys that nodes' tokens are checked with: which count, and where they come from."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import rsa as rsa_module
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from hbtd.access.jwks import (
    MISSED_REFRESH,
    REFRESH,
    RETRY,
    FetchedKeys,
    FileKeys,
    JWKSUnusable,
    parse_jwks,
)
from hbtd.access.jwt import Bearer, JWTVerifier, Unverified
from hbtd.net.http_client import PlainAgent
from tests.support.issuer import AUDIENCE, Issuer

NODE = "x1000c0s0b0n0"
ISSUER = Issuer()


class JWKSTests(SynchronousTestCase):
    """Which keys count."""

    def test_skipped(self) -> None:
        """Keys for other uses, of other kinds, weak, secret or private ones don't count."""
        good = ISSUER.jwk()
        rsa = Issuer("RS256").jwk()
        entries: tuple[Any, ...] = (
            *({**good, "use": "enc"}, {**good, "key_ops": ["sign"]}, {**good, "key_ops": 1}),
            *({**good, "alg": "HS256"}, {**good, "alg": "ES384"}, {**good, "alg": ["ES256"]}),
            *({**good, "crv": "secp256k1"}, {**good, "crv": []}, {**good, "x": "AA"}),
            *({**good, "kid": 1}, {**good, "d": "AAAA"}, {**rsa, "n": "AQAB"}, {**rsa, "n": 1}),
            *({"kty": "oct", "k": "c2VjcmV0"}, {"kty": None}, {}, [], None, "key"),
        )
        handler: Any = get_default_algorithms()["ES256"]
        private = json.loads(handler.to_jwk(ISSUER.key))
        weak = Issuer("RS256", "weak", rsa_module.generate_private_key(65537, 1024)).jwk()
        for entry in (*entries, private, weak):
            self.assertRaises(JWKSUnusable, parse_jwks, json.dumps({"keys": [entry]}).encode())
            (key,) = parse_jwks(json.dumps({"keys": [entry, good]}).encode())
            self.assertEqual(key.kid, "one")

    def test_algorithms(self) -> None:
        """A key may be tied to one of the algorithms that its kind allows."""
        (key,) = parse_jwks(json.dumps({"keys": [Issuer("RS256").jwk(alg="PS256")]}).encode())
        self.assertEqual(key.algorithms, ("PS256",))
        (key,) = parse_jwks(json.dumps({"keys": [Issuer("RS256").jwk(use="sig")]}).encode())
        self.assertIn("RS512", key.algorithms)

    def test_not_a_set(self) -> None:
        """What is no JWKS is refused, without a word of what is in it."""
        many = json.dumps({"keys": [ISSUER.jwk()] * 101}).encode()
        for content in (b"", b"[", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[]}', many):
            error = self.assertRaises(JWKSUnusable, parse_jwks, content)
            self.assertLess(len(str(error)), 60)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["keys", "kty", "crv", "x", "y", "n", "e", "kid", "alg", "use"]
                    ),
                    inner,
                )
            ),
        )
    )
    def test_any_json(self, value: Any) -> None:
        """Any JSON is either refused or read."""
        for document in (value, {"keys": value}, {"keys": [value]}):
            try:
                parse_jwks(orjson.dumps(document))
            except (JWKSUnusable, orjson.JSONEncodeError):
                pass


class FileTests(SynchronousTestCase):
    """Keys of a file."""

    def test_rotation(self) -> None:
        """A token of a key that has just come is known at once; half a file changes nothing."""
        path = Path(self.mktemp()).resolve()
        keys = FileKeys(ISSUER.publish(path))
        bearers = JWTVerifier(keys, AUDIENCE, time.time, require_xname=False)
        second = Issuer("RS256", "two")
        token = second.token(NODE).encode()
        self.assertRaises(Unverified, bearers.bearer, token)
        path.write_bytes(second.jwks(ISSUER)[:100])
        self.assertRaises(Unverified, bearers.bearer, token)
        second.publish(path, ISSUER)
        self.assertEqual(bearers.bearer(token), Bearer(NODE))
        self.assertEqual(bearers.bearer(ISSUER.token(NODE).encode()), Bearer(NODE))

    def test_unusable(self) -> None:
        """At start it must be there, and be one."""
        path = Path(self.mktemp()).resolve()
        with self.assertRaisesRegex(JWKSUnusable, f"{path} can't be read: No such file"):
            FileKeys(str(path))
        path.write_bytes(b"{}")
        with self.assertRaisesRegex(JWKSUnusable, f"{path} can't be used: it is no JSON object"):
            FileKeys(str(path))
        path.write_bytes(bytes(300_000))
        with self.assertRaisesRegex(JWKSUnusable, "more than"):
            FileKeys(str(path))


class Page(Resource):
    """Serves a JWKS, or what the test wants instead."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.content: bytes = ISSUER.jwks()
        self.status = 200
        self.hangs = False
        self.headers: dict[bytes, bytes] = {}
        self.asked: list[Any] = []

    def render_GET(self, request: Any) -> Any:
        """Answer, or not."""
        self.asked.append(request.requestHeaders)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        request.setResponseCode(self.status)
        return NOT_DONE_YET if self.hangs else self.content


class FetchedTests(SynchronousTestCase):
    """Keys of a URL."""

    def setUp(self):
        self.clock = Clock()
        self.page = Page()
        self.agent = RequestTraversalAgent(self.page)
        http = HTTPClient(PlainAgent(self.agent))
        self.keys = FetchedKeys("http://spire.example/keys", http, self.clock)

    def start(self) -> None:
        """Begin to fetch."""
        self.keys.startService()
        self.addCleanup(self.keys.stopService)
        self.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time go by, and answers arrive."""
        for _ in range(int(seconds / RETRY) or 1):
            self.agent.flush()
            self.clock.advance(min(seconds, RETRY))
            self.agent.flush()

    def complaints(self, seconds: float) -> list[str]:
        """Let time go by; gives what was complained of."""
        with capturedLogs() as events:
            self.advance(seconds)
        return [
            eventAsText(event, includeTimestamp=False, includeSystem=False)
            for event in events
            if event["log_level"] >= LogLevel.warn
        ]

    def test_fetched(self) -> None:
        """They are fetched at start and every five minutes, and are the same while they are."""
        self.assertIsNone(self.keys.keys)
        self.start()
        first = self.keys.keys
        assert first is not None
        self.assertEqual(first[0].kid, "one")
        self.advance(REFRESH)
        self.assertEqual(len(self.page.asked), 2)
        self.assertIs(self.keys.keys, first)
        self.page.content = Issuer("RS256", "two").jwks()
        self.advance(REFRESH)
        assert self.keys.keys is not None
        self.assertEqual(self.keys.keys[0].kid, "two")

    def test_missed(self) -> None:
        """A key that is missing has them fetched soon, but not more than once a minute."""
        self.start()
        for _ in range(60):
            self.keys.missed()
            self.advance(RETRY)
        self.assertIn(len(self.page.asked), range(10, 600 // int(MISSED_REFRESH) + 2))

    def test_unreachable(self) -> None:
        """Whatever is wrong, it is said once, tried again, and the old keys stay."""
        self.page.status = 500
        with capturedLogs() as events:
            self.start()
        self.assertEqual(len([e for e in events if e["log_level"] is LogLevel.error]), 1)
        self.assertIsNone(self.keys.keys)
        self.assertEqual(self.complaints(60), [])
        self.page.status = 200
        self.advance(RETRY)
        keys = self.keys.keys
        self.assertIsNotNone(keys)
        for fault in (
            {"status": 404},
            {"status": 302, "headers": {b"location": b"http://evil.example/"}},
            {"content": b"{}"},
            {"content": b" " * 300_000},
            {"hangs": True},
            {"headers": {b"content-encoding": b"gzip"}, "content": gzip.compress(ISSUER.jwks())},
        ):
            for name, value in fault.items():
                setattr(self.page, name, value)
            (line,) = self.complaints(REFRESH + 60)
            self.assertIn("the old ones stay", line)
            self.assertIs(self.keys.keys, keys)
            self.page.__dict__.update(status=200, hangs=False, headers={}, content=ISSUER.jwks())
            self.advance(2 * REFRESH)
            self.assertIs(self.keys.keys, keys)
        hosts = {headers.getRawHeaders("host")[0] for headers in self.page.asked}
        self.assertEqual(hosts, {"spire.example"})

    def test_plain(self) -> None:
        """Nobody is asked to compress anything."""
        self.start()
        self.assertFalse(self.page.asked[0].hasHeader("accept-encoding"))

    def test_stopped(self) -> None:
        """What is being fetched at the end is given up."""
        self.page.hangs = True
        self.start()
        with capturedLogs() as events:
            self.keys.stopService()
        self.assertEqual([e for e in events if e["log_level"] >= LogLevel.warn], [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
