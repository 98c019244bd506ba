"""A fake Hardware State Manager: a table of component states with a REST API.

The fake has the part of the API that hbtd uses, and the drawbacks of the real HSM: updates are
applied one after another, each component takes time, an update continues after its client has
disconnected, and one invalid name leads to the rejection of the whole update. It answers updates
and probes in the words of a recorded real HSM, whose 400 has two meanings.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from http.client import responses
from typing import Any, Final, NoReturn

import orjson
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, NotFound

from hbtd.formats import xnames
from hbtd.simulator.behaviour import Behaviour

_STATES: Final = {
    state.lower(): state
    for state in ("Unknown", "Empty", "Populated", "Off", "On", "Standby", "Halt", "Ready")
}
_FLAGS: Final = {flag.lower(): flag for flag in ("Unknown", "OK", "Warning", "Alert", "Locked")}

BASES: Final = frozenset(
    ("", "hsm/v1", "hsm/v2", "hsm/smd/v1", "hsm/smd/v2", "apis/smd/hsm/v1", "apis/smd/hsm/v2")
)
"""The paths below which HSM's API is, without slashes around them."""

_GARBAGE: Final = b"\x00\x07this is no HTTP response\r\n\r\n"

_PAGE: Final = b"<!DOCTYPE html><html><body>Please log in.</body></html>"

_DATABASE_SECONDS: Final = 1.488
"""Seconds for which the real HSM tries to reach a database that is gone before it answers."""


@dataclass
class ComponentState:
    """A component's row in the table, which later updates replace."""

    state: str
    flag: str
    message: str


@dataclass(eq=False)
class Update:
    """A bulk PATCH that was received, and its outcome.

    All times are seconds of the fake HSM's clock. A field whose value the body lacks is empty.
    """

    body: bytes
    """The request's body, undecoded."""

    received: float
    """When the request arrived."""

    user_agent: str = ""
    content_type: str = ""

    names: list[str] = field(default_factory=list)
    """The components' names as the request spelled them."""

    state: str = ""
    flag: str = ""
    message: str = ""

    applied: float | None = None
    """When the update was applied to the table, or `None` if it has not been."""

    answered: float | None = None
    """When the PATCH was answered; `None` if it was not, as when the client disconnected first."""

    status: int | None = None
    """The HTTP status of the answer, or `None` if `answered` is `None`."""


