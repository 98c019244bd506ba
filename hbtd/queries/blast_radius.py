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
    """A part of the machine, with the numbers of its warned and of its dead components."""

    xname: str
    type: str
    start: int
    """The position in `Layout.order` of the first component in this part of the machine."""
    end: int
    """One more than the position of the last component in this part of the machine."""
    warned: int
    dead: int

    @property
    def total(self) -> int:
        """The number of all tracked components in this part."""
        return self.end - self.start

    @property
    def silent(self) -> int:
        """The number of the components in this part that are warned about or dead."""
        return self.warned + self.dead

    @property
    def wholly(self) -> bool:
        """Whether this part is wholly silent: all of its components are silent."""
        return self.silent == self.total

    @property
    def mostly(self) -> bool:
        """Whether this part is mostly silent.

        That means that at least three quarters of its components, and at least two, are silent.
        """
        part, whole = _MOSTLY
        return self.silent >= _FEWEST and self.silent * whole >= self.total * part


async def find_silent_groups(silence: Silence, turn: Turn) -> list[SilentGroup]:
    """Return the largest parts of the machine that are mostly silent.

    Parts with more silent components come first, and no part contains another. If nearly all silent
    components of a part are in one smaller part of it, the smaller part is returned: a chassis
    rather than its cabinet, if little else in the cabinet is silent. `turn` is awaited between
    portions of the work.
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
    """Return the parts, one level below a group, that are mostly silent or may contain such parts.

    Also return the number of silent components in the part with the most of them.
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
    """Return whether the silence of a group is mainly that of one of its parts.

    `most` is the number of silent components in the part with the most of them. The result is true
    if the group has no other silent components, or if `most` is at least three quarters of its
    silent components and the group is not wholly silent.
    """
    part, whole = _MOSTLY
    return most == group.silent or (not group.wholly and most * whole >= group.silent * part)


async def count_wholly_silent(silence: Silence, turn: Turn) -> dict[str, int]:
    """Return how many cabinets, chassis and slots are wholly silent, by type.

    Only parts of the machine with at least two components count. `turn` is awaited between
    portions of the work.
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
    """Return a `SilentGroup` for each cabinet, even if none of its components is silent."""
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
    """Return the index in `LEVELS` of the level below a group; `len(LEVELS)` if it is a slot."""
    return LEVELS.index(group.type) + 1 if group.type in LEVELS else 0


def _parts(silence: Silence, group: SilentGroup) -> list[SilentGroup]:
    """Return the parts of a group that are one level below it."""
    level = _below(group)
    if level == len(LEVELS):
        return []
    indices = silence.layout.parts(level, group.start, group.end)
    return [_group(silence, level, index) for index in indices]
