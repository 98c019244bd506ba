"""Heartbeats over real sockets, where writes are cut short and records come in pieces."""

from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase

from hbtd.net.tls import TrustAnybody
from tests.support.http_memory import BEAT, head, parse_responses
from tests.support.running import reactor, start_hbtd, until

GET = head("GET /v1/openapi.json")


class Client(Protocol):
    """Says something, and keeps what it hears."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.heard = b""
        self.ended = False

    def connectionMade(self) -> None:
        """Say it."""
        assert self.transport
        self.transport.write(self._says)

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        """Note the end."""
        self.ended = True


class SocketTests(TestCase):
    """The whole service, plain and over TLS."""

    timeout = 120

    def connect(self, says: bytes, **params: Any) -> Deferred[Client]:
        """Start hbtd, and connect to it."""
        hbtd = start_hbtd(self, **params)
        self.service = hbtd.service
        port = hbtd.service.port.getHost().port
        endpoint: Any = HostnameEndpoint(reactor, "localhost", port)
        if hbtd.service.params.current.tls:
            endpoint = wrapClientTLS(TrustAnybody().creatorForNetloc(b"localhost", port), endpoint)
        connected: Deferred[Client] = connectProtocol(endpoint, Client(says))
        return connected

    async def test_many_and_mixed(self) -> None:
        """Thousands of requests in one go, of both lanes, are answered in their order."""
        block = BEAT * 50 + GET + BEAT
        for tls in (False, True):
            client = await self.connect(block * 40 + BEAT, tls=tls)
            await until(lambda: self.service.tracker.beats == 51 * 40 + 1, 60)
            await until(lambda: client.heard.count(b"HTTP/1.1 200 ") == 52 * 40 + 1)  # noqa: B023
            lengths = [len(each.body) for each in parse_responses(client.heard)]
            size = max(lengths)
            self.assertEqual(lengths, ([0] * 50 + [size, 0]) * 40 + [0])
            assert client.transport
            client.transport.loseConnection()
            await until(lambda: client.ended)  # noqa: B023

    async def test_last_words(self) -> None:
        """A heartbeat that asks for the end of the connection is answered first."""
        for tls in (False, True):
            says = BEAT * 3 + BEAT.replace(b"Host:", b"Connection: close\r\nHost:") + BEAT
            client = await self.connect(says, tls=tls)
            await until(lambda: client.ended)  # noqa: B023
            answers = parse_responses(client.heard)
            self.assertEqual([each.status for each in answers], [200] * 4)
            self.assertEqual(answers[-1].headers["connection"], "close")
            await until(lambda: not len(self.service._connections))


class LimitTests(TestCase):
    """One connection too many."""

    timeout = 120

    async def test_closed_at_once(self) -> None:
        """It is closed before TLS begins; another that ends makes room for the next."""
        hbtd = start_hbtd(self, max_connections=1, tls=True)
        port = urlsplit(hbtd.url).port
        assert port

        async def connect(says: bytes, *, tls: bool) -> Client:
            endpoint: Any = HostnameEndpoint(reactor, "localhost", port)
            if tls:
                creator = TrustAnybody().creatorForNetloc(b"localhost", port)
                endpoint = wrapClientTLS(creator, endpoint)
            client: Client = await connectProtocol(endpoint, Client(says))
            return client

        first = await connect(BEAT, tls=True)
        await until(lambda: first.heard)
        second = await connect(BEAT, tls=False)
        await until(lambda: second.ended)
        self.assertEqual((second.heard, first.ended), (b"", False))
        self.assertEqual(hbtd.service.access.refusals.counts["connections"], 1)
        assert first.transport
        first.transport.loseConnection()
        await until(lambda: not len(hbtd.service._connections))
        self.assertEqual(await hbtd.beat(), 200)
