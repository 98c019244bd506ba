"""The handlers of `/thresholds`, which show and replace the table of thresholds."""

from collections.abc import Coroutine, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from hbtd.api.params import warning_headers
from hbtd.api.queries import ascii_reply, hold, read_parameters
from hbtd.api.routes import Role, Route
from hbtd.config.live_params import LiveParams
from hbtd.rules.live_thresholds import LiveThresholds
from hbtd.rules.thresholds import (
    PORTION,
    SHOWN_BY_ROWS,
    Row,
    Thresholds,
    ThresholdsRefused,
    build,
    doubts,
    parse,
)
from hbtd.server.bodies import read_json
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply
from hbtd.server.site import LimitedRequest
from hbtd.store.interface import StoreUnusable
from hbtd.tracker.tracker import Tracker

_log = Logger()

_Later = Coroutine[Deferred[Any], Any, Reply]

_NAME_SIZE: Final = 110
"""The bytes that a name takes in a table."""

_SIZE_OF_EACH: Final = 8
"""The bytes that counting takes for each tracked component."""


class ThresholdsHandler:
    """The handlers of `/thresholds`, which show and replace the table of thresholds."""

    def __init__(self, live: LiveThresholds, params: LiveParams, tracker: Tracker) -> None:
        self._live = live
        self._params = params
        self._tracker = tracker

    def routes(self) -> Sequence[Route]:
        """Return the routes of these handlers."""
        return (
            Route("GET", "/thresholds", Role.READER, self.get),
            Route("PUT", "/thresholds", Role.OPERATOR, self.put),
        )

    def get(self, request: LimitedRequest) -> _Later:
        """Return the rows of the table, each with the number of components to which it applies.

        Raise `Problem` 400 if there are query parameters.
        """
        read_parameters(request, ())
        self._hold(request)
        return self._show(request)

    def _hold(self, request: LimitedRequest) -> None:
        hold(request, _SIZE_OF_EACH * len(self._tracker))

    async def _show(self, request: LimitedRequest) -> Reply:
        table = self._live.current
        counts = await self._live.count(request.turn)
        rows = zip(table.rows, counts, strict=True)
        return ascii_reply([{**row.show(), SHOWN_BY_ROWS: count} for row, count in rows])

    def put(self, request: LimitedRequest) -> _Later:
        """Replace the table by the one in the body, for all replicas; return what GET does.

        The reply is sent once the new table is in force on this replica. A `Warning` header names
        rows that are probably mistakes. Raise `Problem` 400, and change nothing, if the body is no
        such table, and 503 if the table can't be stored.
        """
        read_parameters(request, ())
        try:
            rows = parse(_body(request))
        except ThresholdsRefused as error:
            raise Problem(400, str(error)) from None
        return self._put(request, rows)

    async def _put(self, request: LimitedRequest, rows: Sequence[Row]) -> Reply:
        made = await _build(request, rows)
        self._hold(request)
        params, before = self._params.current, self._live.current
        said = doubts(rows, params.warntime, params.errtime)
        change = "nothing changed"
        if made.text != before.text:
            change = f"thresholds are {made.described()}; were {before.described()}"
        change = ". ".join((change, *said))
        try:
            await _to_its_end(self._live.put(made))
            reply = await self._show(request)
        except StoreUnusable as error:
            raise Problem(
                503,
                f"The thresholds can't be stored: {error}; GET /thresholds says which are in force",
            ) from None
        except CancelledError:
            # The client has gone; the change is made nevertheless, and has to be logged.
            return Reply(200, change=f"{change}. The client did not wait for it.")
        return reply._replace(headers=warning_headers(said), change=f"{change}.")


def _body(request: Request) -> object:
    try:
        return read_json(request)
    except ValueError:
        return None


async def _build(request: LimitedRequest, rows: Sequence[Row]) -> Thresholds:
    """Return the table of some rows; raise `Problem` 400 if a nodeset can't be used."""
    building = build(rows)
    while True:
        try:
            next(building)
        except StopIteration as end:
            made: Thresholds = end.value
            return made
        except ThresholdsRefused as error:
            raise Problem(400, str(error)) from None
        hold(request, _NAME_SIZE * PORTION)
        await request.turn()


def _to_its_end(work: Deferred[None]) -> Deferred[None]:
    """Return a Deferred with the outcome of `work`, which goes on if that Deferred is cancelled.

    After that, a failure of `work` is logged.
    """
    waiting: Deferred[None] = Deferred()

    def end(outcome: Failure | None) -> None:
        if isinstance(outcome, Failure):
            if waiting.called:
                _log.warn(
                    "The thresholds for which a client did not wait could not be stored: {error}.",
                    error=outcome.getErrorMessage(),
                )
            else:
                waiting.errback(outcome)
        elif not waiting.called:
            waiting.callback(None)

    work.addBoth(end)
    return waiting
