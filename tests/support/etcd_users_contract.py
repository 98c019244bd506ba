"""An etcd with users: the tests that a real etcd and the one in memory pass."""

from pathlib import Path
from typing import TYPE_CHECKING

from twisted.logger import capturedLogs

from hbtd.etcd.errors import EtcdRefused
from hbtd.etcd.messages import Put
from hbtd.net.own_secrets import SecretFile, read_login
from tests.support.etcd_running import WatchTestCase
from tests.support.running import until

if TYPE_CHECKING:
    _Base = WatchTestCase
else:
    _Base = object

RANGE = (b"k", b"l")


class UserContract(_Base):
    """hbtd is the user `hbtd`, with a password in a file."""

    async def enable(self) -> None:
        """Have etcd authenticate its users."""
        raise NotImplementedError

    if TYPE_CHECKING:

        async def disable(self) -> None:
            """Have etcd authenticate nobody."""

    async def set_password(self, password: str) -> None:
        """Change the user's password, which ends the tokens of the user."""
        raise NotImplementedError

    async def permit(self, allowed: bool) -> None:
        """Give the user permission to everything, or take it back."""
        raise NotImplementedError

    async def setUp(self):  # type: ignore[override]  # trial waits for it
        """Begin with a good password."""
        await super().setUp()  # type: ignore[misc]  # trial waits for it
        self.path = Path(self.mktemp()).resolve()
        self.path.write_text("hbtd:first:password")
        self.path.chmod(0o600)
        await self.set_password("first:password")
        await self.permit(True)
        await self.enable()
        self.login = SecretFile("The login", str(self.path), read_login)
        self.client = self.connect(self.address, login=self.login)

    async def uses_everything(self) -> None:
        """Make a call of each kind."""
        await self.client.put(b"key", b"value")
        self.assertIsNotNone(await self.client.get(b"key"))
        self.assertTrue((await self.client.txn((), [Put(b"key", b"other")])).succeeded)
        self.assertEqual(await self.client.count([(b"key", b"kez")]), 1)
        lease = await self.client.grant(60)
        self.assertEqual(await self.client.renew(lease), 60)
        await self.client.lock(b"klock", lease, 5.0)
        await self.client.revoke(lease)
        await self.client.compact((await self.client.status()).revision)

    async def test_right(self) -> None:
        """With the right password every call is answered, and a watch reports changes."""
        await self.uses_everything()
        start = (await self.client.status()).revision + 1
        watching = self.watch(self.client, start, RANGE)
        await self.client.put(b"key", b"again")
        await until(lambda: watching.keys == [b"key"])

    async def test_token_ends(self) -> None:
        """When a token has ended, each kind of call gets another one, and does not fail."""
        for call in (
            lambda: self.client.put(b"key", b"value"),
            lambda: self.client.get(b"key"),
            lambda: self.client.txn((), [Put(b"key", b"other")]),
            lambda: self.client.count([(b"key", b"kez")]),
            self.uses_everything,
        ):
            await self.set_password("first:password")
            await call()
        await self.set_password("first:password")
        lease = await self.client.grant(60)
        await self.set_password("first:password")
        await self.client.lock(b"kother", lease, 5.0)
        await self.client.revoke(lease)

    async def test_watch(self) -> None:
        """A watch with a token that has ended is refused, and the next one reports changes.

        A watch that was there before goes on.
        """
        start = (await self.client.status()).revision + 1
        before = self.watch(self.client, start, RANGE)
        await self.client.put(b"key", b"1")
        await until(lambda: before.keys == [b"key"])
        await self.set_password("first:password")
        refused = self.watch(self.client, start, RANGE)
        with self.assertRaises(EtcdRefused):
            await refused.ended
        after = self.watch(self.client, start, RANGE)
        await self.client.put(b"key", b"2")
        await until(lambda: after.keys == [b"key", b"key"])
        await until(lambda: before.keys == [b"key", b"key"])

    async def test_rotated(self) -> None:
        """A changed password is unavailability that names the option, until the file has it.

        Neither errors nor the log have a password.
        """
        await self.client.put(b"key", b"value")
        await self.set_password("second")
        with capturedLogs() as events:
            for _ in range(3):
                error = await self.unavailable(self.client.get(b"key"))
                self.assertIn("refuses the user 'hbtd' of --kv_login: ", str(error))
                self.assertNotIn("first:", str(error))
            self.path.write_text("hbtd:second")
            self.assertIsNotNone(await self.client.get(b"key"))
        self.assertNotIn("second", str(events))

    async def test_rotated_early(self) -> None:
        """If the file has the new password already, no call fails."""
        await self.client.put(b"key", b"value")
        await self.set_password("second")
        self.path.write_text("hbtd:second")
        self.assertIsNotNone(await self.client.get(b"key"))

    async def test_no_login(self) -> None:
        """Without a login etcd is unavailable, and the option is named."""
        stranger = self.connect(self.address)
        error = await self.unavailable(stranger.put(b"key", b""))
        self.assertIn("see --kv_login", str(error))

    async def test_permission(self) -> None:
        """Without a permission calls are refused; once it is there, they are not."""
        await self.client.put(b"key", b"value")
        await self.permit(False)
        with self.assertRaises(EtcdRefused) as raised:
            await self.client.put(b"key", b"other")
        self.assertIn("permission denied", raised.exception.message)
        await self.permit(True)
        await self.client.put(b"key", b"other")

    async def test_without_users(self) -> None:
        """An etcd that authenticates nobody, before or later, is used without a token."""
        await self.client.put(b"key", b"value")
        await self.disable()
        await self.uses_everything()
        await self.enable()
        await self.uses_everything()
