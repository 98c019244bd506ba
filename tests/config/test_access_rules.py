"""The rules of access, and the components that credentials name."""

from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import crypto
from twisted.trial.unittest import SynchronousTestCase

from hbtd.access.peers import SpiffeID, is_loopback, parse_spiffe_id, read_certificate
from hbtd.config.access_rules import (
    NodeRules,
    OperatorRules,
    parse_node_access,
    parse_operator_access,
)
from hbtd.config.advice import advice, summary
from hbtd.config.params import Params
from tests.support.certificates import make_identity

NODE = "x1000c0s0b0n0"
WORDS = st.text("abc/+:,.-", min_size=1)


class RulesTests(SynchronousTestCase):
    """Rules are parsed."""

    def test_operators(self) -> None:
        """Every rule about operators is parsed, alone and joined."""
        for text, rules in {
            "any": OperatorRules(anyone=True),
            "loopback": OperatorRules(loopback=True),
            "token:/etc/a+b": OperatorRules(token_path="/etc/a+b"),
            "cert:ops": OperatorRules(names=frozenset({"ops"})),
            "cert:a,b+loopback": OperatorRules(loopback=True, names=frozenset("ab")),
            "token:x:y+any+cert:c+d": OperatorRules(True, False, "x:y", frozenset({"c+d"})),
        }.items():
            self.assertEqual(parse_operator_access(text), rules, text)

    def test_nodes(self) -> None:
        """Every rule about nodes is parsed, alone and joined."""
        for text, rules, url in (
            ("any", NodeRules(anyone=True), ""),
            ("cert", NodeRules(certificates=True), ""),
            ("jwt:a+b", NodeRules(jwks="a+b"), ""),
            ("jwt:http://h/+cert", NodeRules(False, True, "http://h/"), "http://h/"),
            ("any+jwt:https://h:1/k", NodeRules(True, False, "https://h:1/k"), None),
        ):
            self.assertEqual(parse_node_access(text), rules, text)
            self.assertEqual(rules.jwks_url, rules.jwks if url is None else url)

    @given(st.lists(WORDS | st.sampled_from(["any", "loopback", "token:", "cert:", "jwt:", "+"])))
    def test_anything(self, pieces: list[str]) -> None:
        """Any text is parsed or refused, and only one with `any` in it lets in every client."""
        text = "".join(pieces)
        for parse in (parse_operator_access, parse_node_access):
            try:
                rules = parse(text)
            except ValueError:
                continue
            self.assertTrue(any(rules))
            self.assertLessEqual(rules.anyone, "any" in text)


class SpiffeTests(SynchronousTestCase):
    """SPIFFE IDs are parsed."""

    def test_components(self) -> None:
        """The component is the part before the workload, normalized."""
        for text, component, domain in (
            (f"spiffe://shasta/compute/{NODE}/workload/heartbeat", NODE, "shasta"),
            (
                *("spiffe://site.example/ncn/X3000C0S01B0N0/workload/heartbeat", "x3000c0s1b0n0"),
                "site.example",
            ),
            ("spiffe://shasta/compute/workload/heartbeat", None, "shasta"),
        ):
            self.assertEqual(parse_spiffe_id(text), SpiffeID(component, domain))

    def test_others(self) -> None:
        """IDs of other workloads, of other shapes, or without an xname are ignored."""
        good = f"spiffe://shasta/compute/{NODE}/workload/heartbeat"
        for text in (
            "",
            good + "/",
            good + "\n",
            "x" + good,
            good.replace("heartbeat", "cfs"),
            good.replace(NODE, "nobody"),
            good.replace(NODE, ""),
            good.replace(NODE, f"{NODE}/{NODE}"),
            good.replace("spiffe", "https"),
            good.replace("shasta", ""),
            good.replace(NODE, "%78" + NODE[1:]),
            good + "?x",
            good + "#x",
            NODE,
        ):
            self.assertIsNone(parse_spiffe_id(text), text)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Arbitrary text is no SPIFFE ID, and no xname in one."""
        self.assertIsNone(parse_spiffe_id(text))
        self.assertIsNone(parse_spiffe_id(f"spiffe://shasta/c/{text}/{NODE}/workload/heartbeat"))


class CertificateTests(SynchronousTestCase):
    """Names are read from certificates."""

    def components(self, name: str, *dns: str, uris: tuple[str, ...] = ()) -> set[str]:
        """Return the components that a certificate with these names stands for."""
        identity = make_identity(name, dns=dns or None, uris=uris)
        read = read_certificate(crypto.X509.from_cryptography(identity.chain[0]))
        self.assertEqual(read.common_name, name)
        self.assertEqual(read.expires, identity.expires.timestamp())
        return set(read.components)

    def test_names(self) -> None:
        """Components are named by CN, by the first labels of DNS names, and by SPIFFE IDs."""
        uri = f"spiffe://shasta/compute/{NODE}/workload/heartbeat"
        self.assertEqual(self.components("X1000c00s0b0n0"), {NODE})
        self.assertEqual(self.components("n", f"{NODE}.hsn.example", "n.example"), {NODE})
        self.assertEqual(self.components("n", "n", uris=(uri, "https://x1c0s0b0n0/")), {NODE})
        self.assertEqual(
            self.components("x1c0s0b0n0", "x2c0s0b0n0", uris=(uri,)),
            {"x1c0s0b0n0", "x2c0s0b0n0", NODE},
        )

    def test_two_names(self) -> None:
        """A subject with two common names stands for no operator and no component."""
        key = ec.generate_private_key(ec.SECP256R1())
        cn = NameOID.COMMON_NAME
        name = x509.Name([x509.NameAttribute(cn, "ops"), x509.NameAttribute(cn, NODE)])
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        read = read_certificate(crypto.X509.from_cryptography(certificate))
        self.assertEqual((read.common_name, read.components), (None, frozenset()))

    def test_odd(self) -> None:
        """A certificate that can't be parsed counts as expired and names no component."""
        identity = make_identity("x1c0s0b0n0")
        der = bytearray(identity.chain[0].public_bytes(Encoding.DER))
        version = der.index(bytes.fromhex("a003020102"))
        der[version + 4] = 9
        read = read_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, bytes(der)))
        self.assertEqual(read, (None, frozenset(), 0.0))

    def test_none(self) -> None:
        """A certificate for the heartbeats of any component names none."""
        anybody = "spiffe://shasta/compute/workload/heartbeat"
        self.assertEqual(self.components("ops", "ops.x1c0s0b0n0", uris=(anybody,)), set())


