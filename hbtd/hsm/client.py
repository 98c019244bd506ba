"""The client of the Hardware State Manager's REST API."""

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import orjson
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import INTERNAL_SERVER_ERROR

from hbtd.config.params import LiveParams
from hbtd.net.http_client import URI, ResponseTooLarge, describe_failure, read_body, root_cause
from hbtd.tracker.transitions import Transition

_T = TypeVar("_T")

_SUCCESS = frozenset({200, 202, 204})

# Statuses below 500 that say nothing about the components named: the caller may not speak to HSM,
# or asks in the wrong place, or too often.
_NOT_ABOUT_NAMES = frozenset({401, 403, 404, 405, 407, 408, 421, 425, 426, 429})

_MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are read; HSM's own are far smaller."""


class HSMUnavailable(Exception):
    """HSM did not do what it was asked for, whatever that was; the message says why.

    It may have done it all the same, or do it yet, if that is `in_doubt`.
    """

    def __init__(self, reason: str, *, timed_out: bool = False, in_doubt: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        self.in_doubt = in_doubt


class HSMRefused(Exception):
    """HSM does not want this very update; the message has its status and what it said."""


class HSMClient:
    """HSM in hbtd's words, over a treq client.

    Every call follows the present parameters' `sm_url` and `sm_timeout` and takes no more than
    the latter in all, body included.
    """

    def __init__(
        self, http: HTTPClient, clock: IReactorTime, params: LiveParams, user_agent: str
    ) -> None:
        self._http = http
        self._clock = clock
        self._params = params
        self._user_agent = user_agent

    def update(self, transition: Transition, components: Sequence[str]) -> Deferred[None]:
        """Tell HSM that these components have made a transition.

        Fails with `HSMRefused` if it won't have the update, with `HSMUnavailable` if it could not
        be told.
        """
        body = orjson.dumps(
            {
                "ComponentIDs": components,
                "State": transition.state,
                "Flag": transition.flag,
                "ExtendedInfo": {"ID": "", "Message": transition.message, "Flag": ""},
            }
        )
        return self._bounded(self._update(body))

    def ready(self) -> Deferred[None]:
        """Ask whether HSM is ready for work. Fails with `HSMUnavailable` if not."""
        return self._bounded(self._ready())

    async def _update(self, body: bytes) -> None:
        status, said = await self._request("PATCH", "/State/Components/BulkStateData", body)
        if status in _SUCCESS:
            return
        if 400 <= status < INTERNAL_SERVER_ERROR and status not in _NOT_ABOUT_NAMES:
            raise HSMRefused(f"{status} {said}")
        raise HSMUnavailable(f"HSM answers {status} {said}")

    async def _ready(self) -> None:
        status, said = await self._request("GET", "/service/ready", None)
        if status != 200:
            raise HSMUnavailable(f"HSM is not ready: {status} {said}")

    async def _request(self, method: str, path: str, body: bytes | None) -> tuple[int, str]:
        """Make a request; gives the status and the beginning of what HSM said, in one line."""
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
            reactor=self._clock,  # type: ignore[arg-type]  # it wants less than it says
        )
        answer = await read_body(response, _MAX_ANSWER)
        return response.code, answer[:200].decode("utf-8", "replace")

    def _bounded(self, call: Coroutine[Deferred[Any], Any, _T]) -> Deferred[_T]:
        """Let a call take `sm_timeout` seconds, and say in our own words how it failed."""
        timeout = self._params.current.sm_timeout
        timed_out = False

        def expire() -> None:
            nonlocal timed_out
            timed_out = True
            deferred.cancel()

        def settle(result: _T | Failure) -> _T | Failure:
            if timer.active():
                timer.cancel()
            if not isinstance(result, Failure) or result.check(HSMRefused, HSMUnavailable):
                return result
            if timed_out:
                said = f"HSM did not answer within {timeout} s"
                error = HSMUnavailable(said, timed_out=True, in_doubt=True)
            else:
                in_doubt = not result.check(ConnectError)
                error = HSMUnavailable(_reason(result), in_doubt=in_doubt)
            raise error from result.value

        # Not `addTimeout`: what a cancelled request fails with, treq and Twisted wrap in many ways.
        deferred = Deferred.fromCoroutine(call)
        timer = self._clock.callLater(timeout, expire)
        return deferred.addBoth(settle)


def _reason(failure: Failure) -> str:
    """Find the words for why a request failed."""
    assert failure.value is not None
    error = root_cause(failure.value)
    if isinstance(error, ResponseTooLarge):
        return f"HSM's answer has {error}"
    if isinstance(error, CancelledError):
        return "HSM's answer was not waited for"
    return f"HSM can't be reached: {describe_failure(error, '--sm_ca')}"
