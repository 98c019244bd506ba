"""All routes of the API, with the handlers that answer them."""

from collections.abc import Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from hbtd.api.health import Health, HealthSources
from hbtd.api.heartbeats import Heartbeats
from hbtd.api.params import Parameters
from hbtd.api.routes import Route
from hbtd.api.states import States
from hbtd.config.live_params import LiveParams
from hbtd.monitor import Monitor


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
) -> Routes:
    """Return all routes, with their handlers."""
    health = Health(sources, registry)
    groups = (Heartbeats(monitor), States(monitor), Parameters(params), health)
    return Routes([route for group in groups for route in group.routes()], health.root_routes())
