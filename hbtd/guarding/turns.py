"""Long work in portions, between which the reactor does other work when some time has passed."""

from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

_T = TypeVar("_T")

_AT_ONCE: Final = 0.003
"""Seconds after which the reactor has to do other work."""


class Turns:
    """Lets the reactor do other work while a long sequence is gone through."""

    def __init__(self, clock: IReactorTime) -> None:
        """Begin to measure; the reactor has just done other work."""
        self._clock = clock
        self._began = clock.seconds()

    async def over(self, items: Sequence[_T], size: int) -> AsyncIterator[Sequence[_T]]:
        """Yield a sequence in portions of `size`; a portion should take a millisecond or two.

        Unlike `hbtd.runtime.portions`, this takes a turn of the reactor only after three
        milliseconds: a look at a million components would last for many seconds otherwise.
        """
        for start in range(0, len(items), size):
            if self._clock.seconds() - self._began >= _AT_ONCE:
                await self.take()
            yield items[start : start + size]

    async def take(self) -> None:
        """Let the reactor do other work now."""
        await deferLater(self._clock, 0)
        self._began = self._clock.seconds()
