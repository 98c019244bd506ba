"""How often HSM was told of a component again because its table was wrong, within a day."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import orjson

from hbtd.tracker.transitions import Phase

NOTES: Final = "told-again"
"""The kind of the notes in the store that keep these counts; see `IStore.notes`."""

MOST: Final = 3
"""How often HSM is told again of one component within `DAY`, at most."""

DAY: Final = 86400.0
"""The time within which repetitions are counted, in seconds of the wall clock."""


class Telling(NamedTuple):
    """How often HSM was told again that a component is in a phase."""

    phase: Phase
    since: float
    """The Unix time at which the component entered the phase; 0 if not known."""
    times: tuple[float, ...]
    """The Unix times at which HSM was told again, of the day that ended with the last of them."""

    @property
    def contested(self) -> bool:
        """Whether HSM was told `MOST` times within `DAY`, so that it is not told again."""
        return len(self.times) >= MOST

    def is_about(self, phase: Phase, since: float) -> bool:
        """Return whether HSM was told of `phase`, entered at Unix time `since` (0 if not known)."""
        return self.phase is phase and (self.since == since or not (self.since and since))

    def as_text(self) -> str:
        """Return the text in which the store keeps this object; `read_telling` reads it."""
        return orjson.dumps([self.phase.value, self.since, *self.times]).decode()


def read_telling(text: str) -> Telling | None:
    """Return the telling that the text of a note describes; `None` if the text is invalid."""
    try:
        phase, since, *times = orjson.loads(text)
        return Telling(Phase(phase), float(since), tuple(float(each) for each in times))
    except (ValueError, TypeError):
        return None


class Tellings:
    """How often HSM was told again of each component.

    HSM is told again of a component three times a day at most. If its table is wrong once more
    after that, somebody else writes it: the component is contested, and is left alone until it
    changes.
    """

    def __init__(self, notes: Mapping[str, str] | None = None) -> None:
        """Begin with the notes from the store, texts by xname; by default with none."""
        self._tellings: dict[str, Telling] = {}
        self.read((notes or {}).items())

    def read(self, notes: Iterable[tuple[str, str]]) -> None:
        """Add notes from the store: pairs of an xname and a text. Invalid texts are ignored."""
        for name, text in notes:
            if (telling := read_telling(text)) is not None:
                self._tellings[name] = telling

    def __len__(self) -> int:
        return len(self._tellings)

    def allow(self, xname: str, phase: Phase, since: float, now: float) -> bool:
        """Return whether HSM may be told again that a component is in `phase`.

        `since` is the Unix time at which the component entered the phase, 0 if not known; `now` is
        the present Unix time.
        """
        telling = self._tellings.get(xname)
        return telling is None or not telling.is_about(phase, since) or not telling.contested

    def text(self, xname: str) -> str | None:
        """Return the text of the note of a component; `None` if HSM was not told of it again."""
        telling = self._tellings.get(xname)
        return None if telling is None else telling.as_text()

    def add(self, xname: str, phase: Phase, since: float, now: float) -> str:
        """Count that HSM was told again at the Unix time `now`; return the note's new text."""
        telling = self._tellings.get(xname)
        times: tuple[float, ...] = ()
        if telling is not None and telling.is_about(phase, since):
            # A clock that was set back has made no telling older, or undone.
            times = tuple(each for each in telling.times if each > now - DAY)
            since = since or telling.since
        telling = self._tellings[xname] = Telling(phase, since, (*times, now)[-MOST:])
        return telling.as_text()

    def outdated(self, now: float, current: Iterable[tuple[str, Phase, float]]) -> list[str]:
        """Forget outdated counts; return their components, whose notes can be deleted.

        `current` has components that have counts, each with its phase and the Unix time at which it
        entered the phase. Counts of another phase are outdated, and those of more than a day before
        `now`, unless the component is contested.
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
        """Return the xnames of the components that HSM was told of again."""
        return list(self._tellings)

    def contested(self) -> list[str]:
        """Return the xnames of the components that HSM was told of as often as is allowed."""
        return [xname for xname, each in self._tellings.items() if each.contested]
