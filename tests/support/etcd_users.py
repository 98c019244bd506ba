"""The users of an etcd in memory, as a client of its gateway sees them."""

from collections.abc import Callable
from itertools import count

from hbtd.etcd.errors import UNKNOWN, EtcdRefused
from hbtd.etcd.messages import Message

INVALID_ARGUMENT, PERMISSION_DENIED, FAILED_PRECONDITION, UNAUTHENTICATED = 3, 7, 9, 16

# The calls that need no token, and those that need none, but a good one if there is one.
_OPEN = ("/lease/keepalive", "/maintenance/status", "/auth/authenticate")
_NEEDS_NONE = ("/lease/grant", "/lease/revoke", "/kv/compaction")


class EtcdUsers:
    """Who may do what: each user everything, or nothing."""

    def __init__(self) -> None:
        """Begin without authentication."""
        self.enabled = False
        self.passwords: dict[str, str] = {}
        self.barred: set[str] = set()
        """The users without a permission."""
        self.asked = 0
        """How often a password was checked."""
        self._tokens: dict[str, str] = {}
        self._number = count(1)

    def end_tokens(self, of: Callable[[str], bool] = lambda user: True) -> None:
        """End the tokens of some users."""
        self._tokens = {token: user for token, user in self._tokens.items() if not of(user)}

    def authenticate(self, message: Message) -> Message:
        """Return the answer to a login, a new token; raise `EtcdRefused`."""
        if not self.enabled:
            raise EtcdRefused(FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
        self.asked += 1
        user = message["name"]
        if self.passwords.get(user) != message["password"]:
            raise EtcdRefused(
                INVALID_ARGUMENT,
                "etcdserver: authentication failed, invalid user ID or password",
            )
        token = f"token.{next(self._number)}"
        self._tokens[token] = user
        return {"token": token}

    def admit(self, path: str, token: str | None) -> None:
        """Raise `EtcdRefused` if a call is not allowed."""
        if path in _OPEN or not (token or self.enabled):
            return
        locks = path == "/lock/lock"  # this service has one code for all errors
        if token is not None and token not in self._tokens:
            raise EtcdRefused(
                UNKNOWN if locks else UNAUTHENTICATED, "etcdserver: invalid auth token"
            )
        if path in _NEEDS_NONE:
            return
        if token is None:
            raise EtcdRefused(
                UNKNOWN if locks else INVALID_ARGUMENT, "etcdserver: user name is empty"
            )
        if self._tokens[token] in self.barred:
            raise EtcdRefused(
                UNKNOWN if locks else PERMISSION_DENIED, "etcdserver: permission denied"
            )
