"""What can go wrong with etcd, and how it says so."""

from typing import Any

CANCELLED = 1
UNKNOWN = 2
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
"""The code of `EtcdRefused` when a lease does not exist, or does no more."""
RESOURCE_EXHAUSTED = 8
"""The code of `EtcdRefused` when etcd's database is full."""
ABORTED = 10
INTERNAL = 13
UNAVAILABLE = 14

# Those that are about etcd's present condition and not about the request.
_NOT_ABOUT_THE_REQUEST = frozenset({CANCELLED, DEADLINE_EXCEEDED, ABORTED, INTERNAL, UNAVAILABLE})

# etcd's lock service loses the codes of its errors, be they refusals or not; these are.
_REFUSALS_WITHOUT_CODE = (
    "lease not found",
    "session is expired",
    "database space exceeded",
    "permission denied",
)

_LONGEST = 200
"""Characters of what etcd, or who answered in its stead, said that we repeat."""


class EtcdUnavailable(Exception):
    """etcd did not do what it was asked for, or did not say so; the message says why in a line.

    It may have done it all the same, `timed_out` or not. Asking again may help, and will go to
    the next endpoint.
    """

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


class EtcdRefused(Exception):
    """etcd does not want this very request; it has had no effect.

    `code` is the gRPC status code, `message` what etcd said.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Compacted(Exception):
    """What was asked for is older than what etcd keeps: the caller has to read anew.

    `compact_revision` is the oldest revision that can be asked for; 0 when etcd does not tell.
    """

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"etcd keeps no history before revision {compact_revision or '?'}")
        self.compact_revision = compact_revision


class LockNotHad(Exception):
    """Others held the lock for as long as the caller was ready to wait for it."""


def one_line(text: str) -> str:
    """Make what somebody else said fit into a line of ours."""
    return " ".join(text.split())[:_LONGEST]


def error_in(said: Any) -> EtcdUnavailable | EtcdRefused | Compacted | None:
    """Find the error in a JSON answer of the gateway; `None` if there is none to be made out.

    `{"error": "words", "code": 8, "message": "words"}` answers a request, without the first of
    them from etcd 3.6 on; `{"error": {"grpc_code": 8, "message": "words", ...}}` ends a stream,
    with `code` instead from etcd 3.6 on.
    """
    if not isinstance(said, dict):
        return None
    inner = said.get("error")
    if isinstance(inner, dict):
        said = inner
    code, message = said.get("grpc_code", said.get("code")), said.get("message")
    if not isinstance(code, int) or not isinstance(message, str):
        return None
    message = one_line(message)
    if "required revision has been compacted" in message:
        return Compacted(0)
    if code in _NOT_ABOUT_THE_REQUEST:
        return EtcdUnavailable(message)
    if code == UNKNOWN and not any(words in message for words in _REFUSALS_WITHOUT_CODE):
        return EtcdUnavailable(message)
    if code == RESOURCE_EXHAUSTED and "too many requests" in message:
        return EtcdUnavailable(message)
    return EtcdRefused(code, message)
