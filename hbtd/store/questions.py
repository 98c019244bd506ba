"""Limits how many questions about the past may delay a commit in the store's thread."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred

AT_ONCE: Final = 2
"""The most questions, or portions of questions, that a commit may have to wait for."""

_T = TypeVar("_T")


class Questions:
    """Passes questions about the past to the store's thread, in order, `AT_ONCE` at a time.

    The thread carries out one call after the other, and clients may ask any number of questions.
    Without a limit, a commit would wait for all questions that were asked before the commit.
    """

    def __init__(self) -> None:
        self._places = DeferredSemaphore(AT_ONCE)

    def ask(self, call: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        """Call `call`, which queries the store's thread, when its turn comes; return its result.

        Cancel the Deferred if the answer is no longer needed: a call that has not begun is then
        dropped. A call that has begun counts towards `AT_ONCE` until it ends, because it still
        occupies the thread.
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
