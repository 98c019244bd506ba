"""Handlers for reading and changing the operational parameters."""

from collections.abc import Sequence

from twisted.web.server import Request

from hbtd.api.routes import Role, Route
from hbtd.config.live_params import LiveParams, ParamsRefused, described, warnings
from hbtd.server.bodies import read_json
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply, json_reply


class Parameters:
    """The handlers of `/params`, which show and change the operational parameters."""

    def __init__(self, params: LiveParams) -> None:
        self._params = params

    def routes(self) -> Sequence[Route]:
        """Return the routes of these handlers."""
        return (
            Route("GET", "/params", Role.ANYONE, self.get),
            Route("PATCH", "/params", Role.OPERATOR, self.patch),
        )

    def get(self, request: Request) -> Reply:
        """Return the names and current values of all parameters."""
        return json_reply(self._params.current.rendered())

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
        headers = (("Warning", ", ".join(map(_warning, said))),) if said else ()
        change = ". ".join((described(old, params), *said))
        return json_reply(params.rendered())._replace(headers=headers, change=f"{change}.")


def _warning(text: str) -> str:
    """Return a value of the `Warning` header (RFC 7234 5.5): a code, an agent, and the text."""
    escaped = text.encode("unicode_escape").decode("ascii")
    # In a quoted string a backslash stands for the character after it.
    quoted = escaped.replace("\\", "\\\\").replace('"', '\\"')
    return f'199 hbtd "{quoted}"'
