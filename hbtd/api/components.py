"""Handlers of queries about components, and the handler that forgets many components at once."""

from collections.abc import Coroutine, Sequence
from functools import partial
from itertools import islice
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.server import Request

from hbtd.api.queries import (
    ROW_SIZE,
    ascii_reply,
    bad,
    encode,
    fold_many,
    hold,
    printable,
    read_limit,
    read_names,
    read_parameters,
    read_under,
    rows_reply,
)
from hbtd.api.routes import Role, Route
from hbtd.formats import xnames
from hbtd.formats.nodesets import fold, portions
from hbtd.monitor import Monitor
from hbtd.queries.components import Facts, Selection, select
from hbtd.queries.explanations import Explainer
from hbtd.queries.flapping import FlapWatch
from hbtd.queries.machine import SILENCE_SIZE_OF_EACH, Machine
from hbtd.queries.names import resolve
from hbtd.queries.summary import Summary
from hbtd.queries.tree import silent_parts
from hbtd.server.bodies import read_json
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply
from hbtd.server.site import LimitedRequest
from hbtd.store.interface import StoreUnusable
from hbtd.tracker.forgotten import ForgottenLately
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase

_Later = Coroutine[Deferred[Any], Any, Reply]

_NAMES_AT_ONCE = 5000
_ROWS_AT_ONCE = 200
_SUMMARY_SIZE = 65_536
_SUMMARY_SIZE_OF_EACH = 8
"""The bytes that a summary takes for each component while it is made, roughly."""

_FORGOTTEN_AT_ONCE = 50
_MOST_TRANSITIONS = 20
_MOST_LOGGED = 1000
_MOST_NAMED = 20
"""The most forgotten components that the log line about a request names."""

_STATES: dict[str, Phase | None] = {
    "ok": Phase.HEALTHY,
    **{phase.value: phase for phase in Phase if phase is not Phase.UNKNOWN},
    "maintenance": None,
}
"""The words for what components are in; `None` is no state: a component has one besides."""

_TYPES = {each.name.lower(): each.name for each in xnames.COMPONENT_TYPES}


