"""The result of a comparison of HSM's table, and its text in the log."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from hbtd.formats.counts import counted
from hbtd.formats.nodesets import count_names
from hbtd.hsm.difference import Decision, Difference, Differences

_NAMED: Final = 500
"""The most components of a kind that a line of the log names."""


@dataclass
class Report:
    """The result of a comparison of HSM's table with the tracker, and what is done about it.

    The table is read twice for a comparison; the readings are called the first and the second look.
    """

    number: int
    """The number of the comparison; the first one since this process started is 1."""
    at: float
    """The Unix time at which the first look began."""
    dry_run: bool = False
    """Whether the comparison was requested only for its result, so that HSM is told nothing."""
    nosm: bool = False
    """Whether HSM is told nothing because the parameter `nosm` is set."""
    rows: int = 0
    """The number of rows that the second look read."""
    told: Differences = field(default_factory=Differences)
    """Differences that HSM is told of at once; in a dry run, those that it would be told of."""
    waiting: Differences = field(default_factory=Differences)
    """Differences that HSM is told of once the component has sent two more heartbeats."""
    held: Differences = field(default_factory=Differences)
    """Differences of dead components, if there are too many: more than `MOST_DEATHS` (100).

    HSM is told of them only at an operator's request.
    """
    contested: Differences = field(default_factory=Differences)
    """Differences that reappeared after HSM was told of them three times; HSM is not told again."""
    unsettled: Differences = field(default_factory=Differences)
    """Differences that HSM is not told of yet.

    An update of the component is on its way already, or this replica must first have listened for
    heartbeats for `errtime` seconds, or for the component's own.
    """
    unknown: Sequence[str] = ()
    """The xnames of components that send heartbeats, but are not in HSM's table."""

    def take(self, decision: Decision) -> None:
        """Set `told`, `waiting`, `held`, `contested` and `unsettled` according to a decision."""
        self.told = decision.deaths
        self.told.update(decision.warnings)
        self.waiting, self.held = decision.listen, decision.held
        self.contested, self.unsettled = decision.contested, decision.unsettled

    @property
    def differences(self) -> int:
        """The number of components whose state or flag in HSM's table does not fit the tracker."""
        groups = (self.told, self.waiting, self.held, self.contested, self.unsettled)
        return sum(map(len, groups))

    def trouble(self, contested: Collection[Difference]) -> str | None:
        """Return a phrase about differences that HSM is not told of; `None` if there are none.

        These are those in `contested`, which still last, and those in `held`. Of each group, the
        phrase says how many there are, names the first component, and says why HSM is not told.
        """
        phrases = [
            f"{counted(len(group), 'component')}, first {first.component} ({first.said}): {why}"
            for group, why in (
                (contested, "somebody else writes HSM's table"),
                (self.held, "dead, and not told without `hbtctl reconcile`: too many"),
            )
            for first in islice(group, 1)
        ]
        return "; ".join(phrases) or None

    def described(self) -> str:
        """Return a phrase that lists the differences by what is done about them; "" if none."""
        would = self.dry_run or self.nosm
        return "; ".join(
            f"{what}: {_count(group.components(_NAMED), len(group))}"
            for what, group in (
                ("would be told again" if would else "told again", self.told),
                (
                    "would be told again once heard twice"
                    if would
                    else "told again once heard twice",
                    self.waiting,
                ),
                ("more deaths than are told without `hbtctl reconcile`", self.held),
                ("contested, left alone", self.contested),
                (
                    "being told already, or decided once this replica has listened for Errtime",
                    self.unsettled,
                ),
            )
            if group
        )

    def described_unknown(self) -> str:
        """Return the components in `unknown` as a phrase; "" if there are none."""
        names = self.unknown
        return _count(names[:_NAMED], len(names)) if names else ""


def _count(names: Sequence[str], number: int) -> str:
    """Return names for a line of the log, of which the first may stand for all."""
    if number <= len(names):
        return count_names(names)
    return f"{counted(number, 'component')}, the first {count_names(names)}"
