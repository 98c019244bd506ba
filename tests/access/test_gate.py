"""The gate where tests/api/test_access.py does not reach, token files, and logged refusals."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from OpenSSL import crypto
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from hbtd.access.gate import Credentials, Gate
from hbtd.access.jwt import JWTVerifier
from hbtd.access.peers import ClientCertificate, Peer, Peers
from hbtd.access.refusals import (
    Forbidden,
    KeysUnavailable,
    Refusals,
    Refused,
    Unauthenticated,
)
from hbtd.access.tokens import TokenFile, TokensUnusable
from hbtd.config.access_rules import NodeRules, OperatorRules
from hbtd.runtime.watched_files import PERIOD, FileWatcher
from tests.support.certificates import make_identity

NODE, NEIGHBOUR = "x1000c0s0b0n0", "x1000c0s0b0n1"
TOKEN = "a-token-that-operators-have"


def may_beat(gate: Gate, credentials: Credentials, xname: str) -> bool:
    """Return whether these credentials allow heartbeats of a component."""
    try:
        gate.node(credentials).check_beat(xname)
    except Refused:
        return False
    return True


class CertificateTests(SynchronousTestCase):
    """Certificates of connections that stay open."""

    def setUp(self):
        self.clock = Clock()
        self.gate = Gate(
            OperatorRules(names=frozenset({"ops"})),
            NodeRules(certificates=True),
            self.clock.seconds,
        )

    def present(self, name: str | None, *components: str) -> Credentials:
        """Return the credentials of a certificate that expires after 100 seconds."""
        certificate = ClientCertificate(name, frozenset(components), 100.0)
        return Credentials(Peer("192.0.2.1", False, certificate))

    def test_expires(self) -> None:
        """An expired certificate allows nothing, even if the connection is still open."""
        node, operator = self.present("n", NODE), self.present("ops")
        self.clock.advance(99)
        self.assertTrue(may_beat(self.gate, node, NODE))
        self.assertFalse(may_beat(self.gate, node, NEIGHBOUR))
        self.gate.operator(operator)
        self.clock.advance(1)
        self.assertFalse(may_beat(self.gate, node, NODE))
        self.assertRaises(Unauthenticated, self.gate.node, node)
        self.assertRaises(Unauthenticated, self.gate.operator, operator)

    def test_holds(self) -> None:
        """What a certificate has shown holds until the moment at which it expires."""
        shown = self.gate.authenticate(self.present("n", NODE))
        self.clock.advance(99.5)
        self.assertTrue(self.gate.still_holds(shown))
        self.clock.advance(0.5)
        self.assertFalse(self.gate.still_holds(shown))

    def test_described(self) -> None:
        """The log calls the sender by the name in its certificate, or says that it has none."""
        for name, said in (
            ("n", "certificate 'n'"),
            (None, "certificate '(without one common name)'"),
        ):
            self.assertEqual(self.gate.describe(self.present(name)), said)
        self.assertEqual(self.gate.describe(Credentials(Peer("192.0.2.1"))), "an unknown caller")

    def test_without_name(self) -> None:
        """Without a common name a certificate is no operator's, without components no node's."""
        odd = self.present(None)
        self.assertRaises(Forbidden, self.gate.operator, odd)
        caller = self.gate.node(odd)
        self.assertRaises(Forbidden, caller.check_beat, NODE)


class NoKeysTests(SynchronousTestCase):
    """Tokens before there are keys to verify them with."""

    def test_other_credentials(self) -> None:
        """A token can't be verified; a certificate authenticates without it."""
        source: Any = SimpleNamespace(keys=None)
        verifier = JWTVerifier(source, "system-compute", float, float, require_xname=False)
        rules = OperatorRules(loopback=True), NodeRules(False, True, "x")
        gate = Gate(*rules, float, node_tokens=verifier)
        certificate = ClientCertificate("n", frozenset({NODE}), 100.0)
        shown, nothing = Peer("192.0.2.1", False, certificate), Peer("192.0.2.1")
        for authorization in (b"Bearer x.y.z", None):
            self.assertTrue(may_beat(gate, Credentials(shown, authorization), NODE))
            self.assertFalse(may_beat(gate, Credentials(nothing, authorization), NODE))
        token = Credentials(nothing, b"Bearer x.y.z")
        self.assertRaises(KeysUnavailable, gate.node, token)
        self.assertRaises(Unauthenticated, gate.node, Credentials(nothing))
        self.assertRaises(KeysUnavailable, gate.node_or_operator, token)


class PeersTests(SynchronousTestCase):
    """Identifying the other end of a connection."""

    def test_once(self) -> None:
        """The certificate of a connection is read once."""
        read: list[object] = []
        shown = crypto.X509.from_cryptography(make_identity(NODE).chain[0])

        class Transport(StringTransport):
            def getPeerCertificate(self) -> object:
                read.append(self)
                return shown

        peers = Peers()
        transport = Transport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
        peer = peers.of(transport)
        self.assertIs(peers.of(transport), peer)
        self.assertEqual((peer.host, peer.local), ("127.0.0.1", True))
        assert peer.certificate is not None
        self.assertEqual(peer.certificate.components, {NODE})
        self.assertEqual(len(read), 1)
        self.assertIsNot(peers.of(Transport()), peer)

    def test_hosts(self) -> None:
        """Mapped addresses are shown as IPv4, and Unix sockets in words."""
        for host, known in (
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("fe80::1", "fe80::1"),
        ):
            transport = StringTransport(peerAddress=IPv6Address("TCP", host, 1))
            self.assertEqual(Peers().of(transport), Peer(known))
        transport = StringTransport(peerAddress=UNIXAddress(None))
        self.assertEqual(Peers().of(transport), Peer("a Unix socket", True, unix=True))


