"""A real etcd with TLS, whose clients' certificates expire or are revoked, and tokens that end."""

import time
from pathlib import Path

from twisted.internet.threads import deferToThread

from hbtd.net.own_secrets import SecretFile, read_login
from hbtd.net.tls import Identity, client_policy
from tests.support.certificates import (
    make_identity,
    revocation_list,
    write_identity,
    write_lists,
)
from tests.support.etcd_running import HandyClient, OwnEtcdTestCase
from tests.support.etcd_server import EtcdServer, ServerTLS
from tests.support.running import until

ROOT = "--user=root:root"
TTL = 1
"""Seconds for which etcd takes a token after its last use."""


class CertificateTests(OwnEtcdTestCase):
    """Certificates that were good when hbtd connected first."""

    async def setUp(self):  # type: ignore[override]  # trial waits for it
        """Start etcd, with an empty revocation list."""
        self.folder = Path(self.mktemp()).resolve()
        self.issuer = make_identity("authority")
        ca, _ = write_identity(self.issuer, self.folder / "ca")
        server = write_identity(make_identity("localhost", self.issuer), self.folder / "etcd")
        # etcd reads it at each handshake.
        self.lists = self.folder / "revoked"
        self.revoke()
        self.etcd = await self.start(
            tls=ServerTLS(*server, ca), options=[f"--client-crl-file={self.lists}"]
        )

    def revoke(self, *revoked: Identity) -> None:
        """Have etcd refuse these certificates at each new connection."""
        write_lists(self.lists, revocation_list(self.issuer, *revoked))

    def present(self, identity: Identity) -> HandyClient:
        """Return a client that presents a certificate."""
        return self.connect(
            self.etcd.address, policy=client_policy(str(self.folder / "ca" / "cert.pem"), identity)
        )

    async def refused(self, identity: Identity) -> str:
        """Return the reason why etcd is unavailable to a new client with a certificate."""
        return str(await self.unavailable(self.present(identity).put(b"key", b"other")))

    async def test_revoked(self) -> None:
        """A revoked certificate is unavailability; etcd does not say why, and takes others."""
        own, other = (make_identity("hbtd", self.issuer) for _ in range(2))
        await self.present(own).put(b"key", b"value")
        self.revoke(own)
        reason = await self.refused(own)
        # Closed or reset: that depends on what of it TCP delivers first.
        self.assertIn(f"{self.etcd.address} can't be reached: Connection ", reason)
        await self.present(other).put(b"key", b"other")
        self.assertIn("revoked", self.etcd.log)

    async def test_expired(self) -> None:
        """A certificate that has expired is unavailability that names the options."""
        own = make_identity("hbtd", self.issuer, days=3 / 86_400)
        await self.present(own).put(b"key", b"value")
        ends = own.chain[0].not_valid_after_utc.timestamp()
        await until(lambda: time.time() > ends + 1)
        reason = await self.refused(own)
        self.assertIn("TLS fails, see --kv_ca and --kv_cert: ", reason)
        await self.present(make_identity("hbtd", self.issuer)).put(b"key", b"other")


class TokenTests(OwnEtcdTestCase):
    """Tokens that end because they were not used."""

    async def test_ended(self) -> None:
        """Hbtd gets another token, and no call fails."""
        etcd = await self.start(options=["--bcrypt-cost=4", f"--auth-token-ttl={TTL}"])
        await deferToThread(make_user, etcd)
        path = Path(self.mktemp()).resolve()
        path.write_text("hbtd:password")
        path.chmod(0o600)
        client = self.connect(etcd.address, login=SecretFile("The login", str(path), read_login))
        await client.put(b"key", b"1")
        session = client._gateway._session
        assert session is not None
        before = session._token
        # etcd looks for ended tokens once a second.
        ends = time.monotonic() + TTL + 3
        await until(lambda: time.monotonic() > ends)
        await client.put(b"key", b"2")
        self.assertTrue(before)
        self.assertNotEqual(session._token, before)


def make_user(etcd: EtcdServer) -> None:
    """Make the user, who may do anything, and have users authenticated."""
    for words in (
        *("user add root:root", "role add root", "user grant-role root root"),
        *("user add hbtd:password", "user grant-role hbtd root", "auth enable"),
    ):
        etcd.etcdctl(*words.split())
