"""A fake Hardware State Manager: a table of component states with a REST API.

The fake offers the part of HSM's API that hbtd uses, and the part by which other programs change
the table. The fake has the drawbacks of the real HSM: updates are applied one after another, an
update takes longer the more components it names, an update is applied even if its client has
disconnected meanwhile, and one invalid name leads to the rejection of the whole update. The texts
of answers were recorded from a real HSM. Like that HSM, the fake answers an update with 400 both if
the update is invalid and if the database, which is simulated, has failed.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http.client import responses
from typing import Any, Final, NoReturn

import orjson
from klein import Klein
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, NotFound

from hbtd.formats import xnames
from hbtd.simulator.behaviour import Behaviour
from hbtd.simulator.bulk_update import Update, json_object, read_update
from hbtd.simulator.hsm_table import (
    FLAGS,
    STATES,
    ComponentState,
    HSMTable,
    Selection,
    document,
    invalid_state,
    read_rows,
)

BASES: Final = frozenset(
    ("", "hsm/v1", "hsm/v2", "hsm/smd/v1", "hsm/smd/v2", "apis/smd/hsm/v1", "apis/smd/hsm/v2")
)
"""The paths below which HSM's API is served, without a slash at either end."""

_GARBAGE: Final = b"\x00\x07this is no HTTP response\r\n\r\n"

_PAGE: Final = b"<!DOCTYPE html><html><body>Please log in.</body></html>"

_DATABASE_SECONDS: Final = 1.488
"""Seconds for which the real HSM tries to reach a database that is gone before it answers."""


