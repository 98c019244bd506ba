"""All routes of the API, with the handlers that answer them."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry

from hbtd.api.health import Health, HealthSources
from hbtd.api.heartbeats import Heartbeats
from hbtd.api.machine_page import MachinePage
from hbtd.api.params import Parameters
from hbtd.api.routes import Route
from hbtd.api.states import States
from hbtd.config.live_params import LiveParams
from hbtd.monitor import Monitor


class Handlers(Protocol):
    """A group of handlers, with their routes."""

    def routes(self) -> Sequence[Route]:
        """Return the routes of these handlers."""


class Routes(NamedTuple):
    """The routes that hbtd serves."""

    api: Sequence[Route]
    """The routes that are served under each path prefix of the API."""
    root: Sequence[Route]
    """The routes that are served at the root, without a path prefix."""


def make_routes(
    monitor: Monitor,
    params: LiveParams,
    sources: HealthSources,
    registry: CollectorRegistry,
    more: Iterable[Handlers] = (),
    times: Callable[[str], tuple[int, int]] | None = None,
) -> Routes:
    """Return the routes of all handlers, including the handlers in `more`.

    `times` returns the warntime and the errtime of a component; by default, the parameters.
    """
    health = Health(sources, registry)
    groups: Sequence[Handlers] = (
        Heartbeats(monitor),
        States(monitor),
        Parameters(params, times),
        health,
        *more,
    )
    root = [*health.root_routes(), *MachinePage().routes()]
    return Routes([route for group in groups for route in group.routes()], root)
