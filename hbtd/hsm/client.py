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

# Statuses below 500 that say nothing about the components named: hbtd may not speak to HSM, or
# used a wrong address, or sends too much.
_NOT_ABOUT_COMPONENTS = frozenset({401, 403, 404, 405, 407, 408, 421, 425, 426, 429})

_MAX_BODY = 64 * 1024
"""Bytes of a response body that are read; HSM's own are far smaller."""


class HSMUnavailable(Exception):
    """HSM did not do what was requested, for a reason unrelated to its content.

    `timed_out` is true if HSM did not answer within `sm_timeout`. `in_doubt` is true if HSM may
    have carried out the request nevertheless, or may do so later.
    """

    def __init__(self, reason: str, *, timed_out: bool = False, in_doubt: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        self.in_doubt = in_doubt


class HSMRejected(Exception):
    """HSM rejected an update because of its content; the message has the status and the reason."""


class HSMClient:
    """A client of HSM, over a treq client.

    Each call uses the current parameters' `sm_url` and takes at most `sm_timeout` seconds of
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
        """Send HSM an update: these components have made this transition.

        The Deferred fails with `HSMRejected` or `HSMUnavailable`, with the latter also when it is
        cancelled. The request is specified in docs/protocol.md, "HSM".
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
        """Ask whether HSM is ready; the Deferred fails with `HSMUnavailable` if it is not."""
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
        """Make a request; return the status and the first 200 bytes of the response as text."""
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
            reactor=self._clock,  # type: ignore[arg-type]  # it needs less than it declares
        )
        content = await read_body(response, _MAX_BODY)
        return response.code, content[:200].decode("utf-8", "replace")

    async def _bounded(self, request: Coroutine[Deferred[Any], Any, _T]) -> _T:
        """Run a request for at most `sm_timeout` seconds; raise only this module's errors."""
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
            # A request that found no connection can't have reached HSM.
            in_doubt = not isinstance(error, ConnectError)
            raise HSMUnavailable(_describe(error), in_doubt=in_doubt) from error


def _describe(error: Exception) -> str:
    """Return in one sentence why a request failed."""
    cause = root_cause(error)
    if isinstance(cause, ResponseTooLarge):
        return f"HSM's answer has {cause}"
    return f"HSM can't be reached: {describe_failure(cause, '--sm_ca')}"
