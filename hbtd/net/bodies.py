"""The bodies of responses: bounded, read at once or portion by portion."""

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

_PORTION: Final = 16 * 1024
"""The most bytes that are passed on before the reactor does other work."""


class ResponseTooLarge(Exception):
    """Raised when a response is larger than allowed; the message says how large it may be."""


def read_body(response: IResponse, limit: int) -> Deferred[bytes]:
    """Return a Deferred that fires with the body of a response.

    The Deferred fails with `ResponseTooLarge` if the body has more than `limit` bytes, and with the
    connection's error if the connection is lost. Cancelling the Deferred closes the connection.
    """
    received = bytearray()
    body = _Body(received.extend, limit)
    response.deliverBody(body)
    return body.done.addCallback(lambda _: bytes(received))


def take_body(
    response: IResponse, take: Callable[[bytes], None], limit: int, clock: IReactorTime
) -> Deferred[None]:
    """Call `take` with each portion of a response's body as it arrives.

    A portion has 16 KiB at most. Before each portion, the reactor does other work, and nothing is
    read from the connection meanwhile. The Deferred fires at the end of the body. It fails with
    `ResponseTooLarge` if the body has more than `limit` bytes, with the connection's error if the
    connection is lost, and with the exception that `take` raises; `take` is not called after a
    failure. Cancelling the Deferred closes the connection.
    """
    body = _Portions(take, limit, clock)
    response.deliverBody(body)
    return body.done


class _Body(Protocol):
    """Passes on the body of a response as it arrives; the Deferred `done` fires at its end."""

    def __init__(self, take: Callable[[bytes], None], limit: int) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._close())
        self._take = take
        self._limit = limit
        self._left = limit

    def _close(self) -> None:
        if self.transport is not None:
            # Not loseConnection: over TLS, that waits for the answer of a server that may hang.
            IPushProducer(self.transport).stopProducing()

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._left -= len(data)
        if self._left < 0:
            self._fail(Failure(ResponseTooLarge(f"more than {self._limit} bytes")))
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        try:
            self._take(data)
        except Exception:  # noqa: BLE001  # it is passed on
            self._fail(Failure())

    def _fail(self, failure: Failure) -> None:
        self.done.errback(failure)
        self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(None)
        else:
            self.done.errback(reason)


class _Portions(_Body):
    """Passes on small portions, and reads on when it has passed on all that has arrived."""

    def __init__(self, take: Callable[[bytes], None], limit: int, clock: IReactorTime) -> None:
        super().__init__(take, limit)
        self._clock = clock
        self._arrived = b""
        self._busy = False
        self._lost: Failure | None = None

    def _pass_on(self, data: bytes) -> None:
        # Even a first portion waits: in chunked coding many of them may arrive at a time.
        self._arrived += data
        if not self._busy:
            self._busy = True
            IPushProducer(self.transport).pauseProducing()
            self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        portion, self._arrived = self._arrived[:_PORTION], self._arrived[_PORTION:]
        if portion and not self.done.called:
            super()._pass_on(portion)
        if self.done.called:
            return
        if self._arrived:
            self._clock.callLater(0, self._go_on)
            return
        self._busy = False
        if self._lost is not None:
            super().connectionLost(self._lost)
        else:
            IPushProducer(self.transport).resumeProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason
        if not self._busy:
            super().connectionLost(reason)
