"""Work that is done again and again, whatever happens."""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()

Work = Callable[[], Coroutine[Deferred[Any], Any, None] | None]


def periodic(clock: IReactorTime, work: Work) -> LoopingCall:
    """Make a `LoopingCall` on this clock that outlives what the work raises.

    What a plain one calls is called no more once it has failed. Neither overlaps: work that takes
    long is not begun again before it is done.
    """

    async def survive() -> None:
        try:
            going_on = work()
            if going_on is not None:
                await going_on
        except Exception:  # noqa: BLE001  # there is nobody else to tell, and a next time
            _log.failure("Something failed that is done again and again; it goes on in its time.")

    loop = LoopingCall(survive)
    loop.clock = clock
    return loop
