"""Handlers for past transitions, and for the states of components at a past moment."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from hbtd.api.queries import (
    ROW_SIZE,
    bad,
    encode,
    hold,
    read_limit,
    read_names,
    read_parameters,
    read_states,
    read_time,
    read_under,
    rows_reply,
)
from hbtd.api.routes import Role, Route
from hbtd.formats import xnames
from hbtd.formats.times import format_time
from hbtd.queries.explanations import show_entry
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply
from hbtd.server.site import LimitedRequest
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.store.past import Selection, Span, StateThen
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase

_Later = Coroutine[Deferred[Any], Any, Reply]

_ROWS_AT_ONCE = 200
_STATES_AT_ONCE = 1000
_WHAT = ("names", "under", "limit", "after")
_LONGEST_NUMBER = 16


class History:
    """The handler of `/history`: past transitions, and states of components at a past moment."""

    def __init__(self, tracker: Tracker, store: IStore, wall: Callable[[], float]) -> None:
        """Make the handler; `wall` returns the current Unix time in seconds."""
        self._tracker = tracker
        self._store = store
        self._wall = wall

    def routes(self) -> Sequence[Route]:
        """Return the routes of this handler."""
        return (Route("GET", "/history", Role.READER, self.history),)

    def history(self, request: Request) -> _Later:
        """Return a page of past transitions, or a page of components' states at a past moment.

        If the query parameter `at` is given, return the states at that time; otherwise, return
        entries of the log of transitions. Raise `Problem` 400 if a parameter is invalid, and 503 if
        the log can't be read, or if there is not enough memory for the answer.
        """
        assert isinstance(request, LimitedRequest)
        known = (*_WHAT, "since", "until", "order", "at", "state")
        parameters = read_parameters(request, known)
        others = {"since", "until", "order"} if "at" in parameters else {"state"}
        for name in sorted(others & parameters.keys()):
            only = "can't be given together with at" if "at" in parameters else "needs at"
            raise bad(name, only)
        most, under = read_limit(parameters), read_under(parameters)
        if "at" in parameters:
            at = self._read_time(parameters, "at", inf)
            wanted = read_states(parameters)
            name = _read_name(parameters)
            return self._guard(
                self._then(request, parameters.get("names"), under, at, wanted, name, most)
            )
        order = parameters.get("order", "oldest")
        if order not in ("oldest", "newest"):
            raise bad("order", "must be oldest or newest, which come first")
        span = Span(
            self._read_time(parameters, "since", -inf),
            self._read_time(parameters, "until", inf),
            order == "newest",
            _read_number(parameters),
        )
        return self._guard(self._entries(request, parameters.get("names"), under, span, most))

    async def _entries(
        self, request: LimitedRequest, nodeset: str | None, under: str, span: Span, most: int
    ) -> Reply:
        hold(request, ROW_SIZE * most)
        selection = await self._select(request, nodeset, under)
        found = await self._store.history(span, selection, most + 1)
        entries = found[:most]
        following = str(entries[-1].number) if len(found) > most else None
        pages = []
        for start in range(0, len(entries), _ROWS_AT_ONCE):
            if start:
                await request.turn()
            pages.append(encode(list(map(show_entry, entries[start : start + _ROWS_AT_ONCE]))))
        return rows_reply("Entries", pages, {"Next": following})

    async def _then(
        self,
        request: LimitedRequest,
        nodeset: str | None,
        under: str,
        at: float,
        wanted: frozenset[Phase] | None,
        after: str,
        most: int,
    ) -> Reply:
        hold(request, ROW_SIZE * most)
        selection = await self._select(request, nodeset, under)
        found: list[StateThen] = []
        complete, more = True, True
        # etcd reads the whole log for each call.
        portion = 10**9 if self._store.shared else max(_STATES_AT_ONCE, most + 1)
        while more and len(found) <= most:
            states, complete = await self._store.states_at(at, selection, after, portion)
            found += [each for each in states if wanted is None or each.phase in wanted]
            more = len(states) == portion
            after = states[-1].component if states else ""
            await request.turn()
        following = found[most - 1].component if len(found) > most else None
        pages = []
        for start in range(0, min(len(found), most), _ROWS_AT_ONCE):
            if start:
                await request.turn()
            rows = found[start : min(start + _ROWS_AT_ONCE, most)]
            pages.append(encode(list(map(_show, rows))))
        rest = {"Next": following, "At": format_time(at), "Complete": complete}
        return rows_reply("Components", pages, rest)

    async def _select(self, request: LimitedRequest, nodeset: str | None, under: str) -> Selection:
        if nodeset is None:
            return Selection(None, under)
        named = await read_names([nodeset], self._tracker, request, "Parameter names")
        return Selection(frozenset(named.xnames()), under)

    @staticmethod
    async def _guard(work: _Later) -> Reply:
        try:
            return await work
        except StoreUnusable as error:
            raise Problem(503, f"The log of transitions can't be read: {error}") from None

    def _read_time(self, parameters: Mapping[str, str], name: str, default: float) -> float:
        at = read_time(parameters, name, self._wall())
        return default if at is None else at


def _show(state: StateThen) -> dict[str, object]:
    return {
        "XName": state.component,
        "State": state.phase.value,
        "Since": format_time(state.since),
    }


def _read_number(parameters: Mapping[str, str]) -> int | None:
    text = parameters.get("after")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER):
        raise bad("after", "is no value of Next in an answer")
    return int(text)


def _read_name(parameters: Mapping[str, str]) -> str:
    text = parameters.get("after")
    if text is None:
        return ""
    if xnames.parse(text) != text:
        raise bad("after", "is no value of Next in an answer")
    return text
