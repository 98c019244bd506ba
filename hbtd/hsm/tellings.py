"""Counts of how often HSM was told again of a component because HSM's table was wrong."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import orjson

from hbtd.tracker.transitions import Phase

NOTES: Final = "told-again"
"""The kind of the store's notes that keep how often HSM was told again; see `IStore.notes`."""

MOST: Final = 3
"""The maximum number of times that HSM is told again of one component within `DAY` seconds."""

DAY: Final = 86400.0
"""The period in which HSM is told again `MOST` times at most, in seconds of the wall clock."""


class Telling(NamedTuple):
    """How often HSM was told again that a component is in a phase."""

    phase: Phase
    since: float
    """The Unix time at which the component entered the phase; 0 if not known."""
    times: tuple[float, ...]
    """The Unix times at which HSM was told again; all are within `DAY` seconds of the last one."""

    @property
    def contested(self) -> bool:
        """Whether HSM was told `MOST` times within `DAY` seconds, so that it is not told again."""
        return len(self.times) >= MOST

    def is_about(self, phase: Phase, since: float) -> bool:
        """Return whether this object counts how often HSM was told of `phase`, entered at `since`.

        `since` is a Unix time; 0 stands for an unknown time, which counts as equal to any other.
        """
        return self.phase is phase and (self.since == since or not (self.since and since))

    def as_text(self) -> str:
        """Return this object as the text that the store keeps; `read_telling` reads the text."""
        return orjson.dumps([self.phase.value, self.since, *self.times]).decode()


def read_telling(text: str) -> Telling | None:
    """Return the `Telling` that the text of a note describes; `None` if the text is invalid."""
    try:
        phase, since, *times = orjson.loads(text)
        return Telling(Phase(phase), float(since), tuple(float(each) for each in times))
    except (ValueError, TypeError):
        return None


class Tellings:
    """Counts how often HSM was told again of each component.

    HSM is told again of a component three times a day at most. If HSM's table differs once more
    after that, somebody else seems to change the table: the component is contested, and HSM is not
    told again until the component changes.
    """

    def __init__(self, notes: Mapping[str, str] | None = None) -> None:
        """Make an object with the counts in `notes`; by default there are none.

        `notes` has the texts of notes from the store, by xname.
        """
        # As the store has them: texts are nothing that the garbage collector has to look at.
        self._notes: dict[str, str] = {}
        self.read((notes or {}).items())

    def read(self, notes: Iterable[tuple[str, str]]) -> None:
        """Add the counts in notes from the store: pairs of an xname and a text.

        Invalid texts are ignored.
        """
        self._notes.update(each for each in notes if read_telling(each[1]) is not None)

    def __len__(self) -> int:
        return len(self._notes)

    def _telling(self, xname: str) -> Telling | None:
        text = self._notes.get(xname)
        return None if text is None else read_telling(text)

    def allow(self, xname: str, phase: Phase, since: float, now: float) -> bool:
        """Return whether HSM may be told again that a component is in `phase`.

        `since` is the Unix time at which the component entered the phase, 0 if not known; `now` is
        the current Unix time.
        """
        telling = self._telling(xname)
        return telling is None or not telling.is_about(phase, since) or not telling.contested

    def text(self, xname: str) -> str | None:
        """Return the text of the store's note on a component.

        Return `None` if HSM was not told again of the component.
        """
        return self._notes.get(xname)

    def add(self, xname: str, phase: Phase, since: float, now: float) -> str:
        """Count that HSM was told again of a component, at the Unix time `now`.

        HSM was told that the component is in `phase`, which it entered at the Unix time `since` (0
        if not known). Return the new text of the store's note on the component.
        """
        telling = self._telling(xname)
        times: tuple[float, ...] = ()
        if telling is not None and telling.is_about(phase, since):
            # A clock that was set back has made no telling older, or undone.
            times = tuple(each for each in telling.times if each > now - DAY)
            since = since or telling.since
        text = self._notes[xname] = Telling(phase, since, (*times, now)[-MOST:]).as_text()
        return text

    def outdated(self, now: float, current: Iterable[tuple[str, Phase, float]]) -> list[str]:
        """Drop outdated counts; return the xnames of their components, whose notes can be deleted.

        `current` lists the components to check, each with its current phase and the Unix time at
        which it entered that phase. A count is outdated if it is about another phase. It is also
        outdated if HSM was told last more than a day before `now`, unless the component is
        contested.
        """
        gone = [
            xname
            for xname, phase, since in current
            if (telling := self._telling(xname)) is None
            or not telling.is_about(phase, since)
            or not (telling.contested or telling.times[-1:] > (now - DAY,))
        ]
        for xname in gone:
            self._notes.pop(xname, None)
        return gone
