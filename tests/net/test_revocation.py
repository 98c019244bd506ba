"""Revocation lists: which files are used, whom they keep out, and what is said about them."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.net.expiry import ExpiryNotices
from hbtd.net.revocation import ClientTrust, finder, load_client_trust, load_revocation_lists
from hbtd.net.served_certificate import ClientFiles, serve_identity
from hbtd.net.tls import Identity, TLSUnusable
from hbtd.runtime.watched_files import PERIOD, FileWatcher
from tests.support.certificates import (
    issue,
    make_identity,
    revocation_list,
    write_identity,
    write_lists,
)
from tests.support.logged import said
from tests.support.socket_pairs import TLSClient
from tests.support.transports import IDENTITY, NotedTestCase, client_context

REVOKED = "the client's certificate, or an authority of it, is revoked"
NO_LIST = "there is no revocation list of the authority of the client's certificate"

TLS12 = (SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION)


class FileTests(SynchronousTestCase):
    """The files of authorities and lists."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.authority = make_identity("authority")
        self.ca, _ = write_identity(self.authority, self.folder / "ca")
        self.crl = self.folder / "crl.pem"

    def refusal(self, content: bytes) -> str:
        """Write a file of lists, and check that it can't be used; return the reason."""
        self.crl.write_bytes(content)
        return str(self.assertRaises(TLSUnusable, load_client_trust, str(self.ca), str(self.crl)))

    def test_several(self) -> None:
        """A file has one list or more, and may have text between them."""
        other = make_identity("other")
        own = revocation_list(self.authority, make_identity("n", self.authority))
        write_lists(self.crl, revocation_list(other), own)
        self.crl.write_bytes(b"Of today:\n" + self.crl.read_bytes())
        self.assertEqual(len(load_revocation_lists(str(self.crl))), 2)
        trust = load_client_trust(str(self.ca), str(self.crl))
        self.assertIn("2 revocation lists, 1 certificate revoked", trust.describe())

    def test_unusable(self) -> None:
        """A file that is empty, cut off, or has anything else but lists is refused."""
        good = revocation_list(self.authority).public_bytes(Encoding.PEM)
        for content in (b"", b"none", good[:-30], good + good[:-30], good + self.ca.read_bytes()):
            self.assertIn("holds no PEM revocation lists, or not only such", self.refusal(content))
        binary = revocation_list(self.authority).public_bytes(Encoding.DER)
        self.assertIn("openssl crl -inform DER", self.refusal(binary))
        broken = good.replace(b"\n", b"\nAAAA", 2)
        self.assertIn("holds a revocation list that can't be used", self.refusal(broken))

    def test_too_large(self) -> None:
        """A file of more than 1 MiB is refused: hbtd would do nothing else while it reads it."""
        good = revocation_list(self.authority).public_bytes(Encoding.PEM)
        self.assertIn("is larger than 1048576 bytes", self.refusal(good + b" " * 1048576))

    def test_without_list(self) -> None:
        """Each authority that has not expired needs a list that it has signed itself."""
        same_name = make_identity("authority")
        for wrong in (make_identity("other"), same_name):
            content = revocation_list(wrong).public_bytes(Encoding.PEM)
            why = self.refusal(content)
            self.assertIn("no revocation list that CN=authority has issued", why)
            self.assertIn(str(self.ca), why)
        old = make_identity("old", days=-1)
        both = self.ca.read_bytes() + old.chain[0].public_bytes(Encoding.PEM)
        self.ca.write_bytes(both)
        write_lists(self.crl, revocation_list(self.authority))
        self.assertEqual(len(load_client_trust(str(self.ca), str(self.crl)).authorities), 2)

    def test_times(self) -> None:
        """A list from the future is refused until it is valid; one that has expired is used."""
        early = revocation_list(self.authority, begins=0.5).public_bytes(Encoding.PEM)
        self.assertIn("is not valid before", self.refusal(early))
        late = make_identity("n", self.authority)
        write_lists(self.crl, revocation_list(self.authority, late, days=-1))
        trust = load_client_trust(str(self.ca), str(self.crl))
        self.assertEqual(len(trust.revoked), 1)

    def test_delta(self) -> None:
        """A list of changes alone is refused: OpenSSL would not look into it."""
        why = self.refusal(revocation_list(self.authority, delta=True).public_bytes(Encoding.PEM))
        self.assertIn("has only changes", why)

    def test_together(self) -> None:
        """A new authority counts once its list is there; until then the old files stay in use."""
        write_lists(self.crl, revocation_list(self.authority))
        served = serve_identity(IDENTITY, ClientFiles(str(self.ca), str(self.crl)))
        clock = Clock()
        watcher = FileWatcher(clock, served.watched)
        watcher.startService()
        self.addCleanup(watcher.stopService)
        changes: list[str] = []
        served.on_new_authorities(lambda: changes.append("authorities"))
        served.on_revoked(lambda revoked: changes.append(f"{len(revoked)} revoked"))
        other = make_identity("other")
        write_identity(other, self.folder / "ca")
        with capturedLogs() as events:
            clock.pump([PERIOD] * 5)
        (line,) = said(events, LogLevel.error)
        self.assertIn("no revocation list that CN=other has issued", line)
        self.assertIn("the old ones stay in force", line)
        self.assertEqual(changes, [])
        write_lists(self.crl, revocation_list(other, make_identity("n", other)))
        with capturedLogs() as events:
            clock.pump([PERIOD] * 2)
        self.assertEqual(changes, ["authorities", "1 revoked"])
        (line,) = said(events, LogLevel.info)
        self.assertIn(f"--tls_client_crl={self.crl} were read again (valid until", line)
        self.assertIn("1 revocation list, 1 certificate revoked", line)
        write_lists(self.crl, revocation_list(other, make_identity("m", other)))
        clock.pump([PERIOD] * 2)
        self.assertEqual(changes[2:], ["1 revoked"])

    def test_find(self) -> None:
        """A certificate is known by its number and its issuer: others may have that number."""
        node = make_identity("n", self.authority)
        chain = [crypto.X509.from_cryptography(each) for each in node.chain]
        own = ClientTrust((), [revocation_list(self.authority, node)])
        other = ClientTrust((), [revocation_list(make_identity("other"), node)])
        self.assertTrue(finder(own.revoked)(chain))
        self.assertFalse(finder(other.revoked)(chain))
        root = ClientTrust((), [revocation_list(self.authority, self.authority)])
        self.assertTrue(finder(root.revoked)(chain))

    def test_announced(self) -> None:
        """A list is announced once, and only when it has expired: some are renewed every hour."""
        trust = ClientTrust((), [revocation_list(self.authority, days=0.5)])
        times = [datetime.now(timezone.utc)]
        notices = ExpiryNotices(Clock(), trust.expiring, lambda: times[-1])
        for days, expected in ((0.0, 0), (0.4, 0), (0.6, 1), (2.0, 0)):
            times.append(times[0] + timedelta(days=days))
            with capturedLogs() as events:
                notices.check()
            lines = said(events, LogLevel.warn, LogLevel.error)
            self.assertEqual(len(lines), expected, lines)
            for line in lines:
                self.assertIn("list of CN=authority in --tls_client_crl expired on", line)
                self.assertIn("it stays in force", line)


