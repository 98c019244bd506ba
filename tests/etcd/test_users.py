"""The client of a real etcd with users, and of the one in memory."""

import functools

from twisted.internet.threads import deferToThread

from tests.support.etcd_running import ClientTestCase, MemoryEtcdTestCase, WatchTestCase, needs_etcd
from tests.support.etcd_server import EtcdServer
from tests.support.etcd_users_contract import UserContract

ROOT = "--user=root:root"


@functools.cache
def etcd_with_users() -> EtcdServer:
    """Return the etcd of all tests here, which ends with this process."""
    return EtcdServer(options=["--bcrypt-cost=4"])


def prepare(etcd: EtcdServer) -> None:
    """Start it, and make its users."""
    etcd.start()
    for words in (
        *("user add root:root", "role add root", "user grant-role root root"),
        *("user add hbtd:none", "role add hbtd", "user grant-role hbtd hbtd"),
    ):
        etcd.etcdctl(*words.split())


@needs_etcd
class RealEtcdTestCase(ClientTestCase):
    """A test case with a real etcd that has users."""

    enabled = False
    """Whether it authenticates them."""

    async def setUp(self):  # type: ignore[override]  # trial waits for it
        """Start etcd unless it runs."""
        self.etcd = etcd_with_users()
        if not self.etcd.running:
            await deferToThread(prepare, self.etcd)
        self.address = self.etcd.address
        self.addCleanup(self.disable)

    async def ctl(self, *arguments: str, said: str = "") -> None:
        """Run etcdctl as root."""
        who = [ROOT] if self.enabled else []
        await deferToThread(self.etcd.etcdctl, *who, *arguments, said=said)

    async def disable(self) -> None:
        """Have it authenticate nobody."""
        if self.enabled:
            await self.ctl("auth", "disable")
        self.enabled = False


class RealUserTests(UserContract, WatchTestCase, RealEtcdTestCase):
    """A real etcd."""

    async def enable(self) -> None:
        await self.ctl("auth", "enable")
        self.enabled = True

    async def set_password(self, password: str) -> None:
        await self.ctl("user", "passwd", "hbtd", "--interactive=false", said=f"{password}\n")

    async def permit(self, allowed: bool) -> None:
        verb = ["grant-permission", "hbtd", "readwrite"]
        if not allowed:
            verb = ["revoke-permission", "hbtd"]
        await self.ctl("role", *verb, "a", "z")

    async def test_token_of_another(self) -> None:
        """A token for which etcd makes a call wait, in vain, is not sent a second time.

        So does an etcd that has lost its data: it expects to give that token away in the future.
        """
        client = self.connect(self.address, timeout=0.5, login=self.login)
        await client.put(b"key", b"1")
        session = client._gateway._session
        assert session is not None
        session._token = "abcdefghijklmnop.999999999"
        self.assertTrue((await self.unavailable(client.put(b"key", b"2"))).timed_out)
        await client.put(b"key", b"3")


class MemoryUserTests(UserContract, WatchTestCase, MemoryEtcdTestCase):
    """The etcd in memory."""

    async def enable(self) -> None:
        self.users.enabled = True

    async def disable(self) -> None:
        self.users.enabled = False
        self.users.end_tokens()

    async def set_password(self, password: str) -> None:
        self.users.passwords["hbtd"] = password
        self.users.end_tokens()

    async def permit(self, allowed: bool) -> None:
        (self.users.barred.discard if allowed else self.users.barred.add)("hbtd")
