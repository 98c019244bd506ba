"""Limits the number of questions about the past for which a commit may have to wait."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred

AT_ONCE: Final = 2
"""The most questions about the past that are handed to the store's thread at a time.

A commit may have to wait until all of these questions are answered. If a question is answered in
portions, each portion counts as a question of its own.
"""

_T = TypeVar("_T")


class Questions:
    """Passes questions about the past to the store's thread, in order, `AT_ONCE` at a time.

    The thread carries out one call after the other, and clients may ask any number of questions.
    Without this limit, a commit would have to wait for all questions that were asked before it.
    """

    def __init__(self) -> None:
        self._places = DeferredSemaphore(AT_ONCE)

    def ask(self, call: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        """Call `call` as soon as fewer than `AT_ONCE` earlier calls are in progress.

        `call` asks the store's thread a question. The Deferred that `ask` returns fires with the
        answer, or fails with the error of `call`. The caller may cancel this Deferred when the
        answer is no longer needed. If `call` has not been called by then, it never is; otherwise it
        counts towards `AT_ONCE` until it ends, because it still occupies the thread.
        """
        place = self._places.acquire()
        answer: Deferred[_T] = Deferred(lambda _: place.cancel())

        def end(result: Any) -> None:
            self._places.release()
            if not answer.called:
                answer.callback(result)

        # If the place is cancelled, nobody waits for the answer.
        place.addCallbacks(lambda _: maybeDeferred(call).addBoth(end), lambda _: None)
        return answer