class _Problem(Exception):
    """Raised to refuse a request: the answer is a problem with the HTTP status and the detail."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class FakeHSM:
    """A Hardware State Manager's table, and the Klein application that serves it.

    The API is served under the base paths of a real HSM and of the gateways before it, `BASES`, and
    any other path is answered with 404, so that a wrong `--sm_url` is noticed. Every valid xname is
    a known component. Requests below `/control` show and change the fake's behaviour, and list
    and clear the updates.

    All delays are measured by `clock`. `on_update`, if given, is called with each `Update` that has
    just been applied.
    """

    _app = Klein()

    def __init__(
        self, clock: IReactorTime, on_update: Callable[[Update], None] | None = None
    ) -> None:
        self.components: dict[str, ComponentState] = {}
        """The rows of the table by xname in normal form."""

        self.updates: list[Update] = []
        """All bulk PATCHes received since the last `clear`, in order."""

        self.behaviour = Behaviour()
        """The current behaviour; `PATCH /control/behaviour` replaces the object."""

        self._clock = clock
        self._on_update = on_update
        self._queue: deque[tuple[Update, Deferred[bytes], Request]] = deque()
        self._working: IDelayedCall | None = None

    def resource(self) -> IResource:
        """Return the REST API as a resource for a `Site` or a `StubTreq`."""
        resource: IResource = self._app.resource()
        return resource

    def clear(self) -> None:
        """Empty `updates` and `components`; updates in the queue will still be applied."""
        self.updates.clear()
        self.components.clear()

    def stop(self) -> None:
        """Drop all updates that have not been applied yet, without answering them."""
        self._queue.clear()
        if self._working is not None:
            self._working.cancel()
            self._working = None

    # The serial worker is independent of connections: a client that disconnects cancels only the
    # Deferred of its answer.

    def _work(self) -> None:
        """Apply the queued updates in order, each after a timer of its simulated duration."""
        while self._queue and self._working is None:
            update, answer, request = self._queue.popleft()
            cost = self.behaviour.cost(_STATES[update.state.lower()], len(update.names))
            if self.behaviour.database_gone:
                cost = _DATABASE_SECONDS
            if cost > 0:
                self._working = self._clock.callLater(cost, self._worked, update, answer, request)
            else:
                self._apply(update, answer, request)

    def _worked(self, update: Update, answer: Deferred[bytes], request: Request) -> None:
        self._working = None
        self._apply(update, answer, request)
        self._work()

    def _apply(self, update: Update, answer: Deferred[bytes], request: Request) -> None:
        if self.behaviour.database_gone:
            if not answer.called:
                self._note_answer(update, 400)
                answer.errback(_Problem(400, "operation 'Bulk StateData Update' failed"))
            return
        state = ComponentState(
            _STATES[update.state.lower()], _FLAGS[update.flag.lower()], update.message
        )
        for name in update.names:
            self.components[xnames.normalise(name)] = state
        update.applied = self._clock.seconds()
        if not answer.called:
            self._note_answer(update, 204)
            request.setResponseCode(204)
            answer.callback(b"")
        if self._on_update is not None:
            self._on_update(update)

    def _note_answer(self, update: Update, status: int) -> None:
        update.status = status
        update.answered = self._clock.seconds()

    # HSM's own API

    @_app.route("/State/Components/BulkStateData", methods=["PATCH"])
    @_app.route("/<path:base>/State/Components/BulkStateData", methods=["PATCH"])
    def _bulk_update(self, request: Request, base: str = "") -> Deferred[bytes]:
        _check_base(base)
        update = Update(
            body=_body(request),
            received=self._clock.seconds(),
            user_agent=request.getHeader("user-agent") or "",
            content_type=request.getHeader("content-type") or "",
        )
        self.updates.append(update)
        objection = _read_update(update)
        # Klein cancels this Deferred when the client disconnects.
        answer: Deferred[bytes] = Deferred()
        behaviour = self.behaviour
        fault = behaviour.fault(update.names)
        if fault == "reset":
            _transport(request).abortConnection()
        elif fault == "garbage":
            _transport(request).write(_GARBAGE)
            _transport(request).loseConnection()
        elif fault == "page":
            self._note_answer(update, 200)
            request.setHeader("Content-Type", "text/html; charset=utf-8")
            answer.callback(_PAGE)
        elif fault is None:
            objection = objection or _rejection(update, behaviour)
            if objection is not None:
                self._refuse(update, request, 400, objection)
            self._queue.append((update, answer, request))
            self._work()
        elif fault != "hang":
            self._refuse(update, request, int(fault), "The fake HSM was told to fail")
        return answer

    def _refuse(self, update: Update, request: Request, status: int, objection: str) -> NoReturn:
        """Reject an update: raise a `_Problem` with the HTTP status; `objection` is its detail."""
        self._note_answer(update, status)
        if self.behaviour.retry_after:
            request.setHeader("Retry-After", self.behaviour.retry_after)
        raise _Problem(status, objection)

    @_app.route("/service/ready", methods=["GET"])
    @_app.route("/<path:base>/service/ready", methods=["GET"])
    def _readiness(self, request: Request, base: str = "") -> bytes | Deferred[bytes]:
        _check_base(base)
        if self.behaviour.hang and self.behaviour.hang_ready:
            return Deferred()
        if self.behaviour.database_gone:
            raise _Problem(503, "HSM's database is unhealthy: connect: connection refused")
        if not self.behaviour.ready:
            raise _Problem(503, "HSM is not ready.")
        return _json(request, {"code": 0, "message": "HSM is healthy"})

    @_app.route("/State/Components", methods=["GET"])
    @_app.route("/<path:base>/State/Components", methods=["GET"])
    def _list_components(self, request: Request, base: str = "") -> bytes:
        _check_base(base)
        self._need_database()
        listed = [_component(name, state) for name, state in self.components.items()]
        return _json(request, {"Components": listed})

    @_app.route("/State/Components/<name>", methods=["GET"])
    @_app.route("/<path:base>/State/Components/<name>", methods=["GET"])
    def _show_component(self, request: Request, name: str, base: str = "") -> bytes:
        _check_base(base)
        self._need_database()
        xname = xnames.parse(name)
        if xname is None:
            raise _Problem(400, f"Invalid xname '{name}'")
        if xname not in self.components:
            raise _Problem(404, f"No component '{xname}'")
        return _json(request, _component(xname, self.components[xname]))

    def _need_database(self) -> None:
        if self.behaviour.database_gone:
            raise _Problem(500, "failed to query DB.")

    # Control

    @_app.route("/control/behaviour", methods=["GET"])
    def _show_behaviour(self, request: Request) -> bytes:
        request.responseHeaders.setRawHeaders("content-type", ["application/json"])
        return self.behaviour.as_json()

    @_app.route("/control/behaviour", methods=["PATCH"])
    def _change_behaviour(self, request: Request) -> bytes:
        changes = _json_object(_body(request))
        if changes is None:
            raise _Problem(400, "Not a JSON object")
        try:
            self.behaviour = self.behaviour.merged(changes)
        except ValueError as error:
            raise _Problem(400, str(error)) from error
        return self._show_behaviour(request)

    @_app.route("/control/updates", methods=["GET"])
    def _list_updates(self, request: Request) -> bytes:
        text = (request.args or {}).get(b"since", [b"0"])[-1]
        if not text.isdigit():
            raise _Problem(400, "since: must be the index of an update, 0 or more")
        since = int(text)
        listed = [
            {
                "index": since + offset,
                **asdict(update),
                "body": update.body.decode(errors="replace"),
            }
            for offset, update in enumerate(self.updates[since:])
        ]
        return _json(request, listed)

    @_app.route("/control/updates", methods=["DELETE"])
    def _clear_updates(self, request: Request) -> bytes:
        self.clear()
        request.setResponseCode(204)
        return b""

    # Errors

    @_app.handle_errors(_Problem, HTTPException)
    def _answer_problem(self, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(request, Request)  # Klein's types say less than twisted.web does
        error = failure.value
        if isinstance(error, HTTPException):
            for name, value in error.get_headers():
                request.responseHeaders.setRawHeaders(name, [value])
            status, detail = error.code or 500, error.description or error.name
        else:
            assert isinstance(error, _Problem)
            status, detail = error.status, error.detail
        request.setResponseCode(status)
        request.responseHeaders.setRawHeaders("content-type", ["application/problem+json"])
        title = responses.get(status, "")
        return orjson.dumps(
            {"type": "about:blank", "title": title, "detail": detail, "status": status}
        )


def _check_base(base: str) -> None:
    """Raise `NotFound` unless `base` is one of `BASES`, the paths below which HSM's API is."""
    if base not in BASES:
        raise NotFound


