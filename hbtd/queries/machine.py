"""All tracked components in natural order, and the parts of the machine that contain them."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator
from heapq import merge
from itertools import islice
from re import compile as compile_pattern
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred, DeferredLock

from hbtd.formats.nodesets import natural_key
from hbtd.formats.xnames import PLACE
from hbtd.tracker.tracker import Tracker

Turn = Callable[[], Deferred[None]]
"""A function whose result is awaited between portions of work, so that other work has a turn."""

LEVELS: Final = ("Cabinet", "Chassis", "ComputeModule")
"""The types of parts of the machine, outermost first; `ComputeModule` includes router slots."""

_HEAD: Final = compile_pattern("[^0-9]*[0-9]*")
SILENCE_SIZE_OF_EACH: Final = 4
"""The memory needed to make a `Silence`, in bytes for each tracked component."""

_SORTED_AT_ONCE: Final = 2000
_FLAGGED_AT_ONCE: Final = 20_000
_FEW: Final = 500
"""The most names that are inserted into the order one by one."""


class Layout(NamedTuple):
    """The tracked components in natural order, and the positions of each part of the machine.

    A layout does not change: when components begin or cease to be tracked, a new one is made.
    """

    order: list[str]
    """The xnames of the components, in natural order."""
    starts: "tuple[array[int], ...]"
    """For each of `LEVELS`, an array of positions in `order`, each of a part's first component."""
    ends: "tuple[array[int], ...]"
    """For each of `LEVELS`, an array of positions in `order`, each just after the end of a part."""

    def name(self, level: int, index: int) -> str:
        """Return the xname of a part of the machine.

        `level` is an index in `LEVELS`, and `index` is one of the indices that `parts` returns.
        """
        return part_of(self.order[self.starts[level][index]], level)

    def parts(self, level: int, start: int, end: int) -> range:
        """Return the indices of the parts of a level that have components between two positions.

        `level` is an index in `LEVELS`. At least one component of each part is at a position in
        `order` from `start` to before `end`.
        """
        return range(bisect_right(self.ends[level], start), bisect_left(self.starts[level], end))


class Silence(NamedTuple):
    """The tracked components that are warned about, and those that are dead, at one moment."""

    layout: Layout
    warned: bytes
    """For each component in `layout.order`, a byte: 1 if it is warned about, else 0."""
    dead: bytes
    """For each component in `layout.order`, a byte: 1 if it is dead, else 0."""

    def counts(self, start: int, end: int) -> tuple[int, int]:
        """Return how many components are warned about, and how many are dead.

        Only components at positions from `start` to before `end` in `layout.order` are counted.
        """
        return self.warned.count(1, start, end), self.dead.count(1, start, end)


def part_of(xname: str, level: int) -> str:
    """Return the xname of the part of the machine that contains, or is, the component `xname`.

    `level` is the index in `LEVELS` of the type of the part. The result is empty if the component
    is in no such part.
    """
    match = PLACE.match(xname)
    return xname[: match.end(level + 1)] if match and match[level + 1] else ""


