"""Problems: errors that hbtd sends to HTTP clients as RFC 7807 problem documents."""

from collections.abc import Iterable
from urllib.parse import quote

import orjson
from twisted.web.http import RESPONSES

from hbtd.server.replies import Reply

PROBLEM_JSON = "application/problem+json"


class Problem(Exception):
    """Raised to answer a request with a problem document.

    `status` is the HTTP status of the answer, and `detail` the sentence that says what is wrong.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        allow: Iterable[str] = (),
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.allow = tuple(sorted(allow))
        """The methods for the header `Allow` of a 405; if empty, the header is not sent."""
        self.headers = headers
        """Further headers of the answer, as pairs of name and value."""


def method_not_allowed(allow: Iterable[str]) -> Problem:
    """Return a `Problem` with status 405, which says that only the methods `allow` are allowed."""
    methods = sorted(set(allow) - {"HEAD"})
    plural = "s" if len(methods) > 1 else ""
    return Problem(405, f"Only {' and '.join(methods)} operation{plural} supported", allow)


def problem_reply(problem: Problem, instance: str) -> Reply:
    """Return the reply that answers a request with a problem; `instance` is the request's path."""
    body = {
        "type": "about:blank",
        "title": "Internal Server Error" if problem.status >= 500 else "Invalid Request",
        "detail": problem.detail,
        # A URI reference (RFC 7807 3.1).
        "instance": quote(instance, safe="/:@!$&'()*+,;=~", errors="surrogateescape"),
        "status": problem.status,
    }
    allow = (("Allow", ", ".join(problem.allow)),) if problem.allow else ()
    return Reply(problem.status, orjson.dumps(body), PROBLEM_JSON, (*allow, *problem.headers))


def encode_problem(problem: Problem, instance: str = "/") -> bytes:
    """Return a whole HTTP response, head and body, that says why a request was refused.

    Use this where there is no request object. `instance` is the request's path, if it is known.
    """
    reply = problem_reply(problem, instance)
    return (
        b"HTTP/1.1 %d %b\r\nConnection: close\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
        % (
            problem.status,
            RESPONSES[problem.status],
            PROBLEM_JSON.encode(),
            len(reply.body),
            reply.body,
        )
    )
