"""Replicas whose certificates, and those of etcd, are renewed by another authority."""

from pathlib import Path

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.support.certificates import make_identity, write_identity
from tests.support.etcd_server import ServerTLS
from tests.support.hsm_memory import DIED, STARTED
from tests.support.replicas_running import ERRTIME, A, B, OwnReplicasTestCase
from tests.support.running import reactor


class CertificateTests(OwnReplicasTestCase):
    """All certificates are written anew in place, etcd is restarted, and hbtd is told to reload."""

    async def test_renewed(self) -> None:
        """Whoever beats goes on living, and the death of whoever doesn't is told."""
        folder = Path(self.mktemp()).resolve()
        ca, _ = write_identity(make_identity("old"), folder / "ca")

        def certify(authority: str) -> list[Path]:
            issuer = make_identity(authority)
            write_identity(issuer, folder / "ca")
            return [
                path
                for name in ("localhost", "hbtd")
                for path in write_identity(make_identity(name, issuer), folder / name)
            ]

        etcd_cert, etcd_key, own_cert, own_key = certify("old")
        etcd = await self.start(tls=ServerTLS(etcd_cert, etcd_key, ca))
        self.begin(etcd.address)
        hbtd = await self.replica(kv_ca=str(ca), kv_cert=str(own_cert), kv_key=str(own_key))
        for name in (A, B):
            self.assertEqual(await hbtd.beat(name), 200)
            await self.is_told(name, STARTED)

        await deferToThread(etcd.stop)
        certify("new")
        await deferToThread(etcd.start)
        hbtd.service.reload()
        deadline = reactor.seconds() + 6 * ERRTIME
        while DIED not in self.told(B):
            self.assertLess(reactor.seconds(), deadline)
            self.assertEqual(await hbtd.beat(A), 200)
            await deferLater(reactor, 0.3)
        self.assertEqual(self.told(A), [STARTED])
