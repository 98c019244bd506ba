"""The operational parameters, to see and to change."""

from collections.abc import Sequence

from twisted.web.server import Request

from hbtd.api.authorization import Authorization
from hbtd.api.routes import Route
from hbtd.config.params import LiveParams, ParamsRefused
from hbtd.server.bodies import read_json
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply, json_reply


class Parameters:
    """Translates requests about parameters."""

    def __init__(self, params: LiveParams, guard: Authorization) -> None:
        self._params = params
        self._authorization = guard

    def routes(self) -> Sequence[Route]:
        """Tell what is answered here."""
        return (
            Route("GET", "/params", self.get),
            Route("PATCH", "/params", self.patch),
        )

    def get(self, request: Request) -> Reply:
        """Show all parameters."""
        return json_reply(self._params.current.rendered())

    def patch(self, request: Request) -> Reply:
        """Change some parameters, and show all."""
        self._authorization.operator(request)
        try:
            changes = read_json(request)
        except ValueError:
            changes = None
        if not isinstance(changes, dict):
            raise Problem(400, "Invalid JSON data type")
        try:
            params = self._params.patch(changes)
        except ParamsRefused as refused:
            raise Problem(400, str(refused)) from None
        return json_reply(params.rendered())
