"""The client of the Hardware State Manager's REST API."""

import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import orjson
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import BAD_GATEWAY, BAD_REQUEST, GATEWAY_TIMEOUT, INTERNAL_SERVER_ERROR
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from hbtd.config.live_params import LiveParams
from hbtd.hsm.fencing import Fenced
from hbtd.hsm.table import TableInvalid, TableParser, TakeRow
from hbtd.net.bodies import ResponseTooLarge, read_body, take_body
from hbtd.net.http_client import URI, describe_failure, root_cause, why_not_sent
from hbtd.net.retry_after import retry_after
from hbtd.runtime.deadline import DeadlineExceeded, bounded
from hbtd.tracker.transitions import Transition

_T = TypeVar("_T")

_SUCCESS = frozenset({200, 202, 204})

# Statuses below 500 that are hardly about the components in an update: hbtd lacks a permission, has
# a wrong address, or sends too much.
_NOT_ABOUT_COMPONENTS = frozenset({401, 403, 404, 405, 407, 408, 421, 425, 426, 429})

_MAX_BODY = 64 * 1024
"""The most bytes that a response body may have, except for the table's; HSM's have far fewer."""

_MAX_TABLE = 512 * 1024 * 1024
"""The most bytes of HSM's table; a million rows take 70 MB. It is never in memory as a whole."""

_TABLE_TIMEOUT = 60.0
"""Seconds that reading the table may take, however small `sm_timeout` is."""

# What an HSM answers that has no such call, or a gateway that lets nobody use it.
_NO_TABLE = frozenset({403, 404, 405, 501})


