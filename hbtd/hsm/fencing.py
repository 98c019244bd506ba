"""Fencing: a replica that may no longer be the leader sends HSM no further updates."""

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IConsumer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer


class Fenced(Exception):
    """Raised when a request is not sent, because another replica may be the leader by now."""


@implementer(IAgent)
class FencedAgent:
    """A wrapper of an HTTP agent (`IAgent`) that sends no body while `may_send` returns false.

    An agent connects before it sends a request. Connecting can take long: the network may be down,
    or this process may be stopped or suspended. So `may_send` is called when the body is about to
    be sent. If another replica may lead by then, the server receives no body, and so no complete
    request. Requests without a body are always sent.
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

        If `may_send` returns false when the body is about to be sent, the Deferred fails with
        `RequestGenerationFailed`; one of its `reasons` is a failure with `Fenced`.
        """
        if bodyProducer is not None:
            bodyProducer = _FencedBody(bodyProducer, self._may_send)
        return self._agent.request(method, uri, headers, bodyProducer)


@implementer(IBodyProducer)
class _FencedBody:
    """A body producer whose `startProducing` fails with `Fenced` if `may_send` returns false."""

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
