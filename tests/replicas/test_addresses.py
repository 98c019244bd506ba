"""How replicas reach etcd: by the environment, and over https."""

import signal
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from tests.support.certificates import make_identity, write_identity
from tests.support.etcd_server import ServerTLS
from tests.support.hsm_memory import STARTED
from tests.support.replicas_running import (
    A,
    OwnReplicasTestCase,
    ReplicasTestCase,
    until_true,
)
from tests.support.running import until


class EnvironmentTests(ReplicasTestCase):
    """`ETCD_HOST` and `ETCD_PORT`."""

    async def test_etcd_host(self):
        """With an empty `--kv_url`, a process finds etcd by these variables."""
        host, _, port = self.etcd.address.removeprefix("http://").partition(":")
        replica = await self.spawned(
            "--kv_url=", environ={"ETCD_HOST": host, "ETCD_PORT": port, "HBTD_CLEAR_ON_GAP": "1"}
        )
        await until_true(replica.leads)
        await replica.beat(A)
        await self.is_told(A, STARTED)
        self.assertIn(A, await self.ctl("get", A))
        replica.process.signal(signal.SIGTERM)
        self.assertEqual(await replica.process.ended, 0)
        self.assertEqual(await self.ctl("get", "hbtd/replica/", "--prefix"), "")
        self.assertEqual(await self.ctl("get", "hbtd_", "--prefix"), "")


class CertificateTests(OwnReplicasTestCase):
    """An etcd that demands a client certificate."""

    async def test_certificates(self):
        """With the right files it works; with none or wrong ones a single line says so."""
        folder = Path(self.mktemp()).absolute()
        authority = make_identity("authority")
        ca, _ = write_identity(authority, folder / "ca")
        cert, key = write_identity(make_identity("localhost", authority), folder / "server")
        ours, our_key = write_identity(make_identity("hbtd", authority), folder / "ours")
        other = make_identity("stranger")
        other_ca, _ = write_identity(other, folder / "other")
        wrong, wrong_key = write_identity(make_identity("hbtd", other), folder / "wrong")
        etcd = await self.start(tls=ServerTLS(cert, key, ca))
        self.begin(etcd.address)

        right = await self.spawned(f"--kv_ca={ca}", f"--kv_cert={ours}", f"--kv_key={our_key}")
        await until_true(right.leads)
        await right.beat(A)
        await self.is_told(A, STARTED)
        self.assertIn(A, await deferToThread(etcd.etcdctl, "get", A))
        right.process.signal(signal.SIGTERM)
        await right.process.ended
        await gatherResults(
            Deferred.fromCoroutine(self.complain(*options))
            for options in (
                (f"--kv_ca={ca}",),
                (f"--kv_ca={ca}", f"--kv_cert={wrong}", f"--kv_key={wrong_key}"),
                (f"--kv_ca={other_ca}", f"--kv_cert={ours}", f"--kv_key={our_key}"),
            )
        )

    async def complain(self, *options: str) -> None:
        """Assert that a replica with these options is not ready, and says why in one line."""
        replica = await self.spawned("--sm_timeout=1", *options)
        self.assertEqual(await replica.beat(A), 200)
        self.assertEqual((await replica.get("readiness"))[0], 503)
        await until(lambda: "store can't be used" in replica.process.said)
        replica.process.signal(signal.SIGTERM)
        await replica.process.ended
        said = replica.process.said
        self.assertNotIn("Traceback", said)
        warnings = [line for line in said.splitlines() if " warn " in line and "etcd" in line]
        self.assertEqual(len(warnings), 1, said)
        self.assertRegex(warnings[0].lower(), "certificate|tls|ssl|unknown")
