"""The quarantine: finds the components because of which HSM rejects updates; sets them aside."""

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from hbtd.hsm.batch_size import BatchSize
from hbtd.hsm.outbox import Outbox
from hbtd.tracker.transitions import Judgement, Transition

IN_A_ROW = 32
"""The number of rejections in a row, or of suspects, above which HSM itself is to blame.

Finding one culprit by halving a batch never takes that many rejections without a success.
"""


class Culprit(NamedTuple):
    """A judgement that HSM rejected when it was sent alone, with the reason that HSM gave."""

    judgement: Judgement
    said: str


class Quarantine:
    """Chooses batches from an outbox so that rejections lead to the culprits.

    A rejected batch is halved until HSM rejects a single component. This component becomes a
    suspect: it is held back until HSM accepts another batch, then sent again, alone. A component
    that is rejected alone twice, with a success in between, is a culprit; so there are no culprits
    while HSM rejects everything. Culprits are set aside; a new judgement on one is sent alone.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._halves: deque[list[Judgement]] = deque()
        self._suspects: dict[str, Culprit] = {}
        # For each component rejected alone: the number of batches accepted before that.
        self._rejected_alone: dict[str, int] = {}
        self._successes = 0
        self._in_a_row = 0
        self.set_aside: dict[str, Judgement] = {}
        """The last rejected judgement on each culprit, by xname."""

    def next_batch(self, sizes: Mapping[Transition, BatchSize]) -> list[Judgement]:
        """Return the next batch; it is empty if the outbox has no judgements but those on suspects.

        Halves of rejected batches come first. All judgements of a batch have the same transition,
        whose entry in `sizes` limits their number.
        """
        while self._halves:
            batch = [judgement for judgement in self._halves.popleft() if judgement in self._outbox]
            if batch:
                return batch
        for _ in Transition:
            waiting = iter(self._outbox.next_group())
            first = next((each for each in waiting if not self._suspected(each)), None)
            if first is None:
                continue
            if first.component in self.set_aside:
                return [first]
            others = (
                each
                for each in waiting
                if not self._suspected(each) and each.component not in self.set_aside
            )
            return [first, *islice(others, sizes[first.transition].size - 1)]
        return []

    def accepted(self, batch: list[Judgement]) -> None:
        """Note that HSM has accepted a batch; suspects are sent again next, each alone."""
        self._in_a_row = 0
        self._successes += 1
        for judgement in batch:
            self.forget(judgement.component)
        self._halves.extend([suspect.judgement] for suspect in self._suspects.values())
        self._suspects.clear()

    def rejected(self, batch: list[Judgement], said: str) -> list[Culprit]:
        """Note that HSM has rejected a batch, for the reason `said`.

        Return a list of the new culprit that this reveals, or an empty list.
        """
        if len(batch) > 1:
            self._in_a_row += 1
            half = len(batch) // 2
            self._halves.extendleft((batch[half:], batch[:half]))
            return []
        culprit = Culprit(batch[0], said)
        component = culprit.judgement.component
        before = self._rejected_alone.setdefault(component, self._successes)
        if component in self.set_aside or before < self._successes:
            return self._set_aside([culprit])
        self._in_a_row += 1
        self._suspects[component] = culprit
        return []

    @property
    def rejects_everything(self) -> bool:
        """Whether there were so many rejections in a row that components can't be to blame."""
        return self._in_a_row > IN_A_ROW or len(self._suspects) > IN_A_ROW

    def acquit(self) -> None:
        """Clear all suspects, because HSM rejects everything, and move them to the outbox's end."""
        for suspect in self._suspects.values():
            if suspect.judgement in self._outbox:
                self._outbox.put(suspect.judgement)
        self._suspects.clear()
        self._halves.clear()
        self._in_a_row = 0

    def convict(self) -> list[Culprit]:
        """Set all suspects aside, and return the new culprits.

        Call this when only suspects are left to send: there is no other batch that HSM could
        accept, which suspects wait for.
        """
        suspects, self._suspects = self._suspects, {}
        return self._set_aside(list(suspects.values()))

    def reconsider(self) -> None:
        """Put the judgements that were set aside back into the outbox, to be sent again."""
        for judgement in self.set_aside.values():
            self._outbox.put_back(judgement)

    def forget(self, xname: str) -> None:
        """Forget all rejections of a component, which is then no longer set aside."""
        self._rejected_alone.pop(xname, None)
        self.set_aside.pop(xname, None)

    def _suspected(self, judgement: Judgement) -> bool:
        suspect = self._suspects.get(judgement.component)
        return suspect is not None and suspect.judgement is judgement

    def _set_aside(self, culprits: list[Culprit]) -> list[Culprit]:
        """Move culprits from the outbox to `set_aside`; return those that are new there."""
        waiting = [culprit for culprit in culprits if culprit.judgement in self._outbox]
        new = [each for each in waiting if each.judgement.component not in self.set_aside]
        for culprit in waiting:
            self._outbox.discard(culprit.judgement)
            self.set_aside[culprit.judgement.component] = culprit.judgement
        return new
