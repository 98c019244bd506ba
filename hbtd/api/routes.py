"""The type of routes, and the roles of their callers."""

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from hbtd.server.replies import Reply


class Role(Enum):
    """The role that the caller of a route must have (docs/protocol.md, "Access").

    The role is checked before the handler of the route is called.
    """

    ANYONE = "everyone, without credentials"
    READER = "everyone, or operators if reading is closed"
    NODE = "nodes, for their own components"
    NODE_OR_OPERATOR = "nodes, for their own components, and operators"
    OPERATOR = "operators"

    @property
    def concerns_component(self) -> bool:
        """Whether the permission to call a route depends on the component that the request names.

        The handler of such a route has one more keyword argument, `caller`, a `Caller`. Once the
        handler knows the component, it must call a `check_` method of `caller`.
        """
        return self in (Role.NODE, Role.NODE_OR_OPERATOR)


class Route(NamedTuple):
    """A route of the API: method and path, the role that a caller needs, and the handler.

    The handler is called with the request and, as keyword arguments, the variables in the path and,
    if the role concerns a component, the `caller`. It returns the reply or, if the work takes more
    than a moment, a coroutine that returns the reply (see `LimitedRequest.turn`). If the handler
    raises an exception, the answer is a problem document: for a `Problem` or a `Refused` with the
    status of the exception, for any other exception with status 500. A coroutine may not raise
    `Refused`.
    """

    method: str
    path: str
    """The path below the API's prefixes, in the syntax of werkzeug's rules."""
    role: Role
    handler: Callable[..., Reply | Coroutine[Deferred[Any], Any, Reply]]

    @property
    def changes(self) -> bool:
        """Whether requests to this route change something, so that hbtd logs who makes them."""
        return self.method != "GET" and self.role in (Role.OPERATOR, Role.NODE_OR_OPERATOR)
