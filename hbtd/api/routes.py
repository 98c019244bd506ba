"""What a route is, for the modules that have handlers and for the one that joins them."""

from collections.abc import Callable
from typing import NamedTuple

from hbtd.server.replies import Reply


class Route(NamedTuple):
    """A method and a path, relative to the API's prefixes, and who answers.

    The handler is called with the request and the path's variables as keyword arguments; what it
    raises becomes a problem document.
    """

    method: str
    path: str
    handler: Callable[..., Reply]
