"""Finding out which components HSM refuses to hear of, without holding up the others."""

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from hbtd.hsm.batch_size import BatchSize
from hbtd.hsm.outbox import Outbox
from hbtd.tracker.transitions import Judgement, Transition

IN_A_ROW = 32
"""Halving a chunk to find one culprit never takes so many refusals without a success in between;
an HSM that goes on refusing does not object to names."""


class Culprit(NamedTuple):
    """A judgement that HSM refused by itself, and what it said."""

    judgement: Judgement
    said: str


class Quarantine:
    """Chooses what to send from an outbox so that refusals lead to the culprits.

    A refused chunk is halved until what is refused stands alone. Whoever does is a suspect and is
    left out until HSM accepts something else; then it is tried again, alone. Who is refused alone
    twice, with a success in between, is a culprit. So an HSM that refuses everything makes nobody a
    culprit. Culprits are set aside; when there is news of one it is sent alone.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._halves: deque[list[Judgement]] = deque()
        self._suspects: dict[str, Culprit] = {}
        # Who was refused alone, and how many successes there had been by then.
        self._refused_alone: dict[str, int] = {}
        self._successes = 0
        self._in_a_row = 0
        self.set_aside: dict[str, Judgement] = {}
        """The last judgement on each culprit that HSM refused."""

    def next_chunk(self, sizes: Mapping[Transition, BatchSize]) -> list[Judgement]:
        """Choose what to send: halves first, then by kind; nothing if only suspects are left."""
        while self._halves:
            chunk = [judgement for judgement in self._halves.popleft() if judgement in self._outbox]
            if chunk:
                return chunk
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

    def accepted(self, chunk: list[Judgement]) -> None:
        """Draw the conclusions from a success: suspects get another try."""
        self._in_a_row = 0
        self._successes += 1
        for judgement in chunk:
            self.forget(judgement.component)
        self._halves.extend([suspect.judgement] for suspect in self._suspects.values())
        self._suspects.clear()

    def refused(self, chunk: list[Judgement], said: str) -> list[Culprit]:
        """Draw the conclusions from a refusal; tells the culprit that it proves."""
        if len(chunk) > 1:
            self._in_a_row += 1
            half = len(chunk) // 2
            self._halves.extendleft((chunk[half:], chunk[:half]))
            return []
        culprit = Culprit(chunk[0], said)
        component = culprit.judgement.component
        before = self._refused_alone.setdefault(component, self._successes)
        if component in self.set_aside or before < self._successes:
            return self._set_aside([culprit])
        self._in_a_row += 1
        self._suspects[component] = culprit
        return []

    @property
    def refusing_everything(self) -> bool:
        """Whether HSM goes on refusing, so that the names can't be to blame."""
        return self._in_a_row > IN_A_ROW or len(self._suspects) > IN_A_ROW

    def acquit(self) -> None:
        """Suspect nobody; those who were come last."""
        for suspect in self._suspects.values():
            if suspect.judgement in self._outbox:
                self._outbox.put(suspect.judgement)
        self._suspects.clear()
        self._halves.clear()
        self._in_a_row = 0

    def nobody_else(self) -> list[Culprit]:
        """Take the suspects for culprits, as there is nobody else to send; tells who they are."""
        suspects, self._suspects = self._suspects, {}
        return self._set_aside(list(suspects.values()))

    def reconsider(self) -> None:
        """Give what was set aside another chance."""
        for judgement in self.set_aside.values():
            self._outbox.put_back(judgement)

    def forget(self, xname: str) -> None:
        """Have nothing against this component any more."""
        self._refused_alone.pop(xname, None)
        self.set_aside.pop(xname, None)

    def _suspected(self, judgement: Judgement) -> bool:
        suspect = self._suspects.get(judgement.component)
        return suspect is not None and suspect.judgement is judgement

    def _set_aside(self, culprits: list[Culprit]) -> list[Culprit]:
        """Take culprits out of the outbox; tells those that had not been set aside before."""
        there = [culprit for culprit in culprits if culprit.judgement in self._outbox]
        new = [each for each in there if each.judgement.component not in self.set_aside]
        for culprit in there:
            self._outbox.discard(culprit.judgement)
            self.set_aside[culprit.judgement.component] = culprit.judgement
        return new