class HandshakeTests(NotedTestCase):
    """Clients over TLS, with hbtd's own context and transports."""

    def serve(self, *lists: Any, authority: Identity | None = None, required: bool = False) -> None:
        """Serve with an authority of clients and with revocation lists, if any."""
        folder = Path(self.mktemp()).resolve()
        ca, _ = write_identity(authority or self.authority, folder)
        crl = str(write_lists(folder / "crl.pem", *lists)) if lists else ""
        self.served = serve_identity(IDENTITY, ClientFiles(str(ca), crl, required))

    def outcome(self, context: Any) -> str:
        """Shake hands; return why that failed, or an empty text."""
        pair = self.pair(lambda sock: TLSClient(sock, context))
        pair.settle()
        pair.close()
        notes = [detail.removeprefix("The TLS handshake failed: ") for _, _, detail in self.notes]
        self.notes.clear()
        return "; ".join(notes)

    def test_revoked(self) -> None:
        """A revoked certificate ends the handshake; others of its authority do not."""
        revoked, other = (make_identity("n", self.authority) for _ in range(2))
        self.serve(revocation_list(self.authority, revoked))
        for versions in (None, TLS12):
            self.assertEqual(self.outcome(client_context(revoked, versions)), REVOKED)
            self.assertEqual(self.outcome(client_context(other, versions)), "")
            self.assertEqual(self.outcome(client_context(None, versions)), "")

    def test_expired_list(self) -> None:
        """A list that has expired still keeps out whom it names, and nobody else."""
        revoked, other = (make_identity("n", self.authority) for _ in range(2))
        self.serve(revocation_list(self.authority, revoked, days=-1.0))
        self.assertEqual(self.outcome(client_context(revoked)), REVOKED)
        self.assertEqual(self.outcome(client_context(other)), "")
        expired = make_identity("n", self.authority, days=-1.0)
        self.assertEqual(
            self.outcome(client_context(expired)), "the client's certificate has expired"
        )

    def test_levels(self) -> None:
        """Each authority in the chain needs a list, and may itself be revoked."""
        middle = issue(ec.generate_private_key(ec.SECP256R1()), "middle", self.authority, ca=True)
        context = client_context(make_identity("n", middle))
        context.add_extra_chain_cert(crypto.X509.from_cryptography(middle.chain[0]))
        root_list, middle_list = revocation_list(self.authority), revocation_list(middle)
        self.serve()
        self.assertEqual(self.outcome(context), "")
        self.serve(root_list)
        self.assertEqual(self.outcome(context), NO_LIST)
        self.serve(root_list, middle_list)
        self.assertEqual(self.outcome(context), "")
        self.serve(revocation_list(self.authority, middle), middle_list)
        self.assertEqual(self.outcome(context), REVOKED)

    def test_required(self) -> None:
        """With `required`, a client without a certificate gets an alert instead of a connection."""
        self.serve(required=True)
        own = make_identity("n", self.authority)
        for versions in (None, TLS12):
            why = self.outcome(client_context(None, versions))
            self.assertEqual(why, "the client presents no certificate")
            self.assertEqual(self.outcome(client_context(own, versions)), "")
