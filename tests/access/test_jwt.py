"""Nodes' tokens: which are valid, and what they prove."""

import json
import time
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWS
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.access.jwks import Key, parse_jwks
from hbtd.access.jwt import LEEWAY, InvalidToken, JWTVerifier, NoKeys, Subject
from tests.support.issuer import AUDIENCE, ED448, KEYS, Issuer, encode_part, subject

NODE = "x1000c0s0b0n0"
ISSUER = Issuer()


class SearchedKeys(list[Key]):
    """Keys that count how often they are iterated over: once for each verification."""

    searches = 0

    def __iter__(self) -> Iterator[Key]:
        self.searches += 1
        return super().__iter__()


class FixedKeys:
    """Keys that a test replaces."""

    def __init__(self, jwks: bytes | None = None) -> None:
        self.keys: Any = None if jwks is None else SearchedKeys(parse_jwks(jwks))
        self.requests = 0

    def request_refresh(self) -> None:
        """Count the requests."""
        self.requests += 1


class VerifierTestCase(SynchronousTestCase):
    """A test that verifies tokens."""

    def setUp(self):
        self.clock = Clock()
        self.began = time.time()
        self.source = FixedKeys(ISSUER.jwks())
        self.verifier = self.make()

    def make(self, **options: Any) -> JWTVerifier:
        """Return a verifier on the test's clock."""
        given = {"require_xname": False, **options}
        return JWTVerifier(
            self.source,
            AUDIENCE,
            lambda: self.began + self.clock.seconds(),
            self.clock.seconds,
            **given,
        )

    def verify(self, token: str) -> Subject:
        """Verify a token; return its subject."""
        return self.verifier.verify(token.encode()).subject

    def refusal(self, token: str | bytes) -> str:
        """Check that a token is invalid; return the reason."""
        presented = token.encode() if isinstance(token, str) else token
        return str(self.assertRaises(InvalidToken, self.verifier.verify, presented))


