"""Nodes' tokens: which hold, and for what."""

import time
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.access.jwks import Key, parse_jwks
from hbtd.access.jwt import LEEWAY, Bearer, JWTVerifier, NoKeys, Unverified
from tests.support.issuer import AUDIENCE, ED448, KEYS, Issuer, encode_part

NODE = "x1000c0s0b0n0"
ISSUER = Issuer()


class SearchedKeys(list[Key]):
    """Keys that count how often one was searched for among them: once for each token checked."""

    searches = 0

    def __iter__(self) -> Iterator[Key]:
        self.searches += 1
        return super().__iter__()


class FixedKeys:
    """Keys that the test has in its hands."""

    def __init__(self, jwks: bytes | None = None) -> None:
        self.keys: Any = None if jwks is None else SearchedKeys(parse_jwks(jwks))
        self.misses = 0

    def missed(self) -> None:
        """Count."""
        self.misses += 1


class BearersTestCase(SynchronousTestCase):
    """Checks tokens."""

    def setUp(self):
        self.clock = Clock()
        self.began = time.time()
        self.source = FixedKeys(ISSUER.jwks())
        self.bearers = self.make()

    def make(self, **options: Any) -> JWTVerifier:
        """Make what checks."""
        given = {"require_xname": False, **options}
        return JWTVerifier(
            self.source, AUDIENCE, lambda: self.began + self.clock.seconds(), **given
        )

    def bearer(self, token: str) -> Bearer:
        """Check a token."""
        return self.bearers.bearer(token.encode())

    def refusal(self, token: str | bytes) -> str:
        """Check a token that must not hold; gives the reason."""
        presented = token.encode() if isinstance(token, str) else token
        return str(self.assertRaises(Unverified, self.bearers.bearer, presented))


class TokenTests(BearersTestCase):
    """Which tokens hold, and for what."""

    def test_subjects(self) -> None:
        """The subject says whom a token is for."""
        self.assertEqual(self.bearer(ISSUER.token("X1000C0s00b0n0")), Bearer(NODE))
        self.assertEqual(self.bearer(ISSUER.token(None)), Bearer(anyone=True))
        self.assertEqual(self.bearer(ISSUER.token("nobody")), Bearer())
        self.assertEqual(self.bearer(ISSUER.token(None, sub="alice")), Bearer())

    def test_require_xname(self) -> None:
        """If it must name a component, a token that does not is good for nothing."""
        self.bearers = self.make(require_xname=True)
        self.assertEqual(self.bearer(ISSUER.token(NODE)), Bearer(NODE))
        self.assertEqual(self.bearer(ISSUER.token(None)), Bearer())

    def test_algorithms(self) -> None:
        """Every usual algorithm holds with the key that is made for it."""
        issuers = [Issuer(algorithm, algorithm) for algorithm in KEYS]
        issuers += [Issuer(each, each, KEYS["RS256"]) for each in ("RS512", "PS256", "PS384")]
        issuers.append(Issuer("EdDSA", "Ed448", ED448))
        self.source.keys = parse_jwks(issuers[0].jwks(*issuers[1:]))
        for issuer in issuers:
            self.assertEqual(self.bearer(issuer.token(NODE)), Bearer(NODE), issuer.kid)

    def test_without_ids(self) -> None:
        """A token that names no key is tried with all, and a key without a name with all tokens."""
        nameless = Issuer("RS256", None)
        self.source.keys = parse_jwks(ISSUER.jwks(nameless))
        self.assertEqual(self.bearer(nameless.token(NODE)), Bearer(NODE))
        self.assertEqual(self.bearer(Issuer("RS256", "unknown").token(NODE)), Bearer(NODE))

    def test_times(self) -> None:
        """Before and after its time a token does not hold, but for a few seconds."""
        now = int(self.began)
        self.bearer(ISSUER.token(NODE, exp=now - LEEWAY + 5))
        self.bearer(ISSUER.token(NODE, nbf=now + LEEWAY - 5, iat=now + LEEWAY - 5))
        self.assertIn("expired", self.refusal(ISSUER.token(NODE, exp=now - LEEWAY - 1)))
        self.assertIn("expired", self.refusal(ISSUER.token(NODE, exp=0)))
        self.assertIn("yet", self.refusal(ISSUER.token(NODE, nbf=now + 3600)))
        self.assertIn("yet", self.refusal(ISSUER.token(NODE, iat=now + 3600)))

    def test_claims(self) -> None:
        """A token must be for us, and say until when and for whom it is."""
        self.bearer(ISSUER.token(NODE, aud=["other", AUDIENCE]))
        self.assertIn("audience", self.refusal(ISSUER.token(NODE, aud="other")))
        self.refusal(ISSUER.token(NODE, aud=[]))
        for claim in ("exp", "aud", "sub"):
            self.assertIn("lacks", self.refusal(ISSUER.token(NODE, **{claim: None})))
        odd: tuple[Any, ...] = ("soon", [], {}, -1, float("inf"))
        for wrong in odd:
            self.refusal(ISSUER.token(NODE, exp=wrong))
        self.refusal(ISSUER.token(NODE, nbf="x"))

    def test_forged(self) -> None:
        """No signature, another's signature, and a public key as a secret don't hold."""
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
        """A token that wants something understood which is not is refused."""
        self.refusal(ISSUER.token(NODE, headers={"crit": ["x"], "x": 1}))

    def test_long(self) -> None:
        """A token that is too long is not looked at."""
        self.assertIn("too long", self.refusal(ISSUER.token(NODE, more="x" * 9000)))
        self.assertEqual(self.source.keys.searches, 0)

    @given(st.binary() | st.text().map(str.encode))
    def test_garbage(self, token: bytes) -> None:
        """Whatever is no token is refused, and quietly."""
        source = FixedKeys(ISSUER.jwks())
        bearers = JWTVerifier(source, AUDIENCE, time.time, require_xname=False)
        self.assertRaises(Unverified, bearers.bearer, token)

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
        """Whatever its header says, a token without the signature is refused."""
        head = encode_part({"alg": "ES256", "kid": "one", name: value})
        token = f"{head}.{ISSUER.token(NODE).split('.')[1]}.AAAA"
        source = FixedKeys(ISSUER.jwks())
        bearers = JWTVerifier(source, AUDIENCE, time.time, require_xname=False)
        self.assertRaises(Unverified, bearers.bearer, token.encode())


