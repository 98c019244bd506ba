"""What is said of certificates and keys that can't be used."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import dsa, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.trial.unittest import SynchronousTestCase

from hbtd.net.tls import (
    Identity,
    TLSUnusable,
    client_policy,
    load_authorities,
    load_identity,
    server_options,
)
from tests.net.test_tls import RSA_KEY, issue
from tests.support.certificates import make_identity, write_identity


class UnusableTests(SynchronousTestCase):
    """What can't be used is refused at start, and the file is named."""

    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()
        cert, key = write_identity(make_identity("localhost"), self.folder)
        self.cert, self.key = str(cert), str(key)

    def file(self, content: bytes) -> str:
        """Write a file; gives its path."""
        path = self.folder / "file.pem"
        path.write_bytes(content)
        return str(path)

    def unusable(self, cert: str, key: str, culprit: str) -> str:
        """See that a certificate and key are refused, in one line with the culprit's path."""
        with self.assertRaises(TLSUnusable) as raised:
            server_options(load_identity(cert, key)).getContext()
        said = str(raised.exception)
        self.assertIn(culprit, said)
        self.assertEqual(len(said.splitlines()), 1)
        return said

    def private(self, key: Any, encryption: Any = None) -> str:
        """Write a key to a file; gives its path."""
        pem: bytes = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
        )
        return self.file(pem)

    def test_missing(self):
        """A file that is not there, or is none."""
        for path in (str(self.folder / "missing.pem"), str(self.folder)):
            self.unusable(path, self.key, path)
            self.unusable(self.cert, path, path)
            with self.assertRaisesRegex(TLSUnusable, path):
                load_authorities(path)
            with self.assertRaisesRegex(TLSUnusable, path):
                client_policy(path)

    def test_garbage(self):
        """A file that does not hold what it should."""
        pem = Path(self.cert).read_bytes()
        key = Path(self.key).read_bytes()
        for content in (b"", b"hello", b"\x00\xff" * 100, pem[:200], pem.replace(b"M", b"N"), key):
            path = self.file(content)
            self.unusable(path, self.key, path)
            with self.assertRaisesRegex(TLSUnusable, path):
                load_authorities(path)
            with self.assertRaisesRegex(TLSUnusable, path):
                client_policy(path)
        for content in (b"", b"hello", b"\x00\xff" * 100, key[:100], pem):
            path = self.file(content)
            self.unusable(self.cert, path, path)

    def test_curve(self):
        """A key on a curve that nobody uses any more, secp112r1."""
        body = (
            b"ME4CAQAwEAYHKoZIzj0CAQYFK4EEAAYENzA1AgEBBA5LmnEapOyIuXzgyUaYoKEg"
            b"Ax4ABBs11YPNvrlRRpnCRMbWOfzG1r05Ll3Yx/iqT6U="
        )
        kind = b"PRIVATE KEY"
        path = self.file(b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (kind, body, kind))
        self.unusable(self.cert, path, path)

    def test_mismatch(self):
        """A key that belongs to another certificate."""
        path = self.private(RSA_KEY)
        self.assertIn(self.cert, self.unusable(self.cert, path, path))

    def test_expired(self):
        """A certificate that has expired."""
        cert, key = write_identity(make_identity("localhost", days=-1), self.folder / "old")
        self.assertIn("expired", self.unusable(str(cert), str(key), str(cert)))

    def test_not_yet(self):
        """A certificate that is not good yet."""
        cert, key = write_identity(make_identity("localhost", begins=0.5), self.folder / "new")
        self.assertIn("not good before", self.unusable(str(cert), str(key), str(cert)))

    def test_chain(self):
        """A chain of which one has expired, or has nothing to do with the others."""
        root = make_identity("root")
        for others, why in (
            ([make_identity("old", days=-1)], "expired"),
            ([make_identity("stranger")], "certificate 2 .* has issued none"),
            ([root, make_identity("stranger")], "certificate 3 .* has issued none"),
        ):
            own = make_identity("localhost", root)
            chain = [own.chain[0], *(each.chain[0] for each in others)]
            cert, key = write_identity(Identity(chain, own.key), self.folder / "chain")
            self.assertRegex(self.unusable(str(cert), str(key), str(cert)), why)

    def test_encrypted(self):
        """A key that needs a passphrase; nobody is asked for it."""
        path = self.private(make_identity("x").key, BestAvailableEncryption(b"secret"))
        self.assertIn("unencrypted", self.unusable(self.cert, path, path))

    def test_other_keys(self):
        """A key of a kind that TLS has no use for."""
        for key in (x25519.X25519PrivateKey.generate(), dsa.generate_private_key(2048)):
            path = self.private(key)
            self.unusable(self.cert, path, path)

    def test_weak(self):
        """A key that OpenSSL finds too weak to serve."""
        cert, key = write_identity(
            issue(rsa.generate_private_key(65537, 1024)), self.folder / "weak"
        )
        self.unusable(str(cert), str(key), str(self.folder / "weak"))
