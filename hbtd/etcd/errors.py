"""The exceptions of etcd calls, and the functions that make them from etcd's answers."""

from typing import Any

CANCELLED = 1
UNKNOWN = 2
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
"""The code of `EtcdRefused` if a lease does not exist, or has ended."""
RESOURCE_EXHAUSTED = 8
"""The code of `EtcdRefused` if etcd's database is full."""
ABORTED = 10
INTERNAL = 13
UNAVAILABLE = 14

# Codes that are caused by the condition of etcd, not by the request.
_NOT_ABOUT_THE_REQUEST = frozenset({CANCELLED, DEADLINE_EXCEEDED, ABORTED, INTERNAL, UNAVAILABLE})

# etcd's lock service reports every error as UNKNOWN; an error with any of these words is a refusal.
_REFUSALS_WITHOUT_CODE = (
    "lease not found",
    "session is expired",
    "database space exceeded",
    "permission denied",
)

# What etcd says of a token that has ended or is older than its users, and to calls without any. The
# code depends on the call.
_TOKEN_REFUSALS = (
    "invalid auth token",
    "user name is empty",
    "revision of auth store is old",
    "revision in header is old",
)

_WITHOUT_USERS = "authentication is not enabled"

_MAX_LENGTH = 200
"""The most characters that are quoted of a text from etcd, or from a server in its place."""


class EtcdUnavailable(Exception):
    """Raised when a call failed, or was not answered; the message says why, in one line.

    etcd may have carried out the call nevertheless. The caller may try again; the next call is sent
    to the next endpoint. `timed_out` says whether the call failed because it took longer than its
    time limit.
    """

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


class TokenRefused(EtcdUnavailable):
    """Raised when etcd rejects a call's authentication token, or a call without a token.

    The call had no effect.
    """


class EtcdRefused(Exception):
    """Raised when etcd refuses a request, which had no effect; a retry would be refused, too.

    `code` is the gRPC status code, `message` the text from etcd.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Compacted(Exception):
    """Raised when a revision is asked for that is older than the history that etcd keeps.

    The caller has to read the keys again. `compact_revision` is the oldest revision that etcd still
    has, or 0 if etcd did not say.
    """

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"etcd keeps no history before revision {compact_revision or '?'}")
        self.compact_revision = compact_revision


class LockTimeout(Exception):
    """Raised when a lock was not acquired within the time that the caller allowed."""


def one_line(text: str) -> str:
    """Return a text from outside hbtd as one line of at most 200 characters, for a log message."""
    return " ".join(text.split())[:_MAX_LENGTH]


def error_in(answer: Any) -> EtcdUnavailable | EtcdRefused | Compacted | None:
    """Return the error that a JSON answer of the gateway reports, or `None` if there is none.

    The answer to a failed request is `{"error": "text", "code": 8, "message": "text"}`; from etcd
    3.6 on, `error` is missing. A stream reports an error as `{"error": {"grpc_code": 8, "message":
    "text", ...}}`; from etcd 3.6 on, `grpc_code` is called `code`.
    """
    if not isinstance(answer, dict):
        return None
    inner = answer.get("error")
    if isinstance(inner, dict):
        answer = inner
    code, message = answer.get("grpc_code", answer.get("code")), answer.get("message")
    if not isinstance(code, int) or not isinstance(message, str):
        return None
    message = one_line(message)
    if "required revision has been compacted" in message:
        return Compacted(0)
    if any(words in message for words in _TOKEN_REFUSALS):
        return TokenRefused(f"{message}; see --kv_login")
    if code in _NOT_ABOUT_THE_REQUEST:
        return EtcdUnavailable(message)
    if code == UNKNOWN and not any(words in message for words in _REFUSALS_WITHOUT_CODE):
        return EtcdUnavailable(message)
    if code == RESOURCE_EXHAUSTED and "too many requests" in message:
        return EtcdUnavailable(message)
    return EtcdRefused(code, message)


def is_without_users(error: EtcdRefused) -> bool:
    """Return whether etcd refused a login because authentication is not enabled."""
    return _WITHOUT_USERS in error.message
