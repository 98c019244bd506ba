"""Clients that ask hbtd the same at intervals, from an address of their own."""

from collections import Counter
from typing import Any, cast
from urllib.parse import urlsplit

from httptools import HttpResponseParser
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from hbtd.net.tls import client_policy
from tests.support.running import reactor


def endpoint_from(url: str, source: str) -> IStreamClientEndpoint:
    """Return an endpoint that connects to a URL over TLS, from an address of this host."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    plain = TCP4ClientEndpoint(
        reactor, parts.hostname, parts.port, timeout=60, bindAddress=(source, 0)
    )
    creator = client_policy("insecure").creatorForNetloc(parts.hostname.encode(), parts.port)
    endpoint: IStreamClientEndpoint = wrapClientTLS(creator, plain)
    return endpoint


class Asker:
    """A client that sends a request every `period` seconds and measures the answers' latency.

    With `kept` all go over one connection, as long as that lasts; otherwise each has its own. With
    `overlapping` no request waits for the one before; otherwise one that is due meanwhile fails.
    A request without an answer within `patience` seconds fails, too.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        request: bytes,
        *,
        period: float,
        kept: bool = False,
        overlapping: bool = False,
        patience: float = 10.0,
    ) -> None:
        self.sent = 0
        """The number of requests that were due."""
        self.failures: Counter[str] = Counter()
        """Those that failed, by reason."""
        self.latencies: list[float] = []
        """Seconds from when each request was due to the end of its answer, or to its failure."""
        self.answered = 0.0
        """When the last 2xx answer came."""
        self._endpoint = endpoint
        self._request = request
        self._period = period
        self._kept = kept
        self._overlapping = overlapping
        self._patience = patience
        self._connection: _Connection | None = None
        self._running: set[Deferred[None]] = set()
        self._looping = LoopingCall(self._due)
        self._looping.clock = reactor
        self._starting: Any = None
        self._stopped = False

    def start(self, delay: float = 0.0) -> None:
        """Send the first request in `delay` seconds."""
        self._starting = reactor.callLater(delay, self._looping.start, self._period)

    async def finish(self) -> None:
        """Send nothing any more, and wait for the answers that are missing."""
        self._halt()
        while self._running:
            await deferLater(reactor, 0.1)

    def stop(self) -> None:
        """Send nothing any more, and disconnect; requests without an answer are withdrawn."""
        self._stopped = True
        self._halt()
        for each in list(self._running):
            each.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.transport.abortConnection()

    def _halt(self) -> None:
        if self._starting is not None and self._starting.active():
            self._starting.cancel()
        if self._looping.running:
            self._looping.stop()

    def _due(self) -> None:
        self.sent += 1
        if self._running and not self._overlapping:
            self.failures["last one unanswered"] += 1
            return
        asking = Deferred.fromCoroutine(self._ask())
        if not asking.called:
            self._running.add(asking)
            asking.addBoth(lambda _: self._running.discard(asking))

    async def _ask(self) -> None:
        due = reactor.seconds()
        try:
            exchange = Deferred.fromCoroutine(self._exchange())
            status = await exchange.addTimeout(self._patience, reactor)
        except Exception as error:  # noqa: BLE001  # whose kind is what is noted
            if self._stopped:
                self.sent -= 1  # it has been withdrawn
                return
            self.failures[type(error).__name__] += 1
        else:
            if 200 <= status < 300:
                self.answered = reactor.seconds()
            else:
                self.failures[f"status {status}"] += 1
        self.latencies.append(reactor.seconds() - due)

    async def _exchange(self) -> int:
        """Send the request, and return the status of the answer."""
        connection, self._connection = self._connection, None
        if connection is None or connection.lost:
            made: Any = await self._endpoint.connect(Factory.forProtocol(_Connection))
            connection = cast("_Connection", made)
        reusable = False
        try:
            status = await connection.ask(self._request)
            reusable = self._kept
        finally:
            if reusable:
                self._connection = connection
            else:
                connection.transport.abortConnection()
        return status


async def stop_all(askers: list[Asker]) -> None:
    """Stop clients, and wait until their connections are closed."""
    for each in askers:
        each.stop()
    await deferLater(reactor, 0.2)


class _Connection(Protocol):
    """A connection, with a request at a time."""

    transport: Any

    def __init__(self) -> None:
        self.lost = False
        self._parser = HttpResponseParser(self)
        self._status: int | None = None
        self._asked: Deferred[int] | None = None

    def ask(self, request: bytes) -> Deferred[int]:
        """Send a request; the Deferred fires with the status of the answer."""
        self._asked = Deferred()
        self.transport.write(request)
        return self._asked

    def dataReceived(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self._status is not None and self._asked is not None:
            asked, self._asked = self._asked, None
            status, self._status = self._status, None
            asked.callback(status)

    def on_message_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        if self._asked is not None:
            asked, self._asked = self._asked, None
            asked.errback(ConnectionLost())
