"""Questions about the past: few at once, so that what is to be stored does not wait for many."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred

AT_ONCE: Final = 2
"""The most questions, or portions of questions, for which a commit may have to wait."""

_T = TypeVar("_T")


class Questions:
    """Calls functions that ask the store's thread, a few at once and in the order of asking.

    Clients ask as often as they like, and the thread carries out one call after the other. Without
    a limit, a commit would wait for all questions that were asked before.
    """

    def __init__(self) -> None:
        self._places = DeferredSemaphore(AT_ONCE)

    def ask(self, call: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        """Call a function when it is its turn; the Deferred fires with its result.

        Cancel the Deferred if nobody waits for the answer any more. A call that has begun still
        counts as one of the few until it has ended, because the thread is busy with it.
        """
        place = self._places.acquire()
        answer: Deferred[_T] = Deferred(lambda _: place.cancel())

        def end(result: Any) -> None:
            self._places.release()
            if not answer.called:
                answer.callback(result)

        # If the place is cancelled, nobody waits.
        place.addCallbacks(lambda _: maybeDeferred(call).addBoth(end), lambda _: None)
        return answer
