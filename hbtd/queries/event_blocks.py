"""What the event hub keeps in its ring: events as bytes, to be written to many readers."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hbtd.store.past import Selection


class Block(NamedTuple):
    """Successive events as bytes, with the numbers and the components of these events."""

    numbers: Sequence[int]
    names: Sequence[str]
    events: Sequence[bytes]
    whole: bytes
    """All events of the block, joined."""

    def select(self, selection: Selection, after: int) -> bytes:
        """Return, as bytes, the events about selected components with numbers above `after`."""
        if selection.everything and after < self.numbers[0]:
            return self.whole
        each = zip(self.numbers, self.names, self.events, strict=True)
        return b"".join(e for number, x, e in each if number > after and selection.includes(x))


class Notice:
    """One event that is about no entry of the log, as bytes, in the place of a block."""

    def __init__(self, last: int, event: bytes, concerns: Callable[[Selection], bool]) -> None:
        """Make a notice; `last` is the number of the entry after which it was made.

        `concerns(selection)` returns whether it concerns the readers of some components.
        """
        self.numbers: Sequence[int] = (last,)
        """The number of the entry after which it was made: so much has been read with it."""
        self._event = event
        self._concerns = concerns

    def select(self, selection: Selection, after: int) -> bytes:
        """Return the event if it concerns the readers of these components, whatever `after` is."""
        return self._event if self._concerns(selection) else b""