def _read_update(update: Update) -> str | None:
    """Set an update's fields from its body; return why it is invalid, or `None` if it is valid."""
    document = _json_object(update.body)
    if document is None:
        return "error decoding JSON: not an object"
    names = document.get("ComponentIDs")
    if isinstance(names, list):
        update.names = [name for name in names if isinstance(name, str)]
    state, flag = document.get("State"), document.get("Flag", "OK")
    update.state = state if isinstance(state, str) else ""
    update.flag = flag if isinstance(flag, str) else ""
    extended = document.get("ExtendedInfo", {})
    message = extended.get("Message", "") if isinstance(extended, dict) else None
    update.message = message if isinstance(message, str) else ""

    if names == []:
        return "Missing IDs"
    if not update.names or update.names != names:
        return "ComponentIDs must be a list of one or more names"
    if update.state.lower() not in _STATES:
        return f"Invalid State '{update.state}'"
    if update.flag.lower() not in _FLAGS:
        return f"Invalid Flag '{update.flag}'"
    if not isinstance(message, str):
        return "ExtendedInfo must be an object with texts"
    if any(xnames.parse(name) is None for name in update.names):
        return "invalid xname ID"
    return None


def _rejection(update: Update, behaviour: Behaviour) -> str | None:
    """Return the reason to reject an update if it names a component in `behaviour.refuse`.

    Otherwise return `None`.
    """
    refused = {xnames.normalise(name) for name in behaviour.refuse}
    hit = next((name for name in update.names if xnames.normalise(name) in refused), None)
    return None if hit is None else f"The fake HSM was told to refuse '{hit}'"


def _component(name: str, state: ComponentState) -> dict[str, str | None]:
    return {
        "ID": name,
        "Type": xnames.component_type(name),
        "State": state.state,
        "Flag": state.flag,
    }


def _transport(request: Request) -> Any:
    """Return the transport of a request's connection: TCP, TLS, or in memory."""
    return request.channel.transport


def _body(request: Request) -> bytes:
    return request.content.read() if request.content is not None else b""


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _json(request: Request, document: object) -> bytes:
    request.responseHeaders.setRawHeaders("content-type", ["application/json"])
    return orjson.dumps(document)
