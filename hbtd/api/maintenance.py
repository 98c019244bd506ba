"""The handlers of `/maintenance`, and the one by which a node says that it will be away."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.server import Request

from hbtd.access.gate import Caller
from hbtd.access.refusals import TooSoon
from hbtd.api.fields import INVALID_NAME
from hbtd.api.heartbeats import FOUND
from hbtd.api.many_names import read_many_names
from hbtd.api.queries import (
    ROW_SIZE,
    ascii_reply,
    encode,
    fold_many,
    hold,
    printable,
    read_limit,
    read_parameters,
)
from hbtd.api.routes import Role, Route
from hbtd.formats import xnames
from hbtd.formats.counts import counted
from hbtd.formats.go_json import pick
from hbtd.formats.times import format_time
from hbtd.queries.maintenance import MaintenanceFacts
from hbtd.rules.in_force import Entry
from hbtd.rules.maintenance import (
    MOST_NAMES,
    End,
    Maintenance,
    MaintenanceRefused,
    id_of,
    read_text,
)
from hbtd.rules.maintenances import Maintenances, NoRoomForMaintenance, NoSuchMaintenance
from hbtd.server.bodies import read_json
from hbtd.server.limits import MAX_HEARTBEAT_BODY
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply
from hbtd.server.site import LimitedRequest
from hbtd.store.interface import StoreUnusable
from hbtd.tracker.forgotten import ForgottenLately
from hbtd.tracker.tracker import Tracker

_Later = Coroutine[Deferred[Any], Any, Reply]

_FIELDS: Final = ("XNames", "For", "Until", "Reason", "By")

_ROW_SIZE: Final = 8 * ROW_SIZE
"""The bytes that a row of a list takes while it is made, with a long nodeset and long texts."""

_LOGGED: Final = 4000
"""The most characters of a nodeset in a log line."""


def encode_notice(what: str, row: Mapping[str, object]) -> bytes:
    """Return the bytes of a Server-Sent Event that says what has become of a maintenance.

    `row` is the API's JSON object about it. The event has no ID, as it is no entry of the log.
    """
    return b"event: maintenance\ndata: %b\n\n" % encode({"What": what, **row})


class MaintenanceHandlers:
    """The handlers of `/maintenance`, and of `/heartbeat/{xname}/away`."""

    def __init__(
        self,
        maintenances: Maintenances,
        facts: MaintenanceFacts,
        tracker: Tracker,
    ) -> None:
        self._maintenances = maintenances
        self._facts = facts
        self._tracker = tracker

    def routes(self) -> Sequence[Route]:
        """Return the routes of these handlers."""
        return (
            Route("GET", "/maintenance", Role.READER, self.list_page),
            Route("POST", "/maintenance", Role.OPERATOR, self.set),
            Route("GET", "/maintenance/<id>", Role.READER, self.one),
            Route("PATCH", "/maintenance/<id>", Role.OPERATOR, self.change),
            Route("DELETE", "/maintenance/<id>", Role.OPERATOR, self.end),
            Route("POST", "/heartbeat/<xname>/away", Role.NODE_OR_OPERATOR, self.away),
        )

    def list_page(self, request: Request) -> _Later:
        """Return a page of all maintenances. Raise `Problem` 400 if a parameter is invalid."""
        parameters = read_parameters(request, ("limit", "after"))
        return self._page(_limited(request), parameters.get("after", ""), read_limit(parameters))

    async def _page(self, request: LimitedRequest, after: str, most: int) -> Reply:
        hold(request, _ROW_SIZE * min(most, len(self._maintenances.in_force.entries)))
        rows, following = await self._facts.rows(after, most, request.turn)
        return ascii_reply({"Maintenance": rows, "Next": following})

    async def one(self, request: Request, id: str) -> Reply:
        """Return all about a maintenance.

        Raise `Problem` 400 if there are query parameters, and 404 if there is no such maintenance.
        """
        read_parameters(request, ())
        entry = self._find(id)
        return ascii_reply(await self._facts.detail(entry, _limited(request).turn))

    def set(self, request: Request) -> _Later:
        """Set a maintenance for the components that the nodesets in the body name.

        The reply, status 201, also has the names that are not known, and those that several
        components have sent: these are in no maintenance. Raise `Problem` 400, and set nothing, if
        the body is invalid, 409 if there are too many maintenances, and 503 if it can't be stored.
        """
        fields = _read(request)
        nodesets = fields["XNames"]
        if not isinstance(nodesets, list) or not all(isinstance(x, str) for x in nodesets):
            raise Problem(400, "The body must be a JSON object with a list of nodesets, XNames")
        end = _granted(lambda: self._maintenances.read_end(fields))
        reason = _granted(lambda: read_text(fields, "Reason"))
        by = _granted(lambda: read_text(fields, "By"))
        return self._set(_limited(request), nodesets, end, reason, by)

    async def _set(
        self, request: LimitedRequest, nodesets: Sequence[str], end: End, reason: str, by: str
    ) -> Reply:
        turn = request.turn
        named = await read_many_names(nodesets, self._tracker, request, "XNames", MOST_NAMES)
        unknown = await fold_many(named.unknown, turn)
        ambiguous = await fold_many(named.ambiguous, turn)
        if not named.xnames:
            faults = [f"{unknown} not known"] * bool(unknown)
            faults += [f"{ambiguous} sent by several components"] * bool(ambiguous)
            why = "; ".join(faults) or "it is empty"
            raise Problem(400, f"XNames: there is no component to set it for: {why}")
        nodeset = await fold_many(named.xnames, turn)
        number = len(named.xnames)
        untracked = await fold_many(named.untracked, turn)
        _granted(lambda: self._maintenances.check_room(number, len(nodeset)))
        try:
            wanted = await self._stored(self._maintenances.set(nodeset, end, reason, by))
        except CancelledError:
            change = f"maintenance of {_cut(nodeset)}; the client did not wait for it."
            return Reply(201, change=change)
        entry = self._maintenances.in_force.entries.get(wanted.id)
        shown = {} if entry is None else self._facts.row(entry, whole=True)
        reply = ascii_reply(
            {**shown, "Untracked": untracked, "Unknown": unknown, "Ambiguous": ambiguous}
        )
        return reply._replace(status=201, change=f"{_described(wanted, number)}.")

    def change(self, request: Request, id: str) -> _Later:
        """Change the end of a maintenance; return what it is now.

        Raise `Problem` 400 if the body is invalid, 404 if there is no such maintenance, and 503 if
        the change can't be stored.
        """
        fields = _read(request)
        return self._change(self._find(id), fields)

    async def _change(self, entry: Entry, fields: Mapping[str, Any]) -> Reply:
        before = entry.maintenance
        try:
            wanted = await self._stored(self._maintenances.change(entry, fields))
        except MaintenanceRefused as refused:
            raise Problem(400, str(refused)) from None
        except NoSuchMaintenance:
            raise _unknown(before.id) from None
        except CancelledError:
            return Reply(200, change=f"maintenance {before.id}; the client did not wait for it.")
        change = f"{_described(wanted, entry.number)}; it was until {format_time(before.until)}."
        return ascii_reply(self._facts.row(entry, whole=True))._replace(change=change)

    def end(self, request: Request, id: str) -> _Later:
        """End a maintenance now; return what it was.

        Raise `Problem` 404 if there is no such maintenance, and 503 if that can't be stored.
        """
        return self._end(self._find(id))

    async def _end(self, entry: Entry) -> Reply:
        row, wanted, number = self._facts.row(entry), entry.maintenance, entry.number
        change = f"maintenance {wanted.id} ended, of {counted(number, 'component')}"
        try:
            await self._stored(self._maintenances.end(entry))
        except CancelledError:
            return Reply(200, change=f"{change}; the client did not wait for it.")
        return ascii_reply(row)._replace(change=f"{change}: {_cut(wanted.nodeset)}.")

    def away(self, request: Request, caller: Caller, xname: str) -> _Later:
        """Note that the component that the path names will be away; return status 204.

        The reply's header `Hbtd-Found` says whether the component was living. Raise `Problem` 400
        if the body or the name is invalid, and 503 if it can't be stored; `Forbidden` if the caller
        may not speak for the component, and `TooSoon` if it has said so a moment ago.
        """
        fields = _read(request, MAX_HEARTBEAT_BODY)
        component = xnames.parse(xname)
        if component is None:
            raise Problem(400, INVALID_NAME)
        caller.check_away(component)
        try:
            seconds, reason = _granted(lambda: self._maintenances.check_away(component, fields))
        except ForgottenLately as error:
            detail = "A component may say once in Errtime seconds only that it will be away"
            raise TooSoon(detail, error.seconds) from None
        return self._away(component, seconds, reason)

    async def _away(self, xname: str, seconds: float, reason: str) -> Reply:
        change = f"away for {seconds:g} s{_reason(reason)}"
        try:
            living = await self._stored(self._maintenances.away(xname, seconds, reason))
        except CancelledError:
            return Reply(204, change=f"{change}; the client did not wait for it.")
        found = ((FOUND, "true" if living else "false"),)
        return Reply(204, headers=found, change=f"{change}." if living else "")

    def _find(self, id: str) -> Entry:
        try:
            return self._maintenances.find(id)
        except NoSuchMaintenance:
            raise _unknown(id) from None

    async def _stored(self, change: Coroutine[Deferred[Any], Any, Any]) -> Any:
        """Return the result of a change; raise `Problem` 503 if it can't be stored."""
        try:
            return await change
        except StoreUnusable as error:
            raise Problem(
                503, f"The store can't be written, so nothing was changed: {error}"
            ) from None


