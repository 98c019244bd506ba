"""The parts of the machine that have silent components, as a tree with counts."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from hbtd.formats.nodesets import natural_key, within
from hbtd.queries.machine import LEVELS, Machine, Silence, Turn

_AT_ONCE = 1000
"""The most parts that are looked at before others have their turns."""


class Part(NamedTuple):
    """A part of the machine, with the numbers of its components by state."""

    xname: str
    type: str
    total: int
    warned: int
    dead: int

    def show(self) -> dict[str, object]:
        """Return this part as the API shows it."""
        return {"XName": self.xname, "Type": self.type, "Counts": show_counts(*self[2:])}


def show_counts(total: int, warned: int, dead: int) -> dict[str, int]:
    """Return the numbers of components in each state as the API shows them."""
    return {
        "healthy": total - warned - dead,
        "warned": warned,
        "dead": dead,
        "total": total,
    }


async def silent_parts(
    machine: Machine, under: str, after: str, most: int, turn: Turn
) -> tuple[dict[str, int], list[Part], str | None]:
    """Return the first `most` cabinets, chassis and slots that have silent components.

    The parts are in natural order, each before the parts that it contains. All come after the xname
    `after`. With an xname `under`, only that part of the machine and the parts in it are returned.
    Also return the numbers of components by state, in the part `under` or in the whole machine, and
    the xname after which to continue; `None` if there are no more. `turn` is awaited between
    portions of the work.
    """
    silence = await machine.silence(turn)
    order = silence.layout.order
    start, end = 0, len(order)
    if under:
        start = bisect_left(order, natural_key(under), key=natural_key)
        end = bisect_left(order, True, start, key=lambda name: not within(name, under))
    counts = show_counts(end - start, *silence.counts(start, end))
    found: list[Part] = []
    following = bisect_right(order, natural_key(after), key=natural_key) if after else 0
    for number, part in enumerate(_inside(silence, under, 0, start, end, following), start=1):
        if number % _AT_ONCE == 0:
            await turn()
        if part is None or (after and natural_key(part.xname) <= natural_key(after)):
            continue
        if len(found) == most:
            return counts, found, found[-1].xname
        found.append(part)
    return counts, found, None


def _inside(
    silence: Silence, under: str, level: int, start: int, end: int, following: int
) -> Iterator[Part | None]:
    """Yield the parts of a level and of all lower levels, each part before the parts in it.

    They have components, in the layout's order, at positions from `start` to before `end`. A part
    in which nothing is silent, or that ends before the position `following`, is left out with all
    parts in it; `None` is yielded once in its place. `None` is also yielded in place of a part that
    contains `under`, followed by the parts in it.
    """
    if level == len(LEVELS):
        return
    layout = silence.layout
    for index in layout.parts(level, start, end):
        begin, stop = layout.starts[level][index], layout.ends[level][index]
        warned, dead = silence.counts(begin, stop)
        if stop <= following or not warned + dead:
            yield None
            continue
        name = layout.name(level, index)
        shown = not under or within(name, under)
        yield Part(name, LEVELS[level], stop - begin, warned, dead) if shown else None
        yield from _inside(silence, under, level + 1, max(begin, start), min(stop, end), following)
