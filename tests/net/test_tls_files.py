"""Certificates and keys that can't be used."""

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
    server_context,
)
from tests.support.certificates import issue, make_identity, rsa_key, write_identity


class UnusableTests(SynchronousTestCase):
    """Unusable files are rejected with an error that names the file."""

    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()
        cert, key = write_identity(make_identity("localhost"), self.folder)
        self.cert, self.key = str(cert), str(key)

    def file(self, content: bytes) -> str:
        """Write a file; return its path."""
        path = self.folder / "file.pem"
        path.write_bytes(content)
        return str(path)

    def unusable(self, cert: str, key: str, culprit: str) -> str:
        """Check that a certificate and key are rejected in one line with the culprit's path."""
        with self.assertRaises(TLSUnusable) as raised:
            server_context(load_identity(cert, key))
        said = str(raised.exception)
        self.assertIn(culprit, said)
        self.assertEqual(len(said.splitlines()), 1)
        return said

    def private(self, key: Any, encryption: Any = None) -> str:
        """Write a key to a file; return its path."""
        pem: bytes = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
        )
        return self.file(pem)

    def test_missing(self):
        """A missing file and a directory are unusable."""
        for path in (str(self.folder / "missing.pem"), str(self.folder)):
            self.unusable(path, self.key, path)
            self.unusable(self.cert, path, path)
            with self.assertRaisesRegex(TLSUnusable, path):
                load_authorities(path)
            with self.assertRaisesRegex(TLSUnusable, path):
                client_policy(path)

    def test_garbage(self):
        """A file without the expected content is unusable."""
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
        """A key on the obsolete curve secp112r1 is unusable."""
        body = (
            b"ME4CAQAwEAYHKoZIzj0CAQYFK4EEAAYENzA1AgEBBA5LmnEapOyIuXzgyUaYoKEg"
            b"Ax4ABBs11YPNvrlRRpnCRMbWOfzG1r05Ll3Yx/iqT6U="
        )
        kind = b"PRIVATE KEY"
        path = self.file(b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (kind, body, kind))
        self.unusable(self.cert, path, path)

    def test_mismatch(self):
        """A key of another certificate is unusable."""
        path = self.private(rsa_key())
        self.assertIn(self.cert, self.unusable(self.cert, path, path))

    def test_expired(self):
        """A certificate that has expired is unusable."""
        cert, key = write_identity(make_identity("localhost", days=-1), self.folder / "old")
        self.assertIn("expired", self.unusable(str(cert), str(key), str(cert)))

    def test_not_yet(self):
        """A certificate that is not valid yet is unusable."""
        cert, key = write_identity(make_identity("localhost", begins=0.5), self.folder / "new")
        self.assertIn("not valid before", self.unusable(str(cert), str(key), str(cert)))

    def test_chain(self):
        """A chain with an expired or an unrelated certificate is unusable."""
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

    def test_whose(self):
        """Which certificate of a chain is at fault is said by its place and its subject."""
        own, stranger = make_identity("localhost"), make_identity("stranger")
        chain = [own.chain[0], stranger.chain[0]]
        cert, key = write_identity(Identity(chain, own.key), self.folder / "chain")
        said = self.unusable(str(cert), str(key), str(cert))
        self.assertIn(f"certificate 2 (CN=stranger) in {cert} has issued none", said)

    def test_swapped(self):
        """Where the files of certificate and key are swapped, or one is given twice, it is said."""
        hint = "it has a private key: are the files of certificate and key swapped?"
        self.assertIn(hint, self.unusable(self.key, self.cert, self.key))
        self.assertIn(hint, self.unusable(self.key, self.key, self.key))
        hint = "it has a certificate: are the files of certificate and key swapped?"
        self.assertIn(hint, self.unusable(self.cert, self.cert, self.cert))
        for other in (b"", b"nonsense"):
            path = self.file(other)
            self.assertNotIn("swapped?", self.unusable(path, self.key, path))
            self.assertNotIn("swapped?", self.unusable(self.cert, path, path))

    def test_encrypted(self):
        """A key with a passphrase is unusable; no passphrase is prompted for."""
        path = self.private(make_identity("x").key, BestAvailableEncryption(b"secret"))
        self.assertIn("unencrypted", self.unusable(self.cert, path, path))

    def test_other_keys(self):
        """A key of a type that TLS servers don't use is unusable."""
        for key in (x25519.X25519PrivateKey.generate(), dsa.generate_private_key(2048)):
            path = self.private(key)
            self.unusable(self.cert, path, path)

    def test_weak(self):
        """A key that OpenSSL considers too weak is unusable."""
        cert, key = write_identity(
            issue(rsa.generate_private_key(65537, 1024)), self.folder / "weak"
        )
        self.unusable(str(cert), str(key), str(self.folder / "weak"))