class TokenTests(SynchronousTestCase):
    """Operators' token files."""

    def setUp(self):
        self.path = Path(self.mktemp()).resolve()

    def write(self, content: str | bytes, mode: int = 0o600) -> TokenFile:
        """Write a token file, and read it."""
        self.path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.path.chmod(mode)
        return TokenFile(str(self.path))

    def test_format(self) -> None:
        """There is a token on each line; blanks around it, empty lines and comments are skipped."""
        tokens = self.write(f"# {TOKEN}-x\r\n\n  {TOKEN}\t\r\n#\nanother-of-them-00\n")
        for token, held in (
            (TOKEN, True),
            ("another-of-them-00", True),
            (f"{TOKEN}-x", False),
            (f"# {TOKEN}-x", False),
            (TOKEN[:-1], False),
            ("", False),
            ("#", False),
        ):
            self.assertIs(tokens.find(token.encode()) is not None, held, token)
        self.assertIsNone(tokens.find(TOKEN.encode() + b"\xff"))

    def test_unusable(self) -> None:
        """A file that is missing, empty or malformed is refused, in a message without tokens."""
        for content in (
            "",
            "# nothing\n",
            "short\n",
            f"{TOKEN} {TOKEN}\n",
            b"\xff" * 20,
            "x" * 70_000,
        ):
            error = self.assertRaises(TokensUnusable, self.write, content)
            self.assertIn(str(self.path), str(error))
            self.assertNotIn(TOKEN, str(error))
        self.path.unlink()
        with self.assertRaisesRegex(TokensUnusable, "can't be read: No such file"):
            TokenFile(str(self.path))

    def test_readable(self) -> None:
        """A warning is logged about a file that every user can read."""
        for mode, count in ((0o600, 0), (0o640, 0), (0o644, 1)):
            with capturedLogs() as events:
                self.write(TOKEN, mode)
            said = [event for event in events if event["log_level"] is LogLevel.warn]
            self.assertEqual(len(said), count)

    def test_spoilt(self) -> None:
        """While a changed file can't be used no token is accepted, and that is logged once."""
        tokens, clock = self.write(TOKEN), Clock()
        watch = FileWatcher(clock, [tokens.watched])
        watch.startService()
        self.addCleanup(watch.stopService)
        self.path.write_text("short\n")
        self.assertIsNone(tokens.find(TOKEN.encode()))
        with capturedLogs() as events:
            clock.pump([PERIOD] * 5)
        (line,) = [eventAsText(e) for e in events if e["log_level"] is LogLevel.error]
        self.assertIn("none are in force", line)
        self.assertNotIn("short", line)
        self.path.write_text(TOKEN)
        self.assertIsNotNone(tokens.find(TOKEN.encode()))


class RefusalsTests(SynchronousTestCase):
    """Counting and logging refusals."""

    def setUp(self):
        self.clock = Clock()
        self.refusals = Refusals(self.clock, ("forbidden", "full"))
        self.refusals.startService()
        self.addCleanup(self.refusals.stopService)

    def lines(self, seconds: int, note: Any = None) -> list[tuple[float, str]]:
        """Let time pass, calling `note` every second; return the log lines with their times."""
        found = []
        for _ in range(seconds):
            with capturedLogs() as events:
                if note is not None:
                    note()
                self.clock.advance(1)
            found += [
                (
                    self.clock.seconds(),
                    eventAsText(event, includeTimestamp=False, includeSystem=False),
                )
                for event in events
                if event["log_level"] is LogLevel.warn
            ]
        return found

    def test_a_line_a_minute(self) -> None:
        """The first refusal is logged at once, the others in one line a minute; all are counted."""
        lines = self.lines(600, lambda: self.refusals.note("10.0.0.1", "forbidden", "No."))
        self.assertEqual(lines[0], (1.0, "Refused a request or connection from 10.0.0.1: No."))
        self.assertIn(
            "Refused 59 more requests or connections from 10.0.0.1: 59 forbidden", lines[1][1]
        )
        times = [time for time, _ in lines]
        self.assertGreaterEqual(min(b - a for a, b in pairwise(times)), 59)
        self.assertEqual(len(lines), 11)
        self.assertEqual(self.refusals.counts, {"forbidden": 600, "full": 0})

    def test_quiet_again(self) -> None:
        """After a minute without refusals the next one is logged at once again."""
        self.refusals.note("10.0.0.1", "full", "No room.")
        self.assertEqual(self.lines(120), [])
        (line,) = self.lines(1, lambda: self.refusals.note("10.0.0.1", "full", "No room."))
        self.assertIn("No room", line[1])

    def test_many_peers(self) -> None:
        """However many peers there are, the lines a minute are bounded."""

        def storm() -> None:
            for number in range(1000):
                address = f"10.0.{number // 256}.{number % 256}"
                self.refusals.note(address, "forbidden", "No.")

        lines = self.lines(59, storm)
        self.assertEqual(len(lines), 200)
        lines = self.lines(6, storm)
        self.assertEqual(len(lines), 201)
        self.assertRegex(
            lines[-1][1],
            r"Refused \d+ more requests or connections from other addresses: \d+ forbidden",
        )
        self.assertEqual(self.refusals.counts["forbidden"], 65_000)
