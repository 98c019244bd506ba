"""The table of long silences in memory, of stores that don't keep it in a file."""

from collections import deque
from collections.abc import Sequence
from itertools import islice

from hbtd.store.past import Noticed, SilencesThen, shortened
from hbtd.tracker.silences import MOST_KEPT, LongSilence


class MemorySilences:
    """A table of the latest long silences; see `IStore.keep_silences` and `IStore.silences`."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        """Make an empty table, which keeps at most `most` silences."""
        self._most = most
        self._silences: deque[LongSilence] = deque()
        # Silences have numbers, from 1 on: this is the last one's.
        self._last = 0
        self._whole_since: float | None = None
        self._noticed: list[Noticed] = []

    def keep(self, silences: Sequence[LongSilence], noticed: Noticed) -> None:
        """Add silences, and drop the oldest ones if there are too many."""
        self._silences.extend(silences)
        self._last += len(silences)
        since, missed, lost = noticed
        while len(self._silences) > self._most:
            lost = max(lost, self._silences.popleft().ended)
        if self._whole_since is None:
            self._whole_since = since
        self._whole_since = max(self._whole_since, lost)
        others = [each for each in self._noticed if each.since != since]
        self._noticed = shortened(sorted([*others, Noticed(since, missed)]), self._whole_since)

    def read(self, since: float, least: float, after: int, most: int) -> SilencesThen:
        """Return a portion of the silences that ended at `since` or later, the oldest first."""
        start = max(after - self._last + len(self._silences), 0)
        some = list(islice(self._silences, start, start + most))
        done = self._last - len(self._silences) + start + len(some)
        found = [each for each in some if each.ended >= since and each.seconds >= least]
        following = done if done < self._last else None
        return SilencesThen(found, following, self._whole_since, self._noticed)
