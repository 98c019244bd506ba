"""Sees that nothing is sent to HSM that is no longer ours to say."""

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IConsumer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer


class TooLate(Exception):
    """What was to be sent is no longer ours to say."""


@implementer(IAgent)
class FencedAgent:
    """An agent that asks once more when a request with a body is about to go out.

    Between asking for a request and sending it there is the making of a connection, which may take
    long: the network may be away, and so may we, stopped or suspended. If by then it `may_send` no
    more, the server gets no body, and so no whole request.
    """

    def __init__(self, agent: IAgent, may_send: Callable[[], bool]) -> None:
        self._agent = agent
        self._may_send = may_send

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Do as the agent does; fails, wrapped by twisted.web, with `TooLate`."""
        if bodyProducer is not None:
            bodyProducer = _GuardedBody(bodyProducer, self._may_send)
        return self._agent.request(method, uri, headers, bodyProducer)


@implementer(IBodyProducer)
class _GuardedBody:
    """A body that is not sent when it is too late for that."""

    def __init__(self, body: IBodyProducer, may_send: Callable[[], bool]) -> None:
        self._body = body
        self._may_send = may_send
        self.length = body.length

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        if not self._may_send():
            return fail(TooLate("another replica may lead by now"))
        sent: Deferred[None] = self._body.startProducing(consumer)
        return sent

    def stopProducing(self) -> None:
        self._body.stopProducing()

    def pauseProducing(self) -> None:
        self._body.pauseProducing()

    def resumeProducing(self) -> None:
        self._body.resumeProducing()
