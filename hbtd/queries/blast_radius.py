"""The blast radius: the largest parts of the machine that are wholly or mostly silent."""

from collections.abc import Sequence
from typing import NamedTuple

from hbtd.queries.machine import LEVELS, Silence, Turn

SYSTEM = "s0"
"""The xname of the whole machine."""

_MOSTLY = 3, 4
"""The part of a group's components, as a fraction, from which on the group is mostly silent."""

_FEWEST = 2
"""The fewest silent components that make a group."""

_AT_ONCE = 2000
_OPENED_AT_ONCE = 200
"""The most groups whose parts are counted before others have their turns."""


class SilentGroup(NamedTuple):
    """A part of the machine that is wholly or mostly silent."""

    xname: str
    type: str
    start: int
    """The position of its first component in the order of the layout."""
    end: int
    """The position after its last component."""
    warned: int
    dead: int

    @property
    def total(self) -> int:
        """The number of all its components."""
        return self.end - self.start

    @property
    def silent(self) -> int:
        """The number of its components that are warned about or dead."""
        return self.warned + self.dead

    @property
    def wholly(self) -> bool:
        """Whether all its components are silent."""
        return self.silent == self.total

    @property
    def mostly(self) -> bool:
        """Whether three quarters of its components or more are silent."""
        part, whole = _MOSTLY
        return self.silent >= _FEWEST and self.silent * whole >= self.total * part


async def find_silent_groups(silence: Silence, turn: Turn) -> list[SilentGroup]:
    """Return the largest groups that are mostly silent, those with most silent components first.

    None is in another one. If nearly all silent components of a group are in one part of it, that
    part is returned: a chassis rather than the cabinet in which little else is silent.
    """
    found: list[SilentGroup] = []
    waiting = [_group(silence, -1, 0)]
    seen = 0
    while waiting:
        group = waiting.pop()
        seen += 1
        if seen % _OPENED_AT_ONCE == 0:
            await turn()
        parts, most = _silent_parts(silence, group)
        if group.mostly and not _is_due_to_one(group, most):
            found.append(group)
        else:
            waiting += parts
    found.sort(key=lambda group: (-group.silent, group.start))
    return found


def _silent_parts(silence: Silence, group: SilentGroup) -> tuple[list[SilentGroup], int]:
    """Return the parts one level below a group in which, or in a part of which, most are silent.

    There may be some too many. Also return how many are silent in the part with most of them.
    """
    level = _below(group)
    layout, found, most = silence.layout, list[SilentGroup](), 0
    if level == len(LEVELS):
        return found, most
    warned, dead = silence.warned, silence.dead
    part, whole = _MOSTLY
    starts, ends = layout.starts[level], layout.ends[level]
    for index in layout.parts(level, group.start, group.end):
        # Counted before anything is made: there are very many slots, and few of them matter.
        start, end = starts[index], ends[index]
        silent = warned.count(1, start, end) + dead.count(1, start, end)
        most = max(most, silent)
        inner = level < len(LEVELS) - 1
        if silent >= _FEWEST and (inner or silent * whole >= (end - start) * part):
            found.append(_group(silence, level, index))
    return found, most


def _is_due_to_one(group: SilentGroup, most: int) -> bool:
    """Return whether a part of a group with `most` silent ones says it better that it is silent."""
    part, whole = _MOSTLY
    return most == group.silent or (not group.wholly and most * whole >= group.silent * part)


async def count_wholly_silent(silence: Silence, turn: Turn) -> dict[str, int]:
    """Return how many cabinets, chassis and slots are wholly silent, by type.

    A part of the machine counts if it has at least two components.
    """
    counts = dict.fromkeys(LEVELS, 0)
    waiting = list(_parts(silence, _group(silence, -1, 0)))
    seen = 0
    while waiting:
        group = waiting.pop()
        seen += 1
        if seen % _AT_ONCE == 0:
            await turn()
        if group.silent >= _FEWEST:
            counts[group.type] += group.wholly
            waiting += _parts(silence, group)
    return counts


def cabinets(silence: Silence) -> Sequence[SilentGroup]:
    """Return all cabinets, silent or not."""
    return _parts(silence, _group(silence, -1, 0))


def _group(silence: Silence, level: int, index: int) -> SilentGroup:
    layout = silence.layout
    if level < 0:
        name, kind, start, end = SYSTEM, "System", 0, len(layout.order)
    else:
        name, kind = layout.name(level, index), LEVELS[level]
        start, end = layout.starts[level][index], layout.ends[level][index]
    return SilentGroup(name, kind, start, end, *silence.counts(start, end))


def _below(group: SilentGroup) -> int:
    """Return the level of the parts of a group, which is that of no parts if it is a slot."""
    return LEVELS.index(group.type) + 1 if group.type in LEVELS else 0


def _parts(silence: Silence, group: SilentGroup) -> list[SilentGroup]:
    """Return the parts of a group that are one level below it."""
    level = _below(group)
    if level == len(LEVELS):
        return []
    indices = silence.layout.parts(level, group.start, group.end)
    return [_group(silence, level, index) for index in indices]
