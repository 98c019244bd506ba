"""Fencing: a replica that has lost the leadership sends HSM nothing more."""

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IConsumer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer


class Fenced(Exception):
    """A request was not sent, because another replica may be the leader by now."""


@implementer(IAgent)
class FencedAgent:
    """An agent that asks for permission just before it sends the body of a request.

    Connecting comes between making a request and sending it, and may take long: the network may be
    down, or this process stopped or suspended. If `may_send` returns false by then, the server gets
    no body, hence no complete request. Requests without a body are always sent.
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
        """Make a request with the wrapped agent.

        If it may not be sent, the Deferred fails with `RequestGenerationFailed` around `Fenced`.
        """
        if bodyProducer is not None:
            bodyProducer = _FencedBody(bodyProducer, self._may_send)
        return self._agent.request(method, uri, headers, bodyProducer)


@implementer(IBodyProducer)
class _FencedBody:
    """A body producer that fails instead of producing if it may not send any more."""

    def __init__(self, body: IBodyProducer, may_send: Callable[[], bool]) -> None:
        self._body = body
        self._may_send = may_send
        self.length = body.length

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        if not self._may_send():
            return fail(Fenced("another replica may lead by now"))
        sent: Deferred[None] = self._body.startProducing(consumer)
        return sent

    def stopProducing(self) -> None:
        self._body.stopProducing()

    def pauseProducing(self) -> None:
        self._body.pauseProducing()

    def resumeProducing(self) -> None:
        self._body.resumeProducing()