class AddressTests(SynchronousTestCase):
    """Loopback addresses are recognized."""

    def test_loopback(self) -> None:
        """Loopback addresses, also mapped into IPv6, are recognized, and no others."""
        for host in ("127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1", "0:0::1"):
            self.assertTrue(is_loopback(host), host)
        for host in (
            *("10.0.0.1", "0.0.0.0", "::", "::ffff:10.0.0.1", "::127.0.0.1", "fe80::1%eth0"),
            *("localhost", "", "127.0.0.1.evil.example", "1270.0.1"),
        ):
            self.assertFalse(is_loopback(host), host)


class AdviceTests(SynchronousTestCase):
    """Rules and risks are logged at every start."""

    def test_advice(self) -> None:
        """There is a warning for each risk, and none for the defaults."""
        self.assertEqual(advice(Params()), [])
        for options, word in (
            ({"operator_access": "any"}, "--operator_access=any"),
            ({"tls": False}, "gateway"),
            ({"listen": "tcp:80"}, "gateway"),
            ({"listen": "unix:/run/hbtd.sock"}, "gateway"),
            ({"tls": False, "operator_access": "token:x"}, "tokens can be read"),
            ({"node_access": "jwt:http://h/"}, "forged"),
            ({"sm_ca": "insecure"}, "--sm_ca"),
            ({"kv_login": "l", "kv_url": "http://etcd:2379"}, "--kv_login"),
            ({"telemetry_login": "l", "telemetry_sasl": "plain"}, "--telemetry_login"),
            ({"telemetry_tls": True, "telemetry_ca": "insecure"}, "--telemetry_ca"),
            ({"sm_token": "t", "sm_url": "http://hsm"}, "--sm_token"),
            ({"jwt_ca": "insecure"}, "--jwt_ca"),
        ):
            (sentence,) = advice(Params(**options))
            self.assertIn(word, sentence)
        for options in ({"listen": "unix:/run/hbtd.sock"}, {"listen": "tcp:443", "tls_cert": "c"}):
            params = Params(operator_access="token:x", **options)  # type: ignore[arg-type]
            self.assertEqual(advice(params), [])

    def test_summary(self) -> None:
        """One line sums up who is an operator, and what credentials nodes need."""
        self.assertEqual(
            summary(OperatorRules(loopback=True), NodeRules(anyone=True)),
            "Operators: clients on this host. Credentials of nodes: none needed.",
        )
        self.assertEqual(
            summary(
                OperatorRules(token_path="t", names=frozenset("n")), NodeRules(False, True, "j")
            ),
            "Operators: clients with a token or clients with a named certificate."
            " Credentials of nodes: client certificates or JWTs.",
        )