def _unknown(id: str) -> Problem:
    return Problem(404, f"There is no maintenance {printable(id)}: it is over, or never was")


def _read(request: Request, limit: int | None = None) -> Mapping[str, Any]:
    """Return the fields of a request's body; raise `Problem` 400 if it is no JSON object."""
    try:
        body = read_json(request, limit)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Problem(400, "The body must be a JSON object")
    return dict(zip(_FIELDS, pick(body, _FIELDS), strict=True))


def _granted(call: Callable[[], Any]) -> Any:
    """Return the result of a call; raise a `Problem` if it refuses a request."""
    try:
        return call()
    except MaintenanceRefused as refused:
        raise Problem(400, str(refused)) from None
    except NoRoomForMaintenance as full:
        raise Problem(409, str(full)) from None


def _described(wanted: Maintenance, number: int) -> str:
    """Return a maintenance in words, for the log."""
    back = ", or until they are back" if wanted.back else ""
    by = f", by {wanted.by!r}" if wanted.by and not wanted.away else ""
    return (
        f"maintenance {id_of(wanted.kind, wanted.name)} of {counted(number, 'component')} until"
        f" {format_time(wanted.until)}{back}{_reason(wanted.reason)}{by}: {_cut(wanted.nodeset)}"
    )


def _reason(reason: str) -> str:
    return f", reason {reason!r}" if reason else ""


def _cut(nodeset: str) -> str:
    return nodeset if len(nodeset) <= _LOGGED else f"{nodeset[:_LOGGED]}..."


def _limited(request: Request) -> LimitedRequest:
    assert isinstance(request, LimitedRequest)
    return request
