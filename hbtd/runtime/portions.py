"""Long lists that are handled in portions, so that the reactor does other work in between."""

from collections.abc import AsyncIterator
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

_T = TypeVar("_T")


async def in_portions(clock: IReactorTime, items: list[_T], size: int) -> AsyncIterator[list[_T]]:
    """Yield the items of a list in order, at most `size` at a time.

    The reactor does other work before each portion. The list is emptied as it is read: making a
    list of 100,000 names takes milliseconds, and so does freeing it.
    """
    items.reverse()
    while items:
        await deferLater(clock, 0)
        portion = items[-size:]
        del items[-size:]
        portion.reverse()
        yield portion
