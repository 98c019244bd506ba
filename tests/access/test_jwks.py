"""The keys that nodes' tokens are verified with: which are usable, in files and at URLs."""

import gzip
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric import rsa as rsa_module
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from hbtd.access.jwks import (
    FIRST_RETRY,
    LONGEST_RETRY,
    MIN_REFRESH,
    REFRESH,
    FetchedKeys,
    FileKeys,
    JWKSUnusable,
    parse_jwks,
)
from hbtd.access.jwt import InvalidToken, JWTVerifier, Subject
from hbtd.net.http_client import PlainAgent
from tests.support.issuer import AUDIENCE, Issuer, JWKSPage

NODE = "x1000c0s0b0n0"

_STEP = 10.0
"""Seconds by which a test advances the clock at once."""

ISSUER = Issuer()


class JWKSTests(SynchronousTestCase):
    """The usable keys of a JWKS."""

    def test_skipped(self) -> None:
        """Keys for other uses, of unknown types, weak, secret and private ones are skipped."""
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
        """A key may be restricted to one of the algorithms of its type."""
        (key,) = parse_jwks(json.dumps({"keys": [Issuer("RS256").jwk(alg="PS256")]}).encode())
        self.assertEqual(key.algorithms, ("PS256",))
        (key,) = parse_jwks(json.dumps({"keys": [Issuer("RS256").jwk(use="sig")]}).encode())
        self.assertIn("RS512", key.algorithms)

    def test_not_a_set(self) -> None:
        """Anything that is no JWKS is refused, in a message without its contents."""
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
        """Any JSON is refused or parsed, without another exception."""
        for document in (value, {"keys": value}, {"keys": [value]}):
            try:
                parse_jwks(orjson.dumps(document))
            except (JWKSUnusable, orjson.JSONEncodeError):
                pass


class FileTests(SynchronousTestCase):
    """Keys in a file."""

    def test_rotation(self) -> None:
        """A new key in the file is used at once, and half a file changes nothing."""
        path = Path(self.mktemp()).resolve()
        keys = FileKeys(ISSUER.publish(path))
        verifier = JWTVerifier(keys, AUDIENCE, time.time, float, require_xname=False)
        second = Issuer("RS256", "two")
        token = second.token(NODE).encode()
        self.assertRaises(InvalidToken, verifier.verify, token)
        path.write_bytes(second.jwks(ISSUER)[:100])
        self.assertRaises(InvalidToken, verifier.verify, token)
        second.publish(path, ISSUER)
        self.assertEqual(verifier.verify(token).subject, Subject(NODE))
        self.assertEqual(verifier.verify(ISSUER.token(NODE).encode()).subject, Subject(NODE))

    def test_same_id(self) -> None:
        """A new key under the ID of the old one is used at once, of whatever type it is."""
        path = Path(self.mktemp()).resolve()
        keys = FileKeys(ISSUER.publish(path))
        verifier = JWTVerifier(keys, AUDIENCE, time.time, float, require_xname=False)
        other_key = ec.generate_private_key(ec.SECP256R1())
        for following in (Issuer("ES256", "one", other_key), Issuer("RS256", "one")):
            token = following.token(NODE).encode()
            self.assertRaises(InvalidToken, verifier.verify, token)
            following.publish(path)
            self.assertEqual(verifier.verify(token).subject, Subject(NODE))

    def test_unusable(self) -> None:
        """A file that is missing, malformed or too large is refused at start."""
        path = Path(self.mktemp()).resolve()
        with self.assertRaisesRegex(JWKSUnusable, f"{path} can't be read: No such file"):
            FileKeys(str(path))
        path.write_bytes(b"{}")
        with self.assertRaisesRegex(JWKSUnusable, f"{path} can't be used: it is no JSON object"):
            FileKeys(str(path))
        path.write_bytes(bytes(300_000))
        with self.assertRaisesRegex(JWKSUnusable, "more than"):
            FileKeys(str(path))


