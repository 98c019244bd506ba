"""Handlers for reading and changing the operational parameters."""

from collections.abc import Callable, Sequence
from urllib.parse import parse_qs

from twisted.web.server import Request

from hbtd.api.queries import bad
from hbtd.api.routes import Role, Route
from hbtd.config.live_params import LiveParams, ParamsRefused, described, warnings
from hbtd.formats import xnames
from hbtd.server.bodies import read_json
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply, json_reply


class Parameters:
    """The handlers of `/params`, which show and change the operational parameters."""

    def __init__(
        self, params: LiveParams, times: Callable[[str], tuple[int, int]] | None = None
    ) -> None:
        """Make the handlers.

        `times` returns the warntime and the errtime, in seconds, of a component, which is named by
        its xname; by default they are the parameters.
        """
        self._params = params
        self._times = times

    def routes(self) -> Sequence[Route]:
        """Return the routes of these handlers."""
        return (
            Route("GET", "/params", Role.ANYONE, self.get),
            Route("PATCH", "/params", Role.OPERATOR, self.patch),
        )

    def get(self, request: Request) -> Reply:
        """Return the names and current values of all parameters.

        If the query parameter `component` names a component, its own times take the place of
        `Warntime` and `Errtime`. Raise `Problem` 400 if it names none; other query parameters are
        ignored, as by the original hbtd.
        """
        rendered = self._params.current.rendered()
        component = _component(request)
        if component is not None and self._times is not None:
            warntime, errtime = self._times(component)
            rendered = {**rendered, "Warntime": str(warntime), "Errtime": str(errtime)}
        return json_reply(rendered)

    def patch(self, request: Request) -> Reply:
        """Change parameters as the body says; return all parameters.

        A `Warning` header names probable mistakes, such as unknown names. Raise `Problem` 400, and
        change nothing, if the body is not a JSON object or if one of the changes can't be made.
        """
        try:
            changes = read_json(request)
        except ValueError:
            changes = None
        if not isinstance(changes, dict):
            raise Problem(400, "Invalid JSON data type")
        old = self._params.current
        try:
            params = self._params.patch(changes)
        except ParamsRefused as refused:
            raise Problem(400, str(refused)) from None
        said = warnings(changes, params)
        change = ". ".join((described(old, params), *said))
        reply = json_reply(params.rendered())
        return reply._replace(headers=warning_headers(said), change=f"{change}.")


def _component(request: Request) -> str | None:
    """Return the component that the query of a request names; `None` if there is no query for one.

    Raise `Problem` 400 if it is no xname, or if there are several.
    """
    query = request.uri.partition(b"?")[2]
    if b"component=" not in query:
        return None
    found = parse_qs(query.decode("ascii", "replace"), keep_blank_values=True).get("component")
    if found is None:
        return None
    xname = xnames.parse(found[0]) if len(found) == 1 else None
    if xname is None:
        raise bad("component", "is to be one xname, such as x1000c0s0b0n0")
    return xname


def warning_headers(said: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the header of a reply that has warnings, `said`; without any, no header."""
    return (("Warning", ", ".join(map(_warning, said))),) if said else ()


def _warning(text: str) -> str:
    """Return a value of the `Warning` header (RFC 7234 5.5): a code, an agent, and the text."""
    escaped = text.encode("unicode_escape").decode("ascii")
    # In a quoted string a backslash stands for the character after it.
    quoted = escaped.replace("\\", "\\\\").replace('"', '\\"')
    return f'199 hbtd "{quoted}"'
