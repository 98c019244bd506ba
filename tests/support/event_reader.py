"""A client of `/events` over HTTP."""

from collections.abc import Sequence
from typing import Any

import orjson
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent

from tests.support.event_stream import EventStream
from tests.support.running import reactor


class EventReader(Protocol):
    """A client that reads events until the test ends, or the connection is lost."""

    transport: ITransport

    def __init__(self, test: TestCase) -> None:
        self._stream = EventStream()
        self._ended: Deferred[None] = Deferred()
        self._test = test

    async def connect(self, url: str) -> None:
        """Read what happens from now on to an hbtd at this base URL."""
        agent = Agent(reactor, connectTimeout=20)
        response = await agent.request(b"GET", f"{url}/hmi/v1/events".encode())
        self._test.assertEqual(response.code, 200)
        response.deliverBody(self)
        self._test.addCleanup(self.end)

    def dataReceived(self, data: bytes) -> None:
        """Parse events."""
        self._stream.feed(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note the end."""
        self._ended.callback(None)

    def end(self) -> Deferred[None]:
        """Disconnect; return a Deferred that fires once that is done."""
        if not self._ended.called:
            maybeDeferred(self.transport.loseConnection)
        return self._ended

    def count(self, kind: str) -> int:
        """Return the number of events of a type so far."""
        return sum(each.type == kind for each in self._stream.events)

    def read(self, kind: str) -> Sequence[Any]:
        """Return the data of the events of a type so far."""
        return [orjson.loads(each.data) for each in self._stream.events if each.type == kind]