class FetchedTests(SynchronousTestCase):
    """Keys at a URL."""

    def setUp(self):
        self.clock = Clock()
        self.page = JWKSPage(ISSUER.jwks())
        self.agent = RequestTraversalAgent(self.page)
        http = HTTPClient(PlainAgent(self.agent))
        self.keys = FetchedKeys("http://spire.example/keys", http, self.clock, lambda: 0.5)

    def start(self) -> None:
        """Start fetching."""
        self.keys.startService()
        self.addCleanup(self.keys.stopService)
        self.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass and answers arrive."""
        for _ in range(int(seconds / _STEP) or 1):
            self.agent.flush()
            self.clock.advance(min(seconds, _STEP))
            self.agent.flush()

    def complaints(self, seconds: float) -> list[str]:
        """Let time pass; return the warnings and errors logged meanwhile."""
        with capturedLogs() as events:
            self.advance(seconds)
        return [
            eventAsText(event, includeTimestamp=False, includeSystem=False)
            for event in events
            if event["log_level"] >= LogLevel.warn
        ]

    def test_fetched(self) -> None:
        """Keys are fetched at start and every five minutes; equal ones stay the same object."""
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

    def test_request_refresh(self) -> None:
        """A requested refresh comes soon, but at most every few seconds."""
        self.start()
        for _ in range(60):
            self.keys.request_refresh()
            self.advance(_STEP)
        self.assertIn(len(self.page.asked), range(10, 600 // int(MIN_REFRESH) + 2))

    def verifier(self) -> JWTVerifier:
        """Return a verifier of tokens with these keys."""
        return JWTVerifier(self.keys, AUDIENCE, time.time, self.clock.seconds, require_xname=False)

    def accepted_after(self, verifier: JWTVerifier, token: str) -> float:
        """Present a token every second until it is accepted; return after how many seconds."""
        for seconds in range(600):
            try:
                verifier.verify(token.encode())
            except InvalidToken:
                self.agent.flush()
                self.clock.advance(1)
                self.agent.flush()
            else:
                return seconds
        raise AssertionError("never accepted")

    def test_same_id(self) -> None:
        """A new key under the ID of the old one is used within seconds, though tokens came early.

        The token was refused before, and its refusal is remembered; the page may show the new key
        later than tokens are signed with it.
        """
        self.start()
        verifier = self.verifier()
        verifier.verify(ISSUER.token(NODE).encode())
        for number, late in enumerate((0, 1, 20)):
            self.advance(MIN_REFRESH)
            following = Issuer("ES256", "one", ec.generate_private_key(ec.SECP256R1()))
            token = following.token(NODE)
            if late:
                self.assertRaises(InvalidToken, verifier.verify, token.encode())
                for _ in range(late):
                    self.assertRaises(InvalidToken, verifier.verify, token.encode())
                    self.agent.flush()
                    self.clock.advance(1)
                    self.agent.flush()
            self.page.content = following.jwks()
            self.assertLessEqual(self.accepted_after(verifier, token), MIN_REFRESH + 2, number)

    def test_attacked(self) -> None:
        """Any number of tokens with wrong signatures causes a fetch every few seconds at most."""
        self.start()
        verifier = self.verifier()
        stranger = Issuer("ES256", "one", ec.generate_private_key(ec.SECP256R1()))
        tokens = [stranger.token(f"x0c0s0b0n{number}").encode() for number in range(20)]
        before = len(self.page.asked)
        for _ in range(600):
            for token in tokens:
                self.assertRaises(InvalidToken, verifier.verify, token)
            self.agent.flush()
            self.clock.advance(0.1)
            self.agent.flush()
        self.assertLessEqual(len(self.page.asked) - before, 60 / MIN_REFRESH + 1)
        verifier.verify(ISSUER.token(NODE).encode())

    def test_unreachable(self) -> None:
        """A failing fetch is logged once and retried, and the old keys stay in use."""
        self.page.status = 500
        with capturedLogs() as events:
            self.start()
        self.assertEqual(len([e for e in events if e["log_level"] is LogLevel.error]), 1)
        self.assertIsNone(self.keys.keys)
        self.assertEqual(self.complaints(60), [])
        self.page.status = 200
        self.advance(2 * _STEP)
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

    def pauses(self, count: int) -> list[float]:
        """Return the seconds between the next fetches, seen once a second."""
        times: list[float] = []
        asked = len(self.page.asked)
        while len(times) <= count:
            self.agent.flush()
            self.clock.advance(1)
            self.agent.flush()
            if len(self.page.asked) > asked:
                asked = len(self.page.asked)
                times.append(self.clock.seconds())
        return [later - earlier for earlier, later in pairwise(times)]

    def test_retries(self) -> None:
        """The pauses between retries grow, are jittered, and are short again after a success."""
        self.start()
        for _ in range(2):
            self.page.status = 500
            # `setUp` has jitter add a quarter of the first pause.
            for pause, least in zip(
                self.pauses(4),
                (FIRST_RETRY, 1.5 * FIRST_RETRY, LONGEST_RETRY, LONGEST_RETRY),
                strict=True,
            ):
                late = pause - least - FIRST_RETRY / 4
                self.assertTrue(0 <= late <= 1, (pause, least))
            self.page.status = 200
            self.advance(2 * _STEP)

    def test_plain(self) -> None:
        """Requests don't accept compressed answers."""
        self.start()
        self.assertFalse(self.page.asked[0].hasHeader("accept-encoding"))

    def test_stopped(self) -> None:
        """A fetch in progress is cancelled when the service stops, and nothing is logged."""
        self.page.hangs = True
        self.start()
        with capturedLogs() as events:
            self.keys.stopService()
        self.assertEqual([e for e in events if e["log_level"] >= LogLevel.warn], [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