class _Problem(Exception):
    """Raised to refuse a request: the answer is a problem with the HTTP status and the detail."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class FakeHSM:
    """A Hardware State Manager's table, and the Klein application that serves it.

    The API is served under `BASES`, the base paths of a real HSM and of the gateways in front of
    it. Any other path is answered with 404, so that a wrong `--sm_url` is noticed. An update adds
    the components that the table lacks, unless `behaviour.discovers` is false. Requests below
    `/control` show and change the fake's behaviour, list and clear the updates, and change or
    replace the table.

    All delays are measured by `clock`. `on_update`, if given, is called with each `Update` that has
    just been applied.
    """

    _app = Klein()

    def __init__(
        self, clock: IReactorTime, on_update: Callable[[Update], None] | None = None
    ) -> None:
        self.table = HSMTable()
        """The `HSMTable`, which has the states of all components."""

        self.updates: list[Update] = []
        """All bulk PATCHes received since the last `clear`, in order."""

        self.behaviour = Behaviour()
        """The current `Behaviour`; `PATCH /control/behaviour` replaces it with a changed copy."""

        self._clock = clock
        self._on_update = on_update
        self._queue: deque[tuple[Update, Deferred[bytes], Request]] = deque()
        self._working: IDelayedCall | None = None

    @property
    def components(self) -> dict[str, ComponentState]:
        """The rows of the table, by xname in normal form."""
        return self.table.rows

    def resource(self) -> IResource:
        """Return the REST API as a resource for a `Site` or a `StubTreq`."""
        resource: IResource = self._app.resource()
        return resource

    def clear(self) -> None:
        """Empty `updates` and `components`; updates that wait in the queue are still applied."""
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
            cost = self.behaviour.cost(STATES[update.state.lower()], len(update.names))
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
        self.table.update(
            update.names,
            STATES[update.state.lower()],
            FLAGS[update.flag.lower()],
            update.message,
            discovers=self.behaviour.discovers,
        )
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
        objection = read_update(update)
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
    def _list_components(self, request: Request, base: str = "") -> Deferred[bytes]:
        _check_base(base)
        return self._select(request, _arguments(request))

    @_app.route("/State/Components/Query", methods=["POST"])
    @_app.route("/<path:base>/State/Components/Query", methods=["POST"])
    def _query_components(self, request: Request, base: str = "") -> Deferred[bytes]:
        _check_base(base)
        query = json_object(_body(request))
        if query is None:
            raise _Problem(400, "error decoding JSON: not an object")
        return self._select(request, {**query, "id": query.get("ComponentIDs", [])})

    def _select(self, request: Request, query: Mapping[str, object]) -> Deferred[bytes]:
        """Answer with the components that a query asks for, after a read's simulated duration."""
        if not self.behaviour.lists:
            raise NotFound
        selection = Selection.read(query)
        if self.behaviour.unknown_types.intersection(selection.types):
            raise _Problem(400, "bad query param: Argument was not a valid HMS Type")

        def answer(_: object) -> bytes:
            self._need_database()
            rows = self.table.select(selection)
            state_only = selection.state_only
            listed = [document(name, row, state_only=state_only) for name, row in rows]
            return _json(request, {"Components": listed})

        return self._read().addCallback(answer)

    @_app.route("/State/Components/<name>", methods=["GET"])
    @_app.route("/<path:base>/State/Components/<name>", methods=["GET"])
    def _show_component(self, request: Request, name: str, base: str = "") -> Deferred[bytes]:
        _check_base(base)
        xname = _xname(name)

        def answer(_: object) -> bytes:
            self._need_database()
            return _json(request, document(xname, self._row(xname)))

        return self._read().addCallback(answer)

    @_app.route("/State/Components/<name>/StateData", methods=["PATCH"])
    @_app.route("/<path:base>/State/Components/<name>/StateData", methods=["PATCH"])
    def _change_component(self, request: Request, name: str, base: str = "") -> bytes:
        """Change one component, as others than hbtd do; by force whatever its state is."""
        _check_base(base)
        self._need_database()
        row = self._row(_xname(name))
        change = json_object(_body(request)) or {}
        state, flag = str(change.get("State", "")), str(change.get("Flag", "OK"))
        if (objection := invalid_state(state, flag)) is not None:
            raise _Problem(400, objection)
        state, flag = STATES[state.lower()], FLAGS[flag.lower()]
        if change.get("Force") is True or row.fits(state, flag):
            row.state, row.flag = state, flag
        request.setResponseCode(204)
        return b""

    def _row(self, xname: str) -> ComponentState:
        if xname not in self.components:
            raise _Problem(404, f"No component '{xname}'")
        return self.components[xname]

    def _read(self) -> Deferred[None]:
        """Return a Deferred that fires after the simulated duration of a read of the table."""
        gone = self.behaviour.database_gone
        seconds = _DATABASE_SECONDS if gone else self.behaviour.read_ms / 1000
        return deferLater(self._clock, seconds) if seconds else succeed(None)

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
        changes = json_object(_body(request))
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

    @_app.route("/control/components", methods=["PUT"])
    def _replace_components(self, request: Request) -> bytes:
        rows = _rows(request)
        self.table.rows.clear()
        return self._force(request, rows)

    @_app.route("/control/components", methods=["PATCH"])
    def _change_components(self, request: Request) -> bytes:
        return self._force(request, _rows(request))

    def _force(self, request: Request, rows: Mapping[str, ComponentState]) -> bytes:
        self.table.force(rows)
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


def _rejection(update: Update, behaviour: Behaviour) -> str | None:
    """Return the reason to reject an update if it names a component in `behaviour.refuse`.

    Otherwise return `None`.
    """
    refused = {xnames.normalise(name) for name in behaviour.refuse}
    hit = next((name for name in update.names if xnames.normalise(name) in refused), None)
    return None if hit is None else f"The fake HSM was told to refuse '{hit}'"


def _xname(name: str) -> str:
    """Return a name in normal form; raise a `_Problem` if it is none."""
    xname = xnames.parse(name)
    if xname is None:
        raise _Problem(400, f"Invalid xname '{name}'")
    return xname


def _arguments(request: Request) -> dict[str, object]:
    """Return the arguments of a request's query."""
    return {key.decode(errors="replace"): values for key, values in (request.args or {}).items()}


def _rows(request: Request) -> dict[str, ComponentState]:
    """Return the rows in a request's body; raise a `_Problem` if there are none."""
    body = json_object(_body(request))
    if body is None:
        raise _Problem(400, "Not a JSON object")
    try:
        return read_rows(body)
    except ValueError as error:
        raise _Problem(400, str(error)) from error


def _transport(request: Request) -> Any:
    """Return the transport of a request's connection: TCP, TLS, or in memory."""
    return request.channel.transport


def _body(request: Request) -> bytes:
    return request.content.read() if request.content is not None else b""


def _json(request: Request, document: object) -> bytes:
    request.responseHeaders.setRawHeaders("content-type", ["application/json"])
    return orjson.dumps(document)
