"""Probes, health, metrics, and the API's own description."""

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from twisted.web.server import Request

from hbtd.api.routes import Route
from hbtd.server.problems import Problem
from hbtd.server.replies import JSON, Reply, json_reply


class HealthSources(NamedTuple):
    """Where the health of hbtd and of its neighbours can be asked; texts are for people."""

    store_ready: Callable[[], bool]
    store: Callable[[], str]
    bus: Callable[[], str]
    hsm: Callable[[], str]


class Health:
    """Translates the questions of orchestrators, monitoring and people."""

    def __init__(self, sources: HealthSources, registry: CollectorRegistry) -> None:
        self._sources = sources
        self._registry = registry
        self._document = files("hbtd.api").joinpath("openapi.json").read_bytes()

    def routes(self) -> Sequence[Route]:
        """Tell what is answered here."""
        return (
            Route("GET", "/liveness", self.liveness),
            Route("GET", "/readiness", self.readiness),
            Route("GET", "/health", self.health),
            Route("GET", "/metrics", self.metrics),
            Route("GET", "/openapi.json", self.openapi),
        )

    def root_routes(self) -> Sequence[Route]:
        """Tell what is answered outside of the API's prefixes: where Prometheus looks first."""
        return (Route("GET", "/metrics", self.metrics),)

    def liveness(self, request: Request) -> Reply:
        """Tell that we answer."""
        return Reply(204)

    def readiness(self, request: Request) -> Reply:
        """Tell whether we can do our work, which takes a store that can be used."""
        if not self._sources.store_ready():
            raise Problem(503, self._sources.store())
        return Reply(204)

    def health(self, request: Request) -> Reply:
        """Tell people how we and our neighbours are."""
        return json_reply(
            {
                "KvStore": self._sources.store(),
                "MsgBus": self._sources.bus(),
                "HsmStatus": self._sources.hsm(),
            }
        )

    def metrics(self, request: Request) -> Reply:
        """Give Prometheus its numbers."""
        return Reply(200, generate_latest(self._registry), CONTENT_TYPE_LATEST)

    def openapi(self, request: Request) -> Reply:
        """Give the OpenAPI document of this API."""
        return Reply(200, self._document, JSON)
