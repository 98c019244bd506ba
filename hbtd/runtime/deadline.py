"""Deadlines: coroutines that are cancelled when they take too long."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

_T = TypeVar("_T")


class DeadlineExceeded(Exception):
    """Raised when work exceeds its time limit; the message states the limit in seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not done within {seconds:g} s")
        self.seconds = seconds


def bounded(
    clock: IReactorTime, seconds: float, work: Coroutine[Deferred[Any], Any, _T]
) -> Deferred[_T]:
    """Run a coroutine for at most `seconds` seconds of `clock`; return a Deferred of its result.

    The Deferred fails with `DeadlineExceeded` when the time is over, with `CancelledError` when the
    Deferred is cancelled, and otherwise with the exception that the coroutine raises. In the first
    two cases, the coroutine is cancelled. Its result or exception is then ignored, because HTTP
    libraries wrap the `CancelledError` in exceptions of their own. The Deferred does not wait for a
    coroutine that continues after it was cancelled.
    """
    given_up: Exception | None = None

    def give_up(why: Exception) -> None:
        nonlocal given_up
        given_up = why
        running.cancel()
        if not outcome.called:
            outcome.errback(why)

    def settle(result: _T | Failure) -> None:
        if timer.active():
            timer.cancel()
        if outcome.called:
            return
        if not isinstance(result, Failure):
            outcome.callback(result)
        elif given_up is None:
            outcome.errback(result)
        else:
            given_up.__cause__ = result.value
            outcome.errback(given_up)

    outcome: Deferred[_T] = Deferred(lambda _: give_up(CancelledError()))
    running = Deferred.fromCoroutine(work)
    timer = clock.callLater(seconds, lambda: give_up(DeadlineExceeded(seconds)))
    running.addBoth(settle)
    return outcome