class Components:
    """The handlers of `/components`, `/summary`, `/tree` and `/forget`."""

    def __init__(
        self,
        tracker: Tracker,
        monitor: Monitor,
        machine: Machine,
        facts: Facts,
        explainer: Explainer,
        summary: Summary,
        marks: FlapWatch,
    ) -> None:
        self._tracker = tracker
        self._monitor = monitor
        self._machine = machine
        self._facts = facts
        self._explainer = explainer
        self._summary = summary
        self._marks = marks

    def routes(self) -> Sequence[Route]:
        """Return the routes of these handlers."""
        return (
            Route("GET", "/components", Role.READER, self.list_page),
            Route("GET", "/components/<name>", Role.READER, self.one),
            Route("GET", "/summary", Role.READER, self.summary),
            Route("GET", "/tree", Role.READER, self.tree),
            Route("POST", "/forget", Role.OPERATOR, self.forget),
        )

    def list_page(self, request: Request) -> _Later:
        """Return a page of the components that the query parameters select, in natural order.

        Raise `Problem` 400 if a parameter is invalid.
        """
        known = ("state", "type", "under", "flapping", "names", "limit", "after")
        parameters = read_parameters(request, known)
        states = _read_words(parameters.get("state"), "state", _STATES)
        selection = Selection(
            None if states is None else states - {None},
            states is not None and None in states,
            _read_words(parameters.get("type"), "type", _TYPES),
            read_under(parameters),
            None,
            _read_after(parameters.get("after")),
            _read_flapping(parameters.get("flapping")),
        )
        return self._page(
            _limited(request), selection, parameters.get("names"), read_limit(parameters)
        )

    async def _page(
        self, request: LimitedRequest, selection: Selection, nodeset: str | None, most: int
    ) -> Reply:
        turn, unknown = request.turn, list[str]()
        hold(request, ROW_SIZE * most)
        if nodeset is not None:
            named = await read_names([nodeset], self._tracker, request, "Parameter names")
            names, unknown = named.xnames(), named.unknown
            for portion in portions(iter(names), _NAMES_AT_ONCE):
                unknown += [name for name in portion if name not in self._tracker]
                await turn()
            selection = selection._replace(names=names)
        found, after = await select(
            self._tracker, self._machine, self._marks, selection, most, turn
        )
        pages = []
        for start in range(0, len(found), _ROWS_AT_ONCE):
            if start:
                await turn()
            rows = map(self._facts.describe, found[start : start + _ROWS_AT_ONCE])
            pages.append(encode([row for row in rows if row is not None]))
        folded = await fold_many(unknown, turn)
        return rows_reply("Components", pages, {"Next": after, "Unknown": folded})

    async def one(self, request: Request, name: str) -> Reply:
        """Return all that hbtd knows about a component, and the reason for its state.

        `name` is an xname, or a NID or host name that the component has sent. Raise `Problem` 400
        if there are query parameters, or if several components have sent the name, 404 if there is
        no such component, and 503 if the log of transitions can't be read, or if there is not
        enough memory for the search.
        """
        read_parameters(request, ())
        limited = _limited(request)
        found, _ = await resolve(self._tracker, [name], limited.turn, partial(hold, limited))
        xnames = found.get(name, [])
        if len(xnames) > 1:
            raise Problem(
                400,
                f"{printable(name)} is what {len(xnames)} components call"
                f" themselves: {fold(xnames[:_MOST_NAMED])}; give an xname",
            )
        try:
            told = await self._explainer.explain(xnames[0], _MOST_TRANSITIONS) if xnames else None
        except StoreUnusable as error:
            raise Problem(503, f"The log of transitions can't be read: {error}") from None
        if told is None:
            raise Problem(404, f"No component {printable(name)} is tracked, nor is it in the log")
        return ascii_reply(told)

    async def summary(self, request: Request) -> Reply:
        """Return the numbers of components by state, and the largest silent parts of the machine.

        Raise `Problem` 400 if there are query parameters, and 503 if there is not enough memory for
        the answer.
        """
        read_parameters(request, ())
        tracker = self._tracker
        tracked = len(tracker)
        hold(_limited(request), _SUMMARY_SIZE + _SUMMARY_SIZE_OF_EACH * tracked)
        return ascii_reply(await self._summary.summarise(_limited(request).turn))

    def tree(self, request: Request) -> _Later:
        """Return a page of the parts of the machine that have a silent component.

        The reply also has the numbers of components by state. Raise `Problem` 400 if a parameter is
        invalid.
        """
        parameters = read_parameters(request, ("under", "limit", "after"))
        return self._tree(
            _limited(request),
            read_under(parameters),
            _read_after(parameters.get("after")),
            read_limit(parameters),
        )

    async def _tree(self, request: LimitedRequest, under: str, after: str, most: int) -> Reply:
        hold(request, ROW_SIZE * most + SILENCE_SIZE_OF_EACH * len(self._tracker))
        counts, parts, following = await silent_parts(
            self._machine, under, after, most, request.turn
        )
        shown = [part.show() for part in parts]
        return ascii_reply({"Counts": counts, "Parts": shown, "Next": following})

    def forget(self, request: Request) -> _Later:
        """Forget the components that the nodesets in the body name: stop tracking them.

        A host name or NID that several components have sent is ambiguous: the components that have
        sent it stay tracked, and the reply lists the name.

        Raise `Problem` 400, and forget nothing, if the body is not a JSON object with a list of
        nodesets, or if one of the nodesets is invalid.
        """
        try:
            body = read_json(request)
        except ValueError:
            body = None
        nodesets = body.get("XNames") if isinstance(body, dict) else None
        if not isinstance(nodesets, list) or not all(isinstance(x, str) for x in nodesets):
            raise Problem(400, "The body must be a JSON object with a list of nodesets, XNames")
        return self._forget(_limited(request), nodesets)

    async def _forget(self, request: LimitedRequest, nodesets: Sequence[str]) -> Reply:
        turn = request.turn
        named = await read_names(nodesets, self._tracker, request, "XNames")
        names, unknown = named.certain(), named.unknown
        forgotten: list[str] = []
        too_soon: list[str] = []
        try:
            for number, xname in enumerate(names):
                if number % _FORGOTTEN_AT_ONCE == _FORGOTTEN_AT_ONCE - 1:
                    await self._monitor.forgotten()  # commits have their turns, too
                    await turn()
                try:
                    before = self._monitor.forget_on_request(xname)
                except ForgottenLately:
                    too_soon.append(xname)
                else:
                    (unknown if before is None else forgotten).append(xname)
        except CancelledError:
            # The client has gone; what was done nevertheless has to be logged.
            change = (
                f"{_describe(forgotten, held=bool(too_soon))}; the client did not wait for more."
            )
            return Reply(200, change=change)
        ambiguous = named.ambiguous()
        reply = ascii_reply(
            {
                "Forgotten": len(forgotten),
                "XNames": await fold_many(forgotten, turn),
                "Unknown": await fold_many(unknown, turn),
                "TooSoon": await fold_many(too_soon, turn),
                "Ambiguous": await fold_many(ambiguous, turn),
            }
        )
        return reply._replace(change=f"{_describe(forgotten, held=bool(too_soon or ambiguous))}.")


def _describe(forgotten: Sequence[str], *, held: bool) -> str:
    """Return in words, for the log, which components were forgotten.

    `held` says whether some that were meant are tracked and could not be forgotten.
    """
    if not forgotten:
        return f"nothing changed, none {'could be forgotten' if held else 'was tracked'}"
    more = len(forgotten) - _MOST_LOGGED
    names = fold(islice(forgotten, _MOST_LOGGED)) + (f" and {more} more" if more > 0 else "")
    return f"{len(forgotten)} no longer tracked: {names}"


def _limited(request: Request) -> LimitedRequest:
    assert isinstance(request, LimitedRequest)
    return request


def _read_words(text: str | None, parameter: str, known: dict[str, Any]) -> Any:
    """Return the set of the values that `known` has for the words in `text`.

    `text` is the value of the query parameter named `parameter`: words separated by commas. Return
    `None` if `text` is `None`; raise `Problem` 400 if a word is not in `known`.
    """
    if text is None:
        return None
    words = [word.strip().lower() for word in text.split(",")]
    for word in words:
        if word not in known:
            allowed = ", ".join(known) if len(known) < 10 else "Node, NodeBMC, ChassisBMC, ..."
            raise bad(parameter, f"has '{printable(word)}'; it must be one or more of {allowed}")
    return frozenset(known[word] for word in words)


def _read_flapping(text: str | None) -> bool | None:
    if text is None:
        return None
    if text not in ("true", "false"):
        raise bad("flapping", "is neither true nor false")
    return text == "true"


def _read_after(text: str | None) -> str:
    if text is None:
        return ""
    xname = xnames.parse(text)
    if xname is None:
        raise bad("after", "is no value of Next in an answer")
    return xname