class RememberedTests(BearersTestCase):
    """A token is checked once."""

    def test_once(self) -> None:
        """A token that was checked is known until it expires, and not a second longer."""
        token = ISSUER.token(NODE, exp=int(self.began) + 100)
        for _ in range(10):
            self.bearer(token)
        self.assertEqual(self.source.keys.searches, 1)
        self.clock.advance(99 + LEEWAY)
        self.bearer(token)
        self.clock.advance(2)
        self.assertIn("expired", self.refusal(token))

    def test_bounded(self) -> None:
        """So many are known at once; the one that came first is checked again."""
        self.bearers = self.make(remember=3)
        tokens = [ISSUER.token(f"x0c0s0b0n{number}") for number in range(4)]
        for token in tokens:
            self.bearer(token)
        for token, checked in ((tokens[3], 4), (tokens[1], 4), (tokens[0], 5), (tokens[3], 5)):
            self.bearer(token)
            self.assertEqual(self.source.keys.searches, checked)

    def test_wrong_ones(self) -> None:
        """One that does not hold is not remembered for anything."""
        forged = Issuer("ES256", "one", _fresh()).token(NODE)
        for _ in range(3):
            self.refusal(forged)
        self.bearer(ISSUER.token(NODE))
        self.refusal(forged)

    def test_new_keys(self) -> None:
        """When the keys change, what was checked with the old ones counts no more."""
        token = ISSUER.token(NODE)
        self.bearer(token)
        self.source.keys = parse_jwks(Issuer("RS256").jwks())
        self.refusal(token)

    def test_no_keys(self) -> None:
        """Before there are keys nothing can be said of a token."""
        self.source = FixedKeys()
        self.bearers = self.make()
        token = ISSUER.token(NODE).encode()
        self.assertRaises(NoKeys, self.bearers.bearer, token)
        self.source.keys = parse_jwks(ISSUER.jwks())
        self.assertEqual(self.bearers.bearer(token), Bearer(NODE))

    def test_unknown_key(self) -> None:
        """A token of a key that is not there has the keys looked after."""
        self.assertIn("not known", self.refusal(Issuer("ES256", "two").token(NODE)))
        self.assertGreater(self.source.misses, 0)


def _fresh() -> Any:
    return ec.generate_private_key(ec.SECP256R1())
