"""Quarantine: finds the components because of which HSM rejects updates, and sets them aside."""

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from hbtd.hsm.batch_size import BatchSize
from hbtd.hsm.outbox import Outbox
from hbtd.tracker.transitions import Judgement, Transition

IN_A_ROW = 32
"""Rejections in a row, or suspects, beyond which the components can't be to blame.

Halving a batch to find one culprit never takes so many without a success in between.
"""


class Culprit(NamedTuple):
    """A judgement that HSM rejected when it was sent alone, with the reason that HSM gave."""

    judgement: Judgement
    said: str


class Quarantine:
    """Chooses batches from an outbox so that rejections lead to the culprits.

    A rejected batch is halved until what is rejected is a single component. That one becomes a
    suspect and is held back until HSM accepts something else; then it is sent again, alone. A
    component rejected alone twice, with a success in between, is a culprit. So an HSM that rejects
    everything makes no culprits. Culprits are set aside; a new judgement on one is sent alone.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._halves: deque[list[Judgement]] = deque()
        self._suspects: dict[str, Culprit] = {}
        # For components rejected alone: the number of successes until then.
        self._rejected_alone: dict[str, int] = {}
        self._successes = 0
        self._in_a_row = 0
        self.set_aside: dict[str, Judgement] = {}
        """The last rejected judgement on each culprit, by xname."""

    def next_batch(self, sizes: Mapping[Transition, BatchSize]) -> list[Judgement]:
        """Return the next batch, all of one transition; empty if only suspects wait.

        Halves of rejected batches come first.
        """
        while self._halves:
            batch = [judgement for judgement in self._halves.popleft() if judgement in self._outbox]
            if batch:
                return batch
        for _ in Transition:
            waiting = iter(self._outbox.next_kind())
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
        """Note that HSM accepted a batch: suspects get another try."""
        self._in_a_row = 0
        self._successes += 1
        for judgement in batch:
            self.forget(judgement.component)
        self._halves.extend([suspect.judgement] for suspect in self._suspects.values())
        self._suspects.clear()

    def rejected(self, batch: list[Judgement], said: str) -> list[Culprit]:
        """Note that HSM rejected a batch; return the culprit that this proves, if any."""
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
        """Whether HSM has rejected so much in a row that the components can't be to blame."""
        return self._in_a_row > IN_A_ROW or len(self._suspects) > IN_A_ROW

    def acquit(self) -> None:
        """Clear all suspicion; the former suspects are sent last."""
        for suspect in self._suspects.values():
            if suspect.judgement in self._outbox:
                self._outbox.put(suspect.judgement)
        self._suspects.clear()
        self._halves.clear()
        self._in_a_row = 0

    def convict(self) -> list[Culprit]:
        """Set the suspects aside, as nothing else waits to be sent; return the new culprits."""
        suspects, self._suspects = self._suspects, {}
        return self._set_aside(list(suspects.values()))

    def reconsider(self) -> None:
        """Put what was set aside back into the outbox, to be tried again."""
        for judgement in self.set_aside.values():
            self._outbox.put_back(judgement)

    def forget(self, xname: str) -> None:
        """Forget all rejections of a component."""
        self._rejected_alone.pop(xname, None)
        self.set_aside.pop(xname, None)

    def _suspected(self, judgement: Judgement) -> bool:
        suspect = self._suspects.get(judgement.component)
        return suspect is not None and suspect.judgement is judgement

    def _set_aside(self, culprits: list[Culprit]) -> list[Culprit]:
        """Take culprits out of the outbox; return those that were not set aside before."""
        waiting = [culprit for culprit in culprits if culprit.judgement in self._outbox]
        new = [each for each in waiting if each.judgement.component not in self.set_aside]
        for culprit in waiting:
            self._outbox.discard(culprit.judgement)
            self.set_aside[culprit.judgement.component] = culprit.judgement
        return new
