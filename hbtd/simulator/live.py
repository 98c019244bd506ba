"""The mishaps of the live demonstration: failures of nodes and of parts of the machine."""

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
    """The line to print; `{}` stands for the name of the node or part of the machine that fails."""
    change: str
    """The command that makes the nodes fail: `kill` or `freeze`."""
    level: int
    """The type of the part of the machine that fails, as an index in `LEVELS`.

    See `hbtd.queries.machine.LEVELS`; `len(LEVELS)` stands for a single node.
    """
    seconds: tuple[float, float]
    """The shortest and the longest duration of such a mishap, in seconds."""
    weight: int
    """The frequency of this kind, relative to the other kinds."""


KINDS: Final = (
    Kind("{} crashes", "kill", _NODE, (20, 60), 8),
    Kind("{} is so busy that it sends nothing", "freeze", _NODE, (5, 7), 6),
    Kind("the blade {} is taken out", "kill", _SLOT, (25, 60), 3),
    Kind("the chassis {} loses power", "kill", _CHASSIS, (30, 90), 2),
    Kind("the switch of the cabinet {} restarts", "freeze", _CABINET, (5, 7), 1),
)


class Mishap(NamedTuple):
    """A failure of one node or one part of the machine, which ends after `seconds` seconds."""

    after: float
    """Seconds from the previous mishap to this one, or from the beginning of the series."""
    kind: Kind
    nodes: str
    """The nodes that fail, as a text for `hbtd.simulator.control.select`."""
    seconds: float
    """The duration of the mishap, in seconds."""


class Mishaps:
    """A random series of mishaps, which is the same for the same seed."""

    def __init__(self, names: Sequence[str], random: Random) -> None:
        """Begin a series for a fleet of the nodes `names`; `random` generates random numbers."""
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
