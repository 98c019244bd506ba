"""What HSM was told again because its table was wrong, and when that has to end."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import orjson

from hbtd.tracker.transitions import Phase

NOTES: Final = "told-again"
"""The kind of the notes in the store that keep tellings; see `IStore.notes`."""

MOST: Final = 3
"""How often HSM is told again of a component within `DAY`."""

DAY: Final = 86400.0
"""Seconds of the wall clock."""


class Telling(NamedTuple):
    """How often HSM was told again that a component is in a phase."""

    phase: Phase
    since: float
    """When the component entered the phase: the Unix time, 0 if not known."""
    times: tuple[float, ...]
    """The Unix times at which HSM was told again, within a day before the last one."""

    @property
    def contested(self) -> bool:
        """Whether HSM was told so often that somebody else must keep on saying something else."""
        return len(self.times) >= MOST

    def is_about(self, phase: Phase, since: float) -> bool:
        """Return whether a component that is in a phase has not changed since the tellings."""
        return self.phase is phase and (self.since == since or not (self.since and since))

    def as_text(self) -> str:
        """Return the text of the note that stores this."""
        return orjson.dumps([self.phase.value, self.since, *self.times]).decode()


def read_telling(text: str) -> Telling | None:
    """Return what a note of a telling says, `None` if it says nothing that can be understood."""
    try:
        phase, since, *times = orjson.loads(text)
        return Telling(Phase(phase), float(since), tuple(float(each) for each in times))
    except (ValueError, TypeError):
        return None


class Tellings:
    """What HSM was told again, by component.

    HSM is told again of a component three times a day at most. If its table is wrong once more
    after that, somebody else writes it: the component is contested, and is left alone until it
    changes.
    """

    def __init__(self, notes: Mapping[str, str] | None = None) -> None:
        """Take what the store has noted, by component; nothing by default."""
        self._tellings: dict[str, Telling] = {}
        self.read((notes or {}).items())

    def read(self, notes: Iterable[tuple[str, str]]) -> None:
        """Take more of what the store has noted: components and texts."""
        for name, text in notes:
            if (telling := read_telling(text)) is not None:
                self._tellings[name] = telling

    def __len__(self) -> int:
        return len(self._tellings)

    def allow(self, xname: str, phase: Phase, since: float, now: float) -> bool:
        """Return whether HSM may be told again of a component that is in a phase since a time.

        `since` and `now` are Unix times; `since` is 0 if not known.
        """
        telling = self._tellings.get(xname)
        return telling is None or not telling.is_about(phase, since) or not telling.contested

    def add(self, xname: str, phase: Phase, since: float, now: float) -> str:
        """Count a telling at the Unix time `now`; return the text of the note to store."""
        telling = self._tellings.get(xname)
        times: tuple[float, ...] = ()
        if telling is not None and telling.is_about(phase, since):
            # A clock that was set back has made no telling older, or undone.
            times = tuple(each for each in telling.times if each > now - DAY)
            since = since or telling.since
        telling = self._tellings[xname] = Telling(phase, since, (*times, now)[-MOST:])
        return telling.as_text()

    def outdated(self, now: float, current: Iterable[tuple[str, Phase, float]]) -> list[str]:
        """Forget what no longer counts, and return the components; their notes can be deleted.

        `current` has some components that have tellings, with their phases, and since when they
        are in these. What counts no longer are tellings of other phases, and those of a day ago,
        unless the component is contested.
        """
        gone = [
            xname
            for xname, phase, since in current
            if (telling := self._tellings.get(xname)) is None
            or not telling.is_about(phase, since)
            or not (telling.contested or telling.times[-1:] > (now - DAY,))
        ]
        for xname in gone:
            self._tellings.pop(xname, None)
        return gone

    def components(self) -> list[str]:
        """Return the components that HSM was told of once more, as its table was wrong."""
        return list(self._tellings)

    def contested(self) -> list[str]:
        """Return the components that HSM was told of as often as is allowed."""
        return [xname for xname, each in self._tellings.items() if each.contested]
