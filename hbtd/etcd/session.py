"""The authentication token that calls to etcd carry if authentication is enabled in etcd."""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable, is_without_users
from hbtd.net.own_secrets import Login, SecretFile
from hbtd.runtime.backoff import Backoff

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 10.0
"""Seconds without another attempt after etcd has refused the same user and password."""

Authenticate = Callable[[Login], Awaitable[str]]
"""A function that gets an authentication token from etcd for a user and password.

The result is awaitable, and raises the exceptions with which `Gateway.call` fails.
"""


class Session:
    """Keeps an authentication token, and gets a new one when etcd no longer accepts it.

    etcd's tokens expire after 5 minutes (by default) without use, when etcd is restarted, and when
    the user's password is changed. Because etcd needs a tenth of a second of CPU time to check a
    password, calls that need a token at the same time share one login. After etcd has refused a
    user and password, the same two are tried again only after a pause of 1 to 10 seconds. If the
    file that contains the user and password changes, its new content is tried at the next call.
    """

    def __init__(self, login: SecretFile[Login], clock: IReactorTime) -> None:
        self._login = login
        self._clock = clock
        self._turn = DeferredLock()
        self._token: str | None = None
        self._refused: Login | None = None
        self._refusal = ""
        self._wait_until = 0.0
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, lambda: 0.0)

    async def token(self, authenticate: Authenticate) -> str:
        """Return the token; if there is none, get one from etcd first.

        The token is an empty text if authentication is not enabled in etcd. Raise
        `EtcdUnavailable` if etcd refuses the user and password, or if the pause after an earlier
        refusal of them has not ended (see `Session`). Pass on the other exceptions that
        `authenticate` raises.
        """
        while self._token is None:
            await self._turn.acquire()
            try:
                if self._token is None:
                    self._token = await self._ask(authenticate)
            finally:
                self._turn.release()
        return self._token

    def forget(self, token: str | None) -> None:
        """Drop `token`, so that `token()` gets a new one; do nothing if another token is in use."""
        if self._token == token:
            self._token = None

    async def _ask(self, authenticate: Authenticate) -> str:
        if self._refused is not None:
            changed = self._login.renewed(self._refused)
            if not changed and self._clock.seconds() < self._wait_until:
                raise EtcdUnavailable(self._refusal)
        login = self._login.current
        try:
            try:
                return await self._try(login, authenticate)
            except EtcdRefused:
                # It may have been replaced since it was read.
                if not self._login.renewed(login):
                    raise
            login = self._login.current
            return await self._try(login, authenticate)
        except EtcdRefused as error:
            self._refused = login
            self._refusal = f"refuses the user {login.user!r} of --kv_login: {error}"
            self._wait_until = self._clock.seconds() + self._backoff.next()
            raise EtcdUnavailable(self._refusal) from error

    async def _try(self, login: Login, authenticate: Authenticate) -> str:
        try:
            token = await authenticate(login)
        except EtcdRefused as error:
            if not is_without_users(error):
                raise
            token = ""
        self._refused = None
        self._backoff.reset()
        return token