class TokenTests(VerifierTestCase):
    """The checks of a token."""

    def test_subjects(self) -> None:
        """The subject names one component, all, or none."""
        self.assertEqual(self.verify(ISSUER.token("X1000C0s00b0n0")), Subject(NODE))
        self.assertEqual(self.verify(ISSUER.token(None)), Subject(any_component=True))
        self.assertEqual(self.verify(ISSUER.token("nobody")), Subject())
        self.assertEqual(self.verify(ISSUER.token(None, sub="alice")), Subject())

    def test_require_xname(self) -> None:
        """If the subject must name a component, a token without one allows nothing."""
        self.verifier = self.make(require_xname=True)
        self.assertEqual(self.verify(ISSUER.token(NODE)), Subject(NODE))
        self.assertEqual(self.verify(ISSUER.token(None)), Subject())

    def test_issuer(self) -> None:
        """With a pinned issuer, a token of any other, or of none, is invalid, for good."""
        self.verifier = self.make(issuer="https://spire.example")
        own = "https://spire.example"
        self.assertEqual(self.verify(ISSUER.token(NODE, iss=own)), Subject(NODE))
        for other in (f"{own}/", "HTTPS://spire.example", "https://evil.example", ""):
            token = ISSUER.token(NODE, iss=other)
            for _ in range(2):
                self.assertEqual(self.refusal(token), "the token is from another issuer", other)
        for odd in (7, [own], {own: 1}):
            claims = json.dumps({"sub": subject(NODE), "aud": AUDIENCE, "exp": 2**33, "iss": odd})
            headers = {"kid": ISSUER.kid}
            token = PyJWS().encode(claims.encode(), ISSUER.key, ISSUER.algorithm, headers)
            self.assertEqual(self.refusal(token), "the token is from another issuer", str(odd))
        self.assertEqual(self.refusal(ISSUER.token(NODE)), "the token lacks a claim")

    def test_trust_domain(self) -> None:
        """With a pinned trust domain, a token whose subject is of no such domain is invalid."""
        self.verifier = self.make(trust_domain="site.example")
        self.assertEqual(self.verify(ISSUER.token(NODE)), Subject(NODE))
        self.assertEqual(self.verify(ISSUER.token(None)), Subject(any_component=True))
        path = f"/compute/{NODE}/workload/heartbeat"
        for other in (
            *(f"spiffe://evil.example{path}", f"spiffe://site.example.evil.example{path}"),
            *(f"spiffe://evil.example/site.example{path}", f"spiffe://site.exampl{path}"),
            *(f"spiffe://Site.example{path}", f"spiffe://site.example@evil.example{path}"),
            *("spiffe://site.example/alice", "alice", ""),
        ):
            said = self.refusal(ISSUER.token(None, sub=other))
            self.assertEqual(said, "the token's subject is not of the trust domain", other)

    def test_algorithms(self) -> None:
        """Every usual algorithm is accepted with a key that is made for it."""
        issuers = [Issuer(algorithm, algorithm) for algorithm in KEYS]
        issuers += [Issuer(each, each, KEYS["RS256"]) for each in ("RS512", "PS256", "PS384")]
        issuers.append(Issuer("EdDSA", "Ed448", ED448))
        self.source.keys = parse_jwks(issuers[0].jwks(*issuers[1:]))
        for issuer in issuers:
            self.assertEqual(self.verify(issuer.token(NODE)), Subject(NODE), issuer.kid)

    def test_without_ids(self) -> None:
        """A token without a key ID is tried with all keys, a key without an ID with all tokens."""
        nameless = Issuer("RS256", None)
        self.source.keys = parse_jwks(ISSUER.jwks(nameless))
        self.assertEqual(self.verify(nameless.token(NODE)), Subject(NODE))
        self.assertEqual(self.verify(Issuer("RS256", "unknown").token(NODE)), Subject(NODE))

    def test_times(self) -> None:
        """A token is invalid before and after its time, with a leeway of a few seconds."""
        now = int(self.began)
        self.verify(ISSUER.token(NODE, exp=now - LEEWAY + 5))
        self.verify(ISSUER.token(NODE, nbf=now + LEEWAY - 5, iat=now + LEEWAY - 5))
        self.assertIn("expired", self.refusal(ISSUER.token(NODE, exp=now - LEEWAY - 1)))
        self.assertIn("expired", self.refusal(ISSUER.token(NODE, exp=0)))
        self.assertIn("yet", self.refusal(ISSUER.token(NODE, nbf=now + 3600)))
        self.assertIn("yet", self.refusal(ISSUER.token(NODE, iat=now + 3600)))

    def test_claims(self) -> None:
        """A token needs the right audience, an expiry and a subject."""
        self.verify(ISSUER.token(NODE, aud=["other", AUDIENCE]))
        self.assertIn("audience", self.refusal(ISSUER.token(NODE, aud="other")))
        self.refusal(ISSUER.token(NODE, aud=[]))
        for claim in ("exp", "aud", "sub"):
            self.assertIn("lacks", self.refusal(ISSUER.token(NODE, **{claim: None})))
        odd: tuple[Any, ...] = ("soon", [], {}, -1, float("inf"))
        for wrong in odd:
            self.refusal(ISSUER.token(NODE, exp=wrong))
        self.refusal(ISSUER.token(NODE, nbf="x"))

    def test_forged(self) -> None:
        """No signature, a stranger's, and an HMAC with the public key are all invalid."""
        stranger = Issuer("ES256", "one", _fresh())
        self.assertIn("signature", self.refusal(stranger.token(NODE)))
        for token in (ISSUER.unsigned(NODE), ISSUER.confused(NODE)):
            self.assertIn("way that its key does not allow", self.refusal(token))
        head, payload, signature = ISSUER.token(NODE).split(".")
        _, others, _ = ISSUER.token("x0c0s0b0n0").split(".")
        self.refusal(f"{head}.{others}.{signature}")
        self.refusal(f"{head}.{payload}.")
        self.refusal(f"{head}.{payload}")
        rsa = Issuer("RS256", "one")
        self.assertIn("allow", self.refusal(rsa.token(NODE)))

    def test_crit(self) -> None:
        """A token with an unknown critical header parameter is invalid."""
        self.refusal(ISSUER.token(NODE, headers={"crit": ["x"], "x": 1}))

    def test_long(self) -> None:
        """A token that is too long is invalid without being parsed."""
        self.assertIn("too long", self.refusal(ISSUER.token(NODE, more="x" * 9000)))
        self.assertEqual(self.source.keys.searches, 0)

    @given(st.binary() | st.text().map(str.encode))
    def test_garbage(self, token: bytes) -> None:
        """Any bytes that are no token are invalid, without another exception."""
        source = FixedKeys(ISSUER.jwks())
        verifier = JWTVerifier(source, AUDIENCE, time.time, float, require_xname=False)
        self.assertRaises(InvalidToken, verifier.verify, token)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
            ),
            max_leaves=5,
        ),
        st.sampled_from(["alg", "kid", "typ", "crit", "b64"]),
    )
    def test_odd_headers(self, value: Any, name: str) -> None:
        """A token without its signature is invalid, whatever its header says."""
        head = encode_part({"alg": "ES256", "kid": "one", name: value})
        token = f"{head}.{ISSUER.token(NODE).split('.')[1]}.AAAA"
        source = FixedKeys(ISSUER.jwks())
        verifier = JWTVerifier(source, AUDIENCE, time.time, float, require_xname=False)
        self.assertRaises(InvalidToken, verifier.verify, token.encode())


