"""Handlers that take heartbeats, and the handler that forgets a component."""

from collections.abc import Sequence

from twisted.web.server import Request

from hbtd.access.gate import Caller
from hbtd.access.refusals import NoRoom, TooSoon
from hbtd.api.fields import ALL_FIELDS, INVALID_NAME, NAMED_FIELDS, find_fault, read_all, read_named
from hbtd.api.routes import Role, Route
from hbtd.formats import xnames
from hbtd.monitor import Monitor
from hbtd.server.bodies import read_json
from hbtd.server.limits import MAX_HEARTBEAT_BODY
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply
from hbtd.server.site import LimitedRequest
from hbtd.tracker.forgotten import ForgottenLately
from hbtd.tracker.tracker import TrackerFull

FOUND = "Hbtd-Found"
"""The name of the header, in replies to `DELETE`, that says whether hbtd tracked the component."""


class Heartbeats:
    """The handlers of `/heartbeat`.

    The handlers raise `Problem` if the body or the component's name is invalid, and `Refused` if
    the caller may not make the request. `Refused` is also raised in two other cases: for a
    heartbeat of a component that is not tracked yet, when the maximum number of components is
    reached; and for a request to forget a component that was forgotten less than `Errtime` seconds
    ago, and is tracked again.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def routes(self) -> Sequence[Route]:
        """Return the routes of these handlers."""
        return (
            Route("POST", "/heartbeat", Role.NODE, self.post),
            Route("POST", "/heartbeat/<xname>", Role.NODE, self.post_named),
            Route("DELETE", "/heartbeat/<xname>", Role.NODE_OR_OPERATOR, self.delete),
        )

    def post(self, request: Request, caller: Caller) -> Reply:
        """Take a heartbeat of the component that the body names; return a reply with status 200."""
        heartbeat = _decode(request)
        values = read_all(heartbeat)
        if values is None:
            raise Problem(400, find_fault(heartbeat, ALL_FIELDS))
        component, hostname, nid, status, timestamp = values
        xname = _parse_xname(component)
        return self._beat(request, caller, xname, timestamp, status, hostname, nid)

    def post_named(self, request: Request, caller: Caller, xname: str) -> Reply:
        """Take a heartbeat of the component that the path names; return a reply with status 200."""
        heartbeat = _decode(request)
        values = read_named(heartbeat)
        if values is None:
            raise Problem(400, find_fault(heartbeat, NAMED_FIELDS))
        status, timestamp = values
        return self._beat(request, caller, _parse_xname(xname), timestamp, status)

    def delete(self, request: Request, caller: Caller, xname: str) -> Reply:
        """Stop tracking the component that the path names; return a reply with status 204.

        The component's silence is no longer judged. The reply's header `Hbtd-Found`, with the
        value `true` or `false`, says whether the component was tracked.
        """
        component = _parse_xname(xname)
        caller.check_forget(component)
        try:
            before = self._monitor.forget_on_request(component)
        except ForgottenLately as error:
            detail = "A component is forgotten once in Errtime seconds only"
            raise TooSoon(detail, error.seconds) from None
        found = ((FOUND, "false" if before is None else "true"),)
        if before is not None:
            return Reply(204, headers=found, change=f"no longer tracked, was {before}.")
        # Of what changes nothing, an operator's request is logged: nodes could fill the log.
        change = "nothing changed, was not tracked." if caller.operator else ""
        return Reply(204, headers=found, change=change)

    def _beat(
        self,
        request: Request,
        caller: Caller,
        xname: str,
        timestamp: str,
        status: str,
        hostname: str = "",
        nid: str = "",
    ) -> Reply:
        """Take a valid heartbeat of `xname`, which is in normal form.

        Raise `Forbidden` if the caller may not send this heartbeat, and `NoRoom` if the component
        is not tracked yet and the maximum number of components is reached.
        """
        caller.check_beat(xname)
        assert isinstance(request, LimitedRequest)
        try:
            self._monitor.beat(
                xname, timestamp, status, request.source, request.fresh, hostname, nid
            )
        except TrackerFull:
            raise NoRoom("No room for another component") from None
        request.heartbeat_taken()
        return Reply(200)


def _decode(request: Request) -> object:
    """Return the decoded body of a heartbeat, `None` if it is not JSON.

    Raise `Problem` 413 if the body is too large.
    """
    try:
        return read_json(request, MAX_HEARTBEAT_BODY)
    except ValueError:
        return None


def _parse_xname(name: str) -> str:
    """Return a component's name in normal form; raise `Problem` 400 if the name is no xname."""
    xname = xnames.parse(name)
    if xname is None:
        raise Problem(400, INVALID_NAME)
    return xname