class Machine:
    """Keeps the natural order of all tracked components.

    If a component has begun or ceased to be tracked, the next call of a method updates the order
    first. The methods await `turn` between portions of the work.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._lock = DeferredLock()
        self._population = -1
        self._order: list[str] = []
        self._layout = Layout(self._order, (), ())

    async def order(self, turn: Turn) -> list[str]:
        """Return the xnames of all tracked components in natural order.

        The caller must not change the list. `turn` is awaited between portions of the work.
        """
        if self._population != self._tracker.population:
            await self._lock.acquire()
            try:
                if self._population != self._tracker.population:
                    await self._update(turn)
            finally:
                self._lock.release()
        return self._order

    async def layout(self, turn: Turn) -> Layout:
        """Return all tracked components, and the parts of the machine that contain them.

        `turn` is awaited between portions of the work.
        """
        order = await self.order(turn)
        if self._layout.order is not order or not self._layout.starts:
            self._layout = await _lay_out(order, turn)
        return self._layout

    async def silence(self, turn: Turn) -> Silence:
        """Return which components are silent: those that are warned about or dead.

        `turn` is awaited between portions of the work.
        """
        layout = await self.layout(turn)
        warned, dead = bytearray(), bytearray()
        for start in range(0, len(layout.order), _FLAGGED_AT_ONCE):
            if start:
                await turn()
            names = layout.order[start : start + _FLAGGED_AT_ONCE]
            for flags, more in zip((warned, dead), self._tracker.silence_flags(names), strict=True):
                flags += more
        return Silence(layout, bytes(warned), bytes(dead))

    async def alarming(self, silence: Silence, turn: Turn) -> Silence:
        """Return which of the silent components of `silence` are not in maintenance.

        `turn` is awaited between portions of the work.
        """
        if not self._tracker.spares:
            return silence
        order, flags = silence.layout.order, (bytearray(silence.warned), bytearray(silence.dead))
        for start in range(0, len(order), _FLAGGED_AT_ONCE):
            if start:
                await turn()
            for number, name in enumerate(order[start : start + _FLAGGED_AT_ONCE], start):
                if self._tracker.is_spared(name):
                    flags[0][number] = flags[1][number] = 0
        return Silence(silence.layout, bytes(flags[0]), bytes(flags[1]))

    async def _update(self, turn: Turn) -> None:
        """Update the order to the components that are tracked when this is called.

        `turn` is awaited between portions of the work.
        """
        population = self._tracker.population
        names = self._tracker.tracked()
        tracked: set[str] = set()
        for start in range(0, len(names), _FLAGGED_AT_ONCE):
            await turn()
            tracked.update(names[start : start + _FLAGGED_AT_ONCE])
        order: list[str] = []
        for start in range(0, len(self._order), _FLAGGED_AT_ONCE):
            await turn()
            some = self._order[start : start + _FLAGGED_AT_ONCE]
            kept = list(filter(tracked.__contains__, some))
            order += kept
            tracked.difference_update(kept)
        # What is left of `tracked` is new.
        new = await sort_names(tracked, turn)
        if len(new) <= _FEW:
            for number, name in enumerate(new):
                order.insert(bisect_left(order, natural_key(name), key=natural_key), name)
                if number % 50 == 49:
                    await turn()
        else:
            order = await _gather(merge(order, new, key=natural_key), turn) if order else new
        self._order, self._population = order, population


async def sort_names(names: Collection[str], turn: Turn) -> list[str]:
    """Return names in natural order; `turn` is awaited between portions of the work."""
    if len(names) <= _SORTED_AT_ONCE:
        return sorted(names, key=natural_key)
    # Cabinet by cabinet, which follow one another: that is less work than to merge.
    cabinets: dict[str, list[str]] = {}
    unsorted = iter(names)
    while portion := list(islice(unsorted, _SORTED_AT_ONCE)):
        for name in portion:
            head = _HEAD.match(name)
            cabinets.setdefault(head[0] if head else "", []).append(name)
        await turn()
    found: list[str] = []
    done = 0
    for cabinet in await _merge_sort(cabinets, turn):
        inside = cabinets[cabinet]
        done += len(inside)
        if done > _SORTED_AT_ONCE:
            done = 0
            await turn()
        found += await _merge_sort(inside, turn) if len(inside) > 1 else inside
    return found


async def _merge_sort(names: Collection[str], turn: Turn) -> list[str]:
    if len(names) <= _SORTED_AT_ONCE:
        return sorted(names, key=natural_key)
    runs: list[list[str]] = []
    unsorted = iter(names)
    while run := list(islice(unsorted, _SORTED_AT_ONCE)):
        run.sort(key=natural_key)
        runs.append(run)
        await turn()
    return await _gather(merge(*runs, key=natural_key), turn)


async def _gather(merged: Iterator[str], turn: Turn) -> list[str]:
    names: list[str] = []
    while portion := list(islice(merged, _SORTED_AT_ONCE)):
        names += portion
        await turn()
    return names


async def _lay_out(order: list[str], turn: Turn) -> Layout:
    """Return the layout of the components `order`, which are in natural order.

    `turn` is awaited between portions of the work.
    """
    starts = tuple(array("L") for _ in LEVELS)
    ends = tuple(array("L") for _ in LEVELS)
    inside = [""] * len(LEVELS)
    slot, beyond = "", 0
    for number, name in enumerate(order):
        if number % (_FLAGGED_AT_ONCE // 4) == 0:
            await turn()
        if slot and name.startswith(slot) and not name[beyond : beyond + 1].isdecimal():
            continue
        for level in range(len(LEVELS)):
            part = part_of(name, level)
            if part != inside[level]:
                if inside[level]:
                    ends[level].append(number)
                if part:
                    starts[level].append(number)
                inside[level] = part
        slot = inside[-1]
        beyond = len(slot)
    for level, part in enumerate(inside):
        if part:
            ends[level].append(len(order))
    return Layout(order, starts, ends)