class UpdateFailed(Exception):
    """Raised when HSM did not accept an update; the message says why.

    `timed_out` is true if HSM did not answer within the time limit. `in_doubt` is true if HSM may
    have carried out the request nevertheless, or may do so later. `unsent` is true if HSM can't
    have received the request, so that the request's content can't be the reason. `retry_after` is
    the number of seconds for which HSM asks not to be sent anything, 0 if HSM does not ask.
    """

    def __init__(
        self,
        reason: str,
        *,
        timed_out: bool = False,
        in_doubt: bool = False,
        unsent: bool = False,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        self.in_doubt = in_doubt
        self.unsent = unsent
        self.retry_after = retry_after


class HSMUnavailable(UpdateFailed):
    """Raised when a request to HSM fails, unless HSM rejects the content (`HSMRejected`)."""


class HSMRejected(UpdateFailed):
    """Raised when HSM rejects the content of an update.

    The message has the HTTP status and HSM's reason.
    """


class TableMissing(HSMUnavailable):
    """Raised when HSM can't return its table of components, or does not let hbtd read it."""


class _Answer(NamedTuple):
    """An HTTP response of HSM, or of a proxy before it."""

    status: int
    said: str
    """The first 200 characters of the body."""

    page: bool
    """Whether the body is a page for a browser, which HSM never sends."""

    retry_after: float

    def describe(self) -> str:
        """Return the status and the beginning of the body, for a log line."""
        return f"{self.status} {self.said}" + (" (a page, not HSM's answer)" if self.page else "")


class HSMClient:
    """A client of HSM's REST API; it sends its requests with the treq client `http`.

    Each request goes to the HSM whose URL is hbtd's parameter `sm_url`. A request, including the
    reading of the response body, may take as many seconds of `clock` as the parameter `sm_timeout`
    says; only `read_table` may take longer.
    """

    def __init__(
        self,
        http: HTTPClient,
        clock: IReactorTime,
        params: LiveParams,
        user_agent: str,
        wall: Callable[[], float] = time.time,
        conceal: Callable[[str], str] = str,
    ) -> None:
        """Make a client.

        `wall` returns the Unix time in seconds; it is needed for a `Retry-After` that is a date.
        `conceal` returns a text without the secrets that `http` sends, such as a token; it is
        applied to HSM's answers before they are logged.
        """
        self._http = http
        self._clock = clock
        self._params = params
        self._user_agent = user_agent
        self._wall = wall
        self._conceal = conceal

    def update(
        self, transition: Transition, components: Sequence[str], within: float | None = None
    ) -> Deferred[None]:
        """Send HSM an update: `components` have made `transition` (docs/protocol.md, "HSM").

        The update may take `within` seconds if that is less than `sm_timeout`. The Deferred fires
        when HSM has acknowledged the update. It fails with `HSMRejected` if HSM rejects the
        content, and with `HSMUnavailable` after any other error or if the Deferred is cancelled.
        """
        body = orjson.dumps(
            {
                "ComponentIDs": components,
                "State": transition.state,
                "Flag": transition.flag,
                "ExtendedInfo": {"ID": "", "Message": transition.message, "Flag": ""},
            }
        )
        return Deferred.fromCoroutine(self._bounded(self._update(body), within))

    def ready(self) -> Deferred[None]:
        """Ask HSM whether it is ready.

        The Deferred fires if HSM is ready, and otherwise fails with `HSMUnavailable`.
        """
        return Deferred.fromCoroutine(self._bounded(self._ready()))

    def read_table(self, types: Iterable[str], take: TakeRow) -> Deferred[None]:
        """Read HSM's table of the components whose type is in `types`; call `take` with each row.

        If HSM refuses these types, read the whole table, of all types. If the parameter `boot_time`
        is 0, ask HSM only for the states, so that no row says whether the component is enabled.

        The response is parsed in portions, between which the reactor does other work. The Deferred
        fires after the last row. It fails with `TableMissing` if HSM does not offer its table to
        hbtd, and with `HSMUnavailable` after any other error. After a failure, the rows that `take`
        was called with may be incomplete or wrong.
        """
        work = self._read_table(types, take)
        longest = max(_TABLE_TIMEOUT, self._params.current.sm_timeout)
        return Deferred.fromCoroutine(self._bounded(work, longest=longest))

    async def _read_table(self, types: Iterable[str], take: TakeRow) -> None:
        query = [("type", each) for each in types]
        asked = bool(query)
        if not self._params.current.boot_time:
            query.append(("stateonly", "true"))
        path = f"/State/Components?{urlencode(query)}".rstrip("?")
        response = await self._open("GET", path, None)
        if response.code != 200:
            answer = await self._answer(response)
            if answer.status == BAD_REQUEST and asked:
                # An HSM that does not know one of the types refuses all of them.
                await self._read_table((), take)
                return
            if answer.status in _NO_TABLE:
                raise TableMissing(f"HSM answers {answer.describe()}")
            raise HSMUnavailable(f"HSM answers {answer.describe()}")
        parser = TableParser(take)
        try:
            await take_body(response, parser.feed, _MAX_TABLE, self._clock)
            parser.end()
        except TableInvalid as error:
            raise HSMUnavailable(f"HSM's table can't be read: {error}") from error

    async def _update(self, body: bytes) -> None:
        answer = await self._request("PATCH", "/State/Components/BulkStateData", body)
        status = answer.status
        if status in _SUCCESS and not answer.page:
            return
        if 400 <= status < INTERNAL_SERVER_ERROR and status not in _NOT_ABOUT_COMPONENTS:
            raise HSMRejected(answer.describe(), retry_after=answer.retry_after)
        raise HSMUnavailable(
            f"HSM answers {answer.describe()}",
            # A proxy says this whatever HSM behind it may still do.
            in_doubt=answer.page or status in (BAD_GATEWAY, GATEWAY_TIMEOUT),
            retry_after=answer.retry_after,
        )

    async def _ready(self) -> None:
        answer = await self._request("GET", "/service/ready", None)
        if answer.status != 200 or answer.page:
            raise HSMUnavailable(f"HSM is not ready: {answer.describe()}")

    async def _request(self, method: str, path: str, body: bytes | None) -> _Answer:
        """Make a request; return its answer."""
        return await self._answer(await self._open(method, path, body))

    async def _open(self, method: str, path: str, body: bytes | None) -> IResponse:
        """Make a request; return the response, whose body is yet to be read."""
        headers: dict[str | bytes, str | bytes] = {"User-Agent": self._user_agent}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return await self._http.request(
            method,
            URI.from_text(self._params.current.sm_url.rstrip("/") + path),
            headers=headers,
            data=body,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,  # type: ignore[arg-type]  # treq needs less than it declares
        )

    async def _answer(self, response: IResponse) -> _Answer:
        content = await read_body(response, _MAX_BODY)
        return _Answer(
            response.code,
            self._conceal(content.decode("utf-8", "replace"))[:200],
            _is_page(response.headers, content),
            retry_after(response.headers, self._wall()),
        )

    async def _bounded(
        self,
        request: Coroutine[Deferred[Any], Any, _T],
        within: float | None = None,
        longest: float | None = None,
    ) -> _T:
        """Return the result of a request; it may take `sm_timeout` seconds, or `within` if less.

        With `longest` it may take that many seconds, whatever `sm_timeout` is.

        Pass on `HSMRejected` and `HSMUnavailable`; raise `HSMUnavailable` for all other errors.
        """
        timeout: float = self._params.current.sm_timeout if longest is None else longest
        if within is not None:
            timeout = min(timeout, within)
        try:
            return await bounded(self._clock, timeout, request)
        except (HSMRejected, HSMUnavailable):
            raise
        except DeadlineExceeded as error:
            if (why := why_not_sent(error)) is not None:
                raise HSMUnavailable(f"HSM can't be reached: {why}", unsent=True) from error
            reason = f"HSM did not answer within {round(timeout, 1)} s"
            raise HSMUnavailable(reason, timed_out=True, in_doubt=True) from error
        except CancelledError as error:
            raise HSMUnavailable("HSM's answer was not waited for", in_doubt=True) from error
        except Exception as error:
            unsent = isinstance(root_cause(error), ConnectError | DNSLookupError | Fenced)
            raise HSMUnavailable(_describe(error), in_doubt=not unsent, unsent=unsent) from error


def _is_page(headers: Headers, content: bytes) -> bool:
    """Return whether the content of an answer is HTML, by its type or its first bytes."""
    kind = (headers.getRawHeaders(b"content-type") or [b""])[0].lower()
    begin = content[:200].lstrip().lower()
    if kind.startswith((b"text/html", b"application/xhtml")):
        return bool(begin)
    return begin.startswith((b"<!doctype html", b"<html"))


def _describe(error: Exception) -> str:
    """Return one sentence that says why a request to HSM failed."""
    cause = root_cause(error)
    if isinstance(cause, ResponseTooLarge):
        return f"HSM's answer has {cause}"
    return f"HSM can't be reached: {describe_failure(cause, '--sm_ca and --sm_cert')}"
