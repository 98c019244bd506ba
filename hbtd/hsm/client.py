"""The client of the Hardware State Manager's REST API."""

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import orjson
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import INTERNAL_SERVER_ERROR

from hbtd.config.live_params import LiveParams
from hbtd.net.http_client import URI, ResponseTooLarge, describe_failure, read_body, root_cause
from hbtd.runtime.deadline import DeadlineExceeded, bounded
from hbtd.tracker.transitions import Transition

_T = TypeVar("_T")

_SUCCESS = frozenset({200, 202, 204})

# Statuses below 500 that say nothing about the components in an update: hbtd lacks a permission,
# uses a wrong address, or sends too much.
_NOT_ABOUT_COMPONENTS = frozenset({401, 403, 404, 405, 407, 408, 421, 425, 426, 429})

_MAX_BODY = 64 * 1024
"""The most bytes that a response body may have; those of HSM have far fewer."""


class HSMUnavailable(Exception):
    """A request to HSM failed, for a reason unrelated to the content of the request.

    `timed_out` is true if HSM did not answer within `sm_timeout`. `in_doubt` is true if HSM may
    have carried out the request nevertheless, or may do so later.
    """

    def __init__(self, reason: str, *, timed_out: bool = False, in_doubt: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        self.in_doubt = in_doubt


class HSMRejected(Exception):
    """HSM rejected the content of an update; the message has the HTTP status and HSM's reason."""


class HSMClient:
    """A client of HSM's REST API, on the treq client `http`.

    Each request goes to the HSM at the parameter `sm_url` and may take `sm_timeout` seconds of
    `clock`, including the response body.
    """

    def __init__(
        self, http: HTTPClient, clock: IReactorTime, params: LiveParams, user_agent: str
    ) -> None:
        self._http = http
        self._clock = clock
        self._params = params
        self._user_agent = user_agent

    def update(self, transition: Transition, components: Sequence[str]) -> Deferred[None]:
        """Send HSM an update: `components` have made `transition` (docs/protocol.md, "HSM").

        The Deferred fires when HSM has acknowledged the update. It fails with `HSMRejected` if HSM
        rejects the content, and with `HSMUnavailable` after any other error and when it is
        cancelled.
        """
        body = orjson.dumps(
            {
                "ComponentIDs": components,
                "State": transition.state,
                "Flag": transition.flag,
                "ExtendedInfo": {"ID": "", "Message": transition.message, "Flag": ""},
            }
        )
        return Deferred.fromCoroutine(self._bounded(self._update(body)))

    def ready(self) -> Deferred[None]:
        """Return a Deferred that fires if HSM is ready, and fails with `HSMUnavailable` if not."""
        return Deferred.fromCoroutine(self._bounded(self._ready()))

    async def _update(self, body: bytes) -> None:
        status, said = await self._request("PATCH", "/State/Components/BulkStateData", body)
        if status in _SUCCESS:
            return
        if 400 <= status < INTERNAL_SERVER_ERROR and status not in _NOT_ABOUT_COMPONENTS:
            raise HSMRejected(f"{status} {said}")
        raise HSMUnavailable(f"HSM answers {status} {said}")

    async def _ready(self) -> None:
        status, said = await self._request("GET", "/service/ready", None)
        if status != 200:
            raise HSMUnavailable(f"HSM is not ready: {status} {said}")

    async def _request(self, method: str, path: str, body: bytes | None) -> tuple[int, str]:
        """Make a request; return the HTTP status and the first 200 bytes of the body, as text."""
        headers: dict[str | bytes, str | bytes] = {"User-Agent": self._user_agent}
        if body is not None:
            headers["Content-Type"] = "application/json"
        response = await self._http.request(
            method,
            URI.from_text(self._params.current.sm_url.rstrip("/") + path),
            headers=headers,
            data=body,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,  # type: ignore[arg-type]  # treq needs less than it declares
        )
        content = await read_body(response, _MAX_BODY)
        return response.code, content[:200].decode("utf-8", "replace")

    async def _bounded(self, request: Coroutine[Deferred[Any], Any, _T]) -> _T:
        """Return the result of a request, which may take `sm_timeout` seconds.

        Pass on `HSMRejected` and `HSMUnavailable`; raise `HSMUnavailable` for all other errors.
        """
        timeout = self._params.current.sm_timeout
        try:
            return await bounded(self._clock, timeout, request)
        except (HSMRejected, HSMUnavailable):
            raise
        except DeadlineExceeded as error:
            reason = f"HSM did not answer within {timeout} s"
            raise HSMUnavailable(reason, timed_out=True, in_doubt=True) from error
        except CancelledError as error:
            raise HSMUnavailable("HSM's answer was not waited for", in_doubt=True) from error
        except Exception as error:
            # Without a connection, the request can't have reached HSM.
            in_doubt = not isinstance(error, ConnectError)
            raise HSMUnavailable(_describe(error), in_doubt=in_doubt) from error


def _describe(error: Exception) -> str:
    """Return one sentence that says why a request to HSM failed."""
    cause = root_cause(error)
    if isinstance(cause, ResponseTooLarge):
        return f"HSM's answer has {cause}"
    return f"HSM can't be reached: {describe_failure(cause, '--sm_ca')}"
