"""When etcd is asked for another token."""

from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable
from hbtd.etcd.session import Session
from hbtd.net.own_secrets import Login, SecretFile, read_login

REFUSAL = EtcdRefused(3, "authentication failed")
WITHOUT_USERS = EtcdRefused(9, "etcdserver: authentication is not enabled")


class SessionTests(SynchronousTestCase):
    """Calls that need a token, and an etcd that is asked for it."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).resolve()
        self.path.write_text("hbtd:first")
        self.path.chmod(0o600)
        self.clock = Clock()
        self.session = Session(SecretFile("The login", str(self.path), read_login), self.clock)
        self.asked: list[tuple[Login, Deferred[str]]] = []

    def call(self) -> Deferred[str]:
        """Ask for the token."""

        def authenticate(login: Login) -> Deferred[str]:
            self.asked.append((login, Deferred()))
            return self.asked[-1][1]

        return Deferred.fromCoroutine(self.session.token(authenticate))

    def passwords(self) -> list[str]:
        """Return the passwords that etcd was asked about."""
        return [login.secret for login, _ in self.asked]

    def refuse(self) -> str:
        """Have the login refused in a new call; return the reason that the call has."""
        call = self.call()
        self.asked[-1][1].errback(REFUSAL)
        return str(self.failureResultOf(call, EtcdUnavailable).value)

    def test_shared(self) -> None:
        """Several calls wait for one token, which later ones have at once."""
        calls = [self.call() for _ in range(3)]
        self.assertEqual(len(self.asked), 1)
        self.asked[0][1].callback("token")
        self.assertEqual([self.successResultOf(each) for each in calls], ["token"] * 3)
        self.assertEqual(self.successResultOf(self.call()), "token")
        self.assertEqual(len(self.asked), 1)

    def test_cancelled(self) -> None:
        """If the call that asks is cancelled, the next one asks."""
        first, second = self.call(), self.call()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(len(self.asked), 2)
        self.asked[1][1].callback("token")
        self.assertEqual(self.successResultOf(second), "token")

    def test_forgotten(self) -> None:
        """Another token is asked for only if the one that was refused is the present one."""
        call = self.call()
        self.asked[0][1].callback("one")
        self.successResultOf(call)
        self.session.forget("older")
        self.assertEqual(self.successResultOf(self.call()), "one")
        self.session.forget("one")
        self.assertNoResult(self.call())
        self.assertEqual(len(self.asked), 2)

    def test_paused(self) -> None:
        """A login that was refused is tried again after 1 s, then after ever more, up to 10 s."""
        reason = self.refuse()
        self.assertEqual(reason, "refuses the user 'hbtd' of --kv_login: authentication failed")
        pauses = []
        for _ in range(9):
            began = self.clock.seconds()
            while True:
                call = self.call()
                if not call.called:
                    break
                self.assertEqual(str(self.failureResultOf(call).value), reason)
                self.clock.advance(0.25)
            self.asked[-1][1].errback(REFUSAL)
            self.failureResultOf(call, EtcdUnavailable)
            pauses.append(self.clock.seconds() - began)
        self.assertEqual(pauses[:3], [1.0, 1.5, 2.25])
        self.assertEqual(pauses, sorted(pauses))
        self.assertEqual(pauses[-1], 10.0)

    def test_success_resets(self) -> None:
        """After a success the next refusal is followed by the shortest pause."""
        for _ in range(4):
            self.refuse()
            self.clock.advance(10)
        call = self.call()
        self.asked[-1][1].callback("one")
        self.session.forget(self.successResultOf(call))
        self.refuse()
        self.clock.advance(1)
        self.assertNoResult(self.call())

    def test_changed(self) -> None:
        """A login that has been replaced is tried at once, by the refused call or a later one."""
        call = self.call()
        self.path.write_text("hbtd:second")
        self.asked[0][1].errback(REFUSAL)
        self.assertEqual(self.passwords(), ["first", "second"])
        self.asked[1][1].errback(REFUSAL)
        self.failureResultOf(call, EtcdUnavailable)
        self.assertEqual(len(self.asked), 2)
        self.path.write_text("hbtd:third!")
        call = self.call()
        self.assertEqual(self.passwords(), ["first", "second", "third!"])
        self.asked[2][1].callback("token")
        self.assertEqual(self.successResultOf(call), "token")

    def test_unavailable(self) -> None:
        """If etcd can't be reached, that is the reason, and the next call asks again."""
        call = self.call()
        self.asked[0][1].errback(EtcdUnavailable("is away"))
        self.assertEqual(str(self.failureResultOf(call, EtcdUnavailable).value), "is away")
        self.assertNoResult(self.call())

    def test_without_users(self) -> None:
        """An etcd that authenticates nobody is sent no token."""
        call = self.call()
        self.asked[0][1].errback(WITHOUT_USERS)
        self.assertEqual(self.successResultOf(call), "")
