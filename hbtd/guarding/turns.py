"""Long work in portions, between which the reactor does other work when some time has passed."""

from collections.abc import AsyncIterator, Generator, Sequence
from typing import Final, Generic, TypeVar

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
            await self.take_if_due()
            yield items[start : start + size]

    async def take_if_due(self) -> None:
        """Let the reactor do other work now, if three milliseconds have passed."""
        if self._clock.seconds() - self._began >= _AT_ONCE:
            await self.take()

    async def take(self) -> None:
        """Let the reactor do other work now."""
        await deferLater(self._clock, 0)
        self._began = self._clock.seconds()


class Steps(Generic[_T]):
    """Runs a generator, which yields between portions of the work, and keeps what it returns."""

    def __init__(self, steps: Generator[None, None, _T]) -> None:
        self._steps = steps
        self._result: list[_T] = []

    async def run(self, turns: Turns) -> _T:
        """Run it to its end, unless that has been done; return what it returns."""
        while self._step():
            await turns.take_if_due()
        return self._result[0]

    def finish(self) -> _T:
        """Run the rest at once, since somebody needs the result now; return it."""
        while self._step():
            pass
        return self._result[0]

    def _step(self) -> bool:
        """Run the next portion; return whether there is a further one."""
        if self._result:
            return False
        try:
            next(self._steps)
        except StopIteration as end:
            self._result.append(end.value)
            return False
        return True
