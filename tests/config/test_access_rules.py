"""How the options say who may do what, and which components credentials name."""

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
    NodeWays,
    OperatorWays,
    parse_node_access,
    parse_operator_access,
)
from hbtd.config.advice import advice, summary
from hbtd.config.params import Params
from tests.support.certificates import make_identity

NODE = "x1000c0s0b0n0"
WORDS = st.text("abc/+:,.-", min_size=1)


class WaysTests(SynchronousTestCase):
    """What is read."""

    def test_operators(self) -> None:
        """Every way of operators, alone and together."""
        for text, ways in {
            "any": OperatorWays(anyone=True),
            "loopback": OperatorWays(loopback=True),
            "token:/etc/a+b": OperatorWays(token_path="/etc/a+b"),
            "cert:ops": OperatorWays(names=frozenset({"ops"})),
            "cert:a,b+loopback": OperatorWays(loopback=True, names=frozenset("ab")),
            "token:x:y+any+cert:c+d": OperatorWays(True, False, "x:y", frozenset({"c+d"})),
        }.items():
            self.assertEqual(parse_operator_access(text), ways, text)

    def test_nodes(self) -> None:
        """Every way of nodes, alone and together."""
        for text, ways, url in (
            ("any", NodeWays(anyone=True), ""),
            ("cert", NodeWays(certificates=True), ""),
            ("jwt:a+b", NodeWays(jwks="a+b"), ""),
            ("jwt:http://h/+cert", NodeWays(False, True, "http://h/"), "http://h/"),
            ("any+jwt:https://h:1/k", NodeWays(True, False, "https://h:1/k"), None),
        ):
            self.assertEqual(parse_node_access(text), ways, text)
            self.assertEqual(ways.jwks_url, ways.jwks if url is None else url)

    @given(st.lists(WORDS | st.sampled_from(["any", "loopback", "token:", "cert:", "jwt:", "+"])))
    def test_anything(self, pieces: list[str]) -> None:
        """Anything is either read or refused; nothing is read as more than it says."""
        text = "".join(pieces)
        for parse in (parse_operator_access, parse_node_access):
            try:
                ways = parse(text)
            except ValueError:
                continue
            self.assertTrue(any(ways))
            self.assertLessEqual(ways.anyone, "any" in text)


class SpiffeTests(SynchronousTestCase):
    """SPIFFE ids."""

    def test_components(self) -> None:
        """The component is the part before the workload, in normal form."""
        for text, component in (
            (f"spiffe://shasta/compute/{NODE}/workload/heartbeat", NODE),
            ("spiffe://site.example/ncn/X3000C0S01B0N0/workload/heartbeat", "x3000c0s1b0n0"),
            ("spiffe://shasta/compute/workload/heartbeat", None),
        ):
            self.assertEqual(parse_spiffe_id(text), SpiffeID(component))

    def test_others(self) -> None:
        """Other workloads, other shapes and names that are none mean nothing."""
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
        """Any text is taken, and hardly any means something."""
        self.assertIsNone(parse_spiffe_id(text))
        self.assertIsNone(parse_spiffe_id(f"spiffe://shasta/c/{text}/{NODE}/workload/heartbeat"))


class CertificateTests(SynchronousTestCase):
    """What certificates say."""

    def components(self, name: str, *dns: str, uris: tuple[str, ...] = ()) -> set[str]:
        """Make a certificate; gives the components that it names."""
        identity = make_identity(name, dns=dns or None, uris=uris)
        read = read_certificate(crypto.X509.from_cryptography(identity.chain[0]))
        self.assertEqual(read.common_name, name)
        self.assertEqual(read.expires, identity.expires.timestamp())
        return set(read.components)

    def test_names(self) -> None:
        """Components are named by CN, by DNS names' first labels, and by SPIFFE ids."""
        uri = f"spiffe://shasta/compute/{NODE}/workload/heartbeat"
        self.assertEqual(self.components("X1000c00s0b0n0"), {NODE})
        self.assertEqual(self.components("n", f"{NODE}.hsn.example", "n.example"), {NODE})
        self.assertEqual(self.components("n", "n", uris=(uri, "https://x1c0s0b0n0/")), {NODE})
        self.assertEqual(
            self.components("x1c0s0b0n0", "x2c0s0b0n0", uris=(uri,)),
            {"x1c0s0b0n0", "x2c0s0b0n0", NODE},
        )

    def test_two_names(self) -> None:
        """Of a subject with two common names neither is an operator's, nor a component's."""
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
        """A certificate that can't be read at all has expired, and names nobody."""
        identity = make_identity("x1c0s0b0n0")
        der = bytearray(identity.chain[0].public_bytes(Encoding.DER))
        version = der.index(bytes.fromhex("a003020102"))
        der[version + 4] = 9
        read = read_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, bytes(der)))
        self.assertEqual(read, (None, frozenset(), 0.0))

    def test_none(self) -> None:
        """A certificate for anybody's heartbeats speaks for nobody."""
        anybody = "spiffe://shasta/compute/workload/heartbeat"
        self.assertEqual(self.components("ops", "ops.x1c0s0b0n0", uris=(anybody,)), set())


class AddressTests(SynchronousTestCase):
    """Who is on this host."""

    def test_loopback(self) -> None:
        """Loopback addresses are, also when mapped into IPv6, and no others."""
        for host in ("127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1", "0:0::1"):
            self.assertTrue(is_loopback(host), host)
        for host in (
            *("10.0.0.1", "0.0.0.0", "::", "::ffff:10.0.0.1", "::127.0.0.1", "fe80::1%eth0"),
            *("localhost", "", "127.0.0.1.evil.example", "1270.0.1"),
        ):
            self.assertFalse(is_loopback(host), host)


class AdviceTests(SynchronousTestCase):
    """What is said at every start."""

    def test_advice(self) -> None:
        """A line for each thing that should be meant; the defaults need none."""
        self.assertEqual(advice(Params()), [])
        for options, word in (
            ({"operator_access": "any"}, "--operator_access=any"),
            ({"tls": False}, "gateway"),
            ({"listen": "tcp:80"}, "gateway"),
            ({"listen": "unix:/run/hbtd.sock"}, "gateway"),
            ({"tls": False, "operator_access": "token:x"}, "tokens can be read"),
            ({"node_access": "jwt:http://h/"}, "forged"),
            ({"sm_ca": "insecure"}, "--sm_ca"),
            ({"jwt_ca": "insecure"}, "--jwt_ca"),
        ):
            (sentence,) = advice(Params(**options))
            self.assertIn(word, sentence)
        for listen in ("unix:/run/hbtd.sock", "ssl:443"):
            self.assertEqual(advice(Params(listen=listen, operator_access="token:x")), [])

    def test_summary(self) -> None:
        """One line says who may do what."""
        self.assertEqual(
            summary(OperatorWays(loopback=True), NodeWays(anyone=True)),
            "Operators: who is on this host. Credentials of nodes: nobody is asked for any.",
        )
        self.assertEqual(
            summary(OperatorWays(token_path="t", names=frozenset("n")), NodeWays(False, True, "j")),
            "Operators: who has a token or who has one of the certificates named."
            " Credentials of nodes: client certificates or JWTs.",
        )
