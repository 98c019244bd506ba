"""What happens in the live demonstration: mishaps of a machine room, one after the other."""

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from hbtd.formats.nodesets import natural_key
from hbtd.queries.machine import LEVELS, part_of

_PAUSE: Final = 2.0, 7.0
"""The least and the most seconds between two mishaps."""

_CABINET, _CHASSIS, _SLOT = range(len(LEVELS))
_NODE: Final = len(LEVELS)


class Kind(NamedTuple):
    """A kind of mishap, such as the crash of a node."""

    text: str
    """What to say about it; `{}` is where."""
    change: str
    """What it does to nodes: `kill` or `freeze`."""
    level: int
    """What it strikes: a node, or a part of the machine of this level."""
    seconds: tuple[float, float]
    """The least and the most seconds for which it lasts."""
    weight: int
    """How often it happens, compared with the other kinds."""


KINDS: Final = (
    Kind("{} crashes", "kill", _NODE, (20, 60), 8),
    Kind("{} is so busy that it sends nothing", "freeze", _NODE, (5, 7), 6),
    Kind("the blade {} is taken out", "kill", _SLOT, (25, 60), 3),
    Kind("the chassis {} loses power", "kill", _CHASSIS, (30, 90), 2),
    Kind("the switch of the cabinet {} restarts", "freeze", _CABINET, (5, 7), 1),
)


class Mishap(NamedTuple):
    """A mishap that strikes one node or one part of the machine, and passes after a while."""

    after: float
    """Seconds from the mishap before this one, or from the start, to this one."""
    kind: Kind
    nodes: str
    """The nodes, as `hbtd.simulator.control.select` reads them."""
    seconds: float
    """How long it lasts."""


class Mishaps:
    """A random series of mishaps, which is the same for the same seed."""

    def __init__(self, names: Sequence[str], random: Random) -> None:
        """Begin a series for a fleet of the nodes `names`; `random` returns the random numbers."""
        self._random = random
        self._places = [
            sorted({part_of(name, level) for name in names} - {""}, key=natural_key)
            for level in range(len(LEVELS))
        ]
        self._places.append(list(names))

    def draw(self) -> Mishap:
        """Return the next mishap of the series."""
        random = self._random
        (kind,) = random.choices(KINDS, [kind.weight for kind in KINDS])
        nodes = random.choice(self._places[kind.level])
        return Mishap(random.uniform(*_PAUSE), kind, nodes, random.uniform(*kind.seconds))
