"""Handlers for probes, health, metrics, and the OpenAPI document."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import orjson
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics import exposition as openmetrics
from twisted.internet.defer import Deferred
from twisted.web.server import Request
from werkzeug.http import parse_accept_header

from hbtd import __version__
from hbtd.api.queries import hold
from hbtd.api.routes import Role, Route
from hbtd.queries.hindrances import show
from hbtd.queries.machine import SILENCE_SIZE_OF_EACH, Turn
from hbtd.server.problems import Problem
from hbtd.server.replies import JSON, Reply, json_reply
from hbtd.server.site import LimitedRequest
from hbtd.tracker.hindrances import Hindrance

_TEXT = exposition.CONTENT_TYPE_LATEST
_OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST


class HealthSources(NamedTuple):
    """The functions that `Health` calls for its answers."""

    store_ready: Callable[[], bool]
    """A function that returns whether the store can be used, and so whether hbtd is ready."""
    store: Callable[[], str]
    bus: Callable[[], str]
    hsm: Callable[[], str]
    overload: Callable[[], str | None] = lambda: None
    """A function that returns a text about an overload of hbtd; `None` if there is no overload."""
    reasons: Callable[[], Mapping[str, str]] = dict
    """A function that returns why parts of hbtd do not work, and since when.

    The result maps a field of the answer to `GET /health`, such as `MsgBusReason`, to a text.
    """
    before_metrics: Callable[[Turn], Coroutine[Deferred[Any], Any, None]] | None = None
    """A function that counts components for the metrics, before the metrics are read.

    It calls its argument and awaits the result between portions of the work, so that other requests
    have their turns.
    """
    components: Callable[[], int] = lambda: 0
    """A function that returns the number of tracked components.

    `before_metrics` counts all of them, which takes memory in proportion to this number.
    """
    hindrances: Callable[[], Sequence[Hindrance]] = list
    """A function that returns what hinders hbtd, or did so in the last minutes."""
    absent: Callable[[], str | None] = lambda: None
    """A function that returns a text about nodes that were never heard; `None` if there are none.
    """


class Health:
    """The handlers of probes, health, metrics and the OpenAPI document."""

    def __init__(self, sources: HealthSources, registry: CollectorRegistry) -> None:
        self._sources = sources
        self._registry = registry
        # Without the white space, which is half of it.
        document = orjson.loads(files("hbtd.api").joinpath("openapi.json").read_bytes())
        document["info"]["version"] = __version__
        self._document = orjson.dumps(document)

    def routes(self) -> Sequence[Route]:
        """Return the routes of these handlers."""
        return (
            Route("GET", "/liveness", Role.ANYONE, self.liveness),
            Route("GET", "/readiness", Role.ANYONE, self.readiness),
            Route("GET", "/health", Role.ANYONE, self.health),
            Route("GET", "/metrics", Role.READER, self.metrics),
            Route("GET", "/openapi.json", Role.ANYONE, self.openapi),
        )

    def root_routes(self) -> Sequence[Route]:
        """Return the routes that have no prefix: `/metrics`, where Prometheus looks by default."""
        return (Route("GET", "/metrics", Role.READER, self.metrics),)

    def liveness(self, request: Request) -> Reply:
        """Return a reply with status 204, which shows that the process is alive."""
        return Reply(204)

    def readiness(self, request: Request) -> Reply:
        """Return a reply with status 204 if the store can be used; raise `Problem` 503 otherwise.

        Without its store, hbtd can't do its work.
        """
        if not self._sources.store_ready():
            raise Problem(503, self._sources.store())
        return Reply(204)

    def health(self, request: Request) -> Reply:
        """Return texts about the state of the store, Kafka and HSM, for operators to read.

        If the store, Kafka or HSM does not work, one more text says why, and since when. If hbtd
        itself is overloaded, one more text describes the overload, and so it is with nodes that are
        absent. If anything hinders hbtd, or did so in the last minutes, a list describes that.
        """
        texts: dict[str, object] = {
            "KvStore": self._sources.store(),
            "MsgBus": self._sources.bus(),
            "HsmStatus": self._sources.hsm(),
            **self._sources.reasons(),
        }
        more = {"Overload": self._sources.overload(), "Absent": self._sources.absent()}
        texts |= {name: text for name, text in more.items() if text is not None}
        hindrances = [show(each) for each in self._sources.hindrances()]
        if hindrances:
            texts["Hindrances"] = hindrances
        return json_reply(texts)

    async def metrics(self, request: Request) -> Reply:
        """Return the metrics in Prometheus' text format, or in OpenMetrics if `Accept` says so.

        Raise `Problem` 503 if there is not enough memory to count components for the metrics.
        """
        if self._sources.before_metrics is not None:
            assert isinstance(request, LimitedRequest)
            hold(request, SILENCE_SIZE_OF_EACH * self._sources.components())
            await self._sources.before_metrics(request.turn)
        accept = request.getHeader(b"accept") or b""
        if _prefers_openmetrics(accept.decode("latin-1")):
            body, content_type = openmetrics.generate_latest(self._registry), _OPENMETRICS
        else:
            body, content_type = exposition.generate_latest(self._registry), _TEXT
        return Reply(200, body, content_type, (("Vary", "Accept"),))

    def openapi(self, request: Request) -> Reply:
        """Return the OpenAPI document of this API."""
        return Reply(200, self._document, JSON)


def _prefers_openmetrics(accept: str) -> bool:
    """Return whether an `Accept` header rates OpenMetrics at least as high as plain text."""
    wanted: dict[str, float] = {}
    for value, quality in parse_accept_header(accept):
        kind = value.partition(";")[0].strip().lower()
        wanted[kind] = max(quality, wanted.get(kind, 0.0))
    quality = wanted.get("application/openmetrics-text", 0.0)
    return quality > 0 and quality >= wanted.get("text/plain", 0.0)
