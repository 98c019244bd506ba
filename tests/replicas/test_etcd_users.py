"""A replica, and an etcd with TLS and users, whose password is changed."""

import re
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs

from tests.support.certificates import make_identity, write_identity
from tests.support.etcd_server import EtcdServer, ServerTLS
from tests.support.hsm_memory import DIED, STARTED
from tests.support.logged import said
from tests.support.processes import CHECKOUT
from tests.support.replicas_running import ERRTIME, A, B, OwnReplicasTestCase
from tests.support.running import reactor

ROOT = "--user=root:root"


def make_users(etcd: EtcdServer) -> None:
    """Make the users, with the permissions that the documents name, and have them authenticated."""
    page = (CHECKOUT / "docs" / "security.md").read_text("utf-8")
    granted = re.findall(r"^etcdctl (role grant-permission hbtd .*)$", page, re.MULTILINE)
    assert granted
    for words in (
        *("user add root:root", "role add root", "user grant-role root root"),
        *("user add hbtd:the-first-password", "role add hbtd", "user grant-role hbtd hbtd"),
        *granted,
        "auth enable",
    ):
        etcd.etcdctl(*words.split())


class PasswordTests(OwnReplicasTestCase):
    """The password is changed at etcd, and only later in the file."""

    async def test_rotated(self) -> None:
        """Who dies meanwhile is told once the file has the password; who beats lives on.

        The log says in one line that etcd refuses the user, and has no password.
        """
        folder = Path(self.mktemp()).resolve()
        issuer = make_identity("authority")
        ca, _ = write_identity(issuer, folder / "ca")
        etcd_files = write_identity(make_identity("localhost", issuer), folder / "etcd")
        # An etcd with users refuses clients of its gateway whose certificate has a common name.
        nameless = make_identity("hbtd", issuer, common_name=False)
        own = write_identity(nameless, folder / "own")
        etcd = await self.start(tls=ServerTLS(*etcd_files, ca), options=["--bcrypt-cost=4"])
        await deferToThread(make_users, etcd)
        login = folder / "login"
        login.write_text("hbtd:the-first-password\n")
        login.chmod(0o600)
        self.begin(etcd.address)
        with capturedLogs() as events:
            hbtd = await self.replica(
                kv_ca=str(ca), kv_cert=str(own[0]), kv_key=str(own[1]), kv_login=str(login)
            )
            for name in (A, B):
                self.assertEqual(await hbtd.beat(name), 200)
                await self.is_told(name, STARTED)
            await deferToThread(
                etcd.etcdctl,
                *(ROOT, "user", "passwd", "hbtd", "--interactive=false"),
                said="the-second-password\n",
            )
            await self.beat_for(hbtd, 2 * ERRTIME)
            self.assertEqual((self.told(A), self.told(B)), ([STARTED], [STARTED]))
            self.assertIn("refuses the user 'hbtd'", str(hbtd.service.store.health()))
            login.write_text("hbtd:the-second-password\n")
            deadline = reactor.seconds() + 6 * ERRTIME
            while DIED not in self.told(B):
                self.assertLess(reactor.seconds(), deadline)
                await self.beat_for(hbtd, 0.3)
            hbtd.service.reload()
        self.assertEqual(self.told(A), [STARTED])
        lines = said(events, *LogLevel.iterconstants())
        refused = [line for line in lines if "refuses the user 'hbtd' of --kv_login" in line]
        self.assertEqual(len(refused), 1, refused)
        self.assertTrue(any(f"--kv_login={login} accepted, unchanged" in line for line in lines))
        self.assertNotIn("the-first-password", str(events))
        self.assertNotIn("the-second-password", str(events))

    async def beat_for(self, hbtd: Any, seconds: float) -> None:
        """Let one of the nodes beat for some seconds."""
        end = reactor.seconds() + seconds
        while reactor.seconds() < end:
            self.assertEqual(await hbtd.beat(A), 200)
            await deferLater(reactor, 0.3)