class RememberedTests(VerifierTestCase):
    """The results that are remembered."""

    def test_once(self) -> None:
        """A token is verified once, and is invalid from the second in which it expires."""
        token = ISSUER.token(NODE, exp=int(self.began) + 100)
        for _ in range(10):
            self.verify(token)
        self.assertEqual(self.source.keys.searches, 1)
        self.clock.advance(99 + LEEWAY)
        self.verify(token)
        self.clock.advance(2)
        self.assertIn("expired", self.refusal(token))

    def test_bounded(self) -> None:
        """A limited number is remembered; the oldest is verified again."""
        self.verifier = self.make(remember=3)
        tokens = [ISSUER.token(f"x0c0s0b0n{number}") for number in range(4)]
        for token in tokens:
            self.verify(token)
        for token, checked in ((tokens[3], 4), (tokens[1], 4), (tokens[0], 5), (tokens[3], 5)):
            self.verify(token)
            self.assertEqual(self.source.keys.searches, checked)

    def test_invalid(self) -> None:
        """An invalid token is verified once a minute, whatever the wall clock shows."""
        forged = Issuer("ES256", "one", _fresh()).token(NODE)
        for _ in range(3):
            self.assertIn("signature", self.refusal(forged))
        self.began += 3600
        self.clock.advance(59.5)
        self.assertIn("signature", self.refusal(forged))
        self.assertEqual(self.source.keys.searches, 1)
        self.clock.advance(0.5)
        self.assertIn("signature", self.refusal(forged))
        self.assertEqual(self.source.keys.searches, 2)

    def test_times(self) -> None:
        """A signature is checked once, but whether the time is right each time."""
        now = int(self.began)
        early = ISSUER.token(NODE, nbf=now + 100, exp=now + 200)
        issued_early = ISSUER.token(NODE, iat=now + 100)
        late = ISSUER.token(NODE, iat=now - 400, exp=now - 100)
        for _ in range(3):
            self.assertIn("yet", self.refusal(early))
            self.assertIn("yet", self.refusal(issued_early))
            self.assertIn("expired", self.refusal(late))
        self.clock.advance(101 - LEEWAY)
        self.assertEqual(self.verify(early), Subject(NODE))
        self.assertEqual(self.verify(issued_early), Subject(NODE))
        self.clock.advance(100 + 2 * LEEWAY)
        for _ in range(3):
            self.assertIn("expired", self.refusal(early))
        self.began -= 400
        self.assertEqual(self.verify(late), Subject(NODE))
        self.assertEqual(self.source.keys.searches, 3)

    def test_invalid_bounded(self) -> None:
        """A limited number of invalid tokens is remembered, and they displace no valid one."""
        self.verifier = self.make(remember=1, remember_refused=3)
        stranger = Issuer("ES256", "one", _fresh())
        forged = [stranger.token(f"x0c0s0b0n{number}") for number in range(4)]
        valid = ISSUER.token(NODE)
        self.verify(valid)
        for token in (*forged, forged[3]):
            self.refusal(token)
        self.assertEqual(self.source.keys.searches, 5)
        self.assertLessEqual(len(self.verifier._refused), 3)
        self.verify(valid)
        self.assertEqual(self.source.keys.searches, 5)
        self.refusal(forged[0])
        self.assertEqual(self.source.keys.searches, 6)

    def test_no_secrets(self) -> None:
        """Of a token only a digest is kept, valid or not."""
        forged = Issuer("ES256", "one", _fresh()).token(NODE)
        self.refusal(forged)
        valid = ISSUER.token(NODE)
        self.verify(valid)
        kept = repr((self.verifier._remembered, self.verifier._refused))
        for part in (*forged.split("."), *valid.split(".")):
            self.assertNotIn(part, kept)

    def test_new_keys(self) -> None:
        """When the keys change, results of the old ones are dropped, good and bad."""
        other = Issuer("RS256", "one")
        valid, invalid = ISSUER.token(NODE), other.token(NODE)
        self.verify(valid)
        self.refusal(invalid)
        self.source.keys = parse_jwks(other.jwks())
        self.refusal(valid)
        self.assertEqual(self.verify(invalid), Subject(NODE))

    def test_no_keys(self) -> None:
        """Before there are keys, verifying fails with `NoKeys`."""
        self.source = FixedKeys()
        self.verifier = self.make()
        token = ISSUER.token(NODE).encode()
        self.assertRaises(NoKeys, self.verifier.verify, token)
        self.source.keys = parse_jwks(ISSUER.jwks())
        self.assertEqual(self.verifier.verify(token).subject, Subject(NODE))

    def test_unknown_key(self) -> None:
        """A token of an unknown key requests new keys each time."""
        token = Issuer("ES256", "two").token(NODE)
        self.assertIn("not known", self.refusal(token))
        before = self.source.requests
        self.assertGreater(before, 0)
        self.refusal(token)
        self.assertGreater(self.source.requests, before)

    def test_wrong_key(self) -> None:
        """A token that does not fit the key that it names requests new keys, each time.

        A new key may have the same ID, and may be of another type; the source limits how often it
        loads keys.
        """
        for other in (Issuer("ES256", "one", _fresh()), Issuer("RS256", "one")):
            token = other.token(NODE)
            for count in range(1, 4):
                self.source.requests = 0
                self.refusal(token)
                self.assertEqual(self.source.requests, 1, count)

    def test_other_faults(self) -> None:
        """A token that is invalid for another reason requests no keys."""
        for token in ("garbage", ISSUER.token(NODE, aud="other"), ISSUER.token(NODE, exp=None)):
            self.refusal(token)
            self.refusal(token)
        self.assertEqual(self.source.requests, 0)

    def test_read_at_once(self) -> None:
        """If new keys are loaded at the request, the token is verified with them at once.

        It is if it was refused before, too.
        """
        other = Issuer("RS256", "one")
        token = other.token(NODE)
        for refused_before in (False, True):
            self.source = ReadAtOnce(ISSUER.jwks())
            self.verifier = self.make()
            valid = ISSUER.token(NODE)
            self.verify(valid)
            if refused_before:
                self.refusal(token)
            self.source.following = other.jwks()
            self.assertEqual(self.verify(token), Subject(NODE))
            self.refusal(valid)
            searches = self.source.keys.searches
            self.verify(token)
            self.assertEqual(self.source.keys.searches, searches)


class ReadAtOnce(FixedKeys):
    """Keys that are replaced when they are requested."""

    following: bytes | None = None

    def request_refresh(self) -> None:
        """Count the requests, and replace the keys."""
        super().request_refresh()
        if self.following is not None:
            self.keys, self.following = SearchedKeys(parse_jwks(self.following)), None


def _fresh() -> Any:
    return ec.generate_private_key(ec.SECP256R1())
