"""Describes what the guard knows: disrupted failure domains, whose deaths wait, and statements."""

from collections.abc import Callable, Iterator
from math import inf
from typing import Any, Final, NamedTuple

from hbtd.config.live_params import LiveParams
from hbtd.formats.counts import counted
from hbtd.formats.nodesets import fold, within
from hbtd.formats.times import format_time
from hbtd.guard.disruptions import (
    Disrupted,
    Disruption,
    GuardMode,
    SilentMember,
)
from hbtd.guard.domains import DomainKind
from hbtd.guard.saved import load
from hbtd.guarding.live_guard import LiveGuard, settings_of
from hbtd.guarding.sharing import Sharing
from hbtd.guarding.statements import Statement, named
from hbtd.guarding.watching import limit_of
from hbtd.queries.machine import Turn
from hbtd.store.past import Selection
from hbtd.tracker.cohorts import ORDINARY, Deadlines
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker

MOST_NAMED: Final = 1000
"""The most members of a disruption that are named; `Away` counts all."""

_MOST_DISRUPTIONS: Final = 100
"""The most disruptions that the summary of the machine has."""

_INEXACT: Final = 2.0
"""Observed seconds by which the clocks of two replicas may disagree about a heartbeat."""


class Explanation(NamedTuple):
    """The disruption that explains why a component is silent. Times are Unix times, in seconds."""

    domain: str
    kind: DomainKind
    began: float
    """When it was found that the domain is disrupted."""
    until: float | None
    """Until when the component's death waits at most; `None` if it does not."""


class GuardFacts:
    """Describes what the guard knows, on the leader and on other replicas.

    A replica that does not lead knows the disruptions that the leader shares. It finds their
    members by their names and the times at which they were heard last.
    """

    def __init__(
        self,
        guard: LiveGuard,
        sharing: Sharing,
        tracker: Tracker,
        observed: ObservedClock,
        params: LiveParams,
        leader: Callable[[], str | None],
    ) -> None:
        """Make the object; `leader` returns the leader's name, or `None` if it is not known."""
        self._guard = guard
        self._sharing = sharing
        self._tracker = tracker
        self._observed = observed
        self._params = params
        self.leader = leader
        """A function that returns the name of the leader, or `None` if it is not known."""
        self._state: object = None
        self._shared: list[Disruption] = []

    @property
    def disrupted(self) -> dict[DomainKind, int]:
        """How many failure domains of each kind are disrupted now; 0 unless this replica leads."""
        numbers = dict.fromkeys(DomainKind, 0)
        for each in self._guard.rules.disruptions():
            numbers[each.kind] += 1
        return numbers

    @property
    def held(self) -> int:
        """The number of components whose deaths wait or would; 0 unless this replica leads."""
        return len(self._guard.rules.held)

    @property
    def stated(self) -> Iterator[tuple[DomainKind, int, int]]:
        """The kinds of domains, with how many disruptions began and ended while this one led."""
        stated = self._guard.stated
        for kind in DomainKind:
            yield kind, stated[kind, False], stated[kind, True]

    def explain(self, xname: str) -> Explanation | None:
        """Return the disruption, not ended, that explains a component's silence, if one does."""
        guard = self._guard
        if guard.leading:
            found = guard.rules.explanation(xname)
            if found is None:
                return None
            until = guard.rules.held.get(xname)
            unix = None if until is None else guard.unix(until)
            return Explanation(found.domain, found.kind, guard.unix(found.began), unix)
        disruption = self._shared_explanation(xname)
        if disruption is None:
            return None
        held = self._holding and self._tracker.phase(xname).living
        return Explanation(
            disruption.domain,
            guard.domains.kind(disruption.domain),
            guard.unix(disruption.began),
            guard.unix(disruption.until) if held else None,
        )

    def sentence(self, xname: str) -> str:
        """Return a sentence on the disruption that explains a component's silence, for operators.

        It begins with a blank; the result is empty if there is no such disruption.
        """
        found = self.explain(xname)
        if found is None:
            return ""
        text = f" It fell silent with much of {named(found.domain, found.kind)}, which is disrupted"
        text += f" since {format_time(found.began)}"
        if found.until is None:
            return f"{text}."
        return f"{text}: its death waits until {format_time(found.until)} at most."

    def of(self, xname: str) -> dict[str, object] | None:
        """Return the API's JSON object about that disruption; `None` if there is none."""
        found = self.explain(xname)
        if found is None:
            return None
        return {
            "Domain": found.domain,
            "Kind": found.kind.value,
            "At": format_time(found.began),
            "HeldUntil": None if found.until is None else format_time(found.until),
        }

    def trouble(self) -> str | None:
        """Return a text about what is disrupted, for `/health`; `None` if nothing is."""
        known = self._known()
        if not known:
            return None
        first, *more = known
        text = f"{first['Text']} since {first['At']}"
        return text + (f", and {counted(len(more), 'other failure domain')}" if more else "")

    def summary(self) -> list[dict[str, object]]:
        """Return what the summary of the machine says of disruptions, the earliest ones first."""
        fields = ("Domain", "Kind", "At", "Away", "Living", "Text")
        return [
            {
                **{field: each[field] for field in fields},
                "HeldUntil": each["Until"] if self._holding else None,
            }
            for each in self._known()[:_MOST_DISRUPTIONS]
        ]

    async def describe(self, turn: Turn) -> dict[str, Any]:
        """Return the API's JSON object about the guard; `turn` is awaited between portions."""
        params, rules = self._params.current, self._guard.rules
        known = self._known()
        for each in known:
            each["Held"] = each["XNames"] = None
            if self._guard.leading:
                await turn()
                names = rules.members(each["Domain"])
                each["Held"] = sum(name in rules.held for name in names)
                each["XNames"] = fold(names[:MOST_NAMED])
        return {
            "Mode": params.guard,
            "Share": params.guard_share,
            "Hold": params.guard_seconds,
            "Groups": self._guard.group_count,
            "Leading": self._guard.leading,
            "Leader": self.leader(),
            "Held": self.held if self._guard.leading else None,
            "Disruptions": known,
            "Statements": [show_statement(s) for s in reversed(self._sharing.state.statements)],
        }

    def _known(self) -> list[dict[str, Any]]:
        """Return what is known of each disruption, the earliest first, as the API shows it."""
        guard, known = self._guard, []
        rows: list[tuple[Disrupted | Disruption, int, int]] = []
        if guard.leading:
            rows += [(each, each.away, each.living) for each in guard.rules.disruptions()]
        else:
            counts = self._sharing.state.counts
            shared = (each for each in self._disruptions() if each.domain in counts)
            rows += [(each, *counts[each.domain]) for each in shared]
        for each, away, living in rows:
            kind = guard.domains.kind(each.domain)
            name = named(each.domain, kind)
            known.append(
                {
                    "Domain": each.domain,
                    "Kind": kind.value,
                    "At": format_time(guard.unix(each.began)),
                    "Since": format_time(guard.unix(each.start)),
                    "Until": format_time(guard.unix(each.until)),
                    "Away": away,
                    "Living": living,
                    "Includes": list(each.includes),
                    "Text": f"{name} is disrupted: {counted(away, 'member')} silent",
                }
            )
        return known

    @property
    def _holding(self) -> bool:
        return settings_of(self._params.current).mode is GuardMode.HOLD

    def _disruptions(self) -> list[Disruption]:
        """Return the disruptions, not ended, that the leader shares, on this replica's clock."""
        state = self._sharing.state
        if state is not self._state:
            then = self._observed.shown(self._sharing.age)
            found = [load(each, then, -inf) for each in state.disruptions]
            self._state = state
            self._shared = [each for each in found if each is not None and each.active]
        now = self._observed.now()
        return [each for each in self._shared if now < each.until]

    def _shared_explanation(self, xname: str) -> Disruption | None:
        disruptions, component = self._disruptions(), self._tracker.component(xname)
        if not disruptions or component is None:
            return None
        rule = self._tracker.rule(xname)
        if isinstance(rule, Deadlines) and rule.held:
            rule = ORDINARY  # held from when this replica led
        if rule is None or isinstance(rule, Deadlines):
            return None  # in maintenance, or judged anew: the leader does not count it, either
        params, since = self._params.current, component.last_heard
        limits = rule.over(params.warntime, params.errtime)
        limit = limit_of(component, *limits, self._guard.late)
        if self._observed.now() - since < limit:
            return None
        domains = self._guard.domains.of(xname)
        for each in disruptions:
            for at in (since, since - _INEXACT, since + _INEXACT):
                if each.explains(SilentMember(xname, at, limit, domains)):
                    return each
        return None


def show_statement(statement: Statement) -> dict[str, object]:
    """Return a statement of the guard as the API shows it."""
    ended, until = statement.ended, statement.until
    return {
        "Number": statement.number,
        "At": format_time(statement.at),
        "What": "disrupted" if ended is None else "ended",
        "Reason": None if ended is None else ended.value,
        "Domain": statement.domain,
        "Kind": statement.kind.value,
        "Began": format_time(statement.began),
        "Since": format_time(statement.since),
        "Until": None if until is None else format_time(until),
        "Away": statement.away,
        "Living": statement.living,
        "Includes": list(statement.includes),
        "Text": statement.in_words(),
    }


def concerns(statement: Statement) -> Callable[[Selection], bool]:
    """Return the function that says whether a statement concerns those who read of components."""
    domain = statement.domain
    everybody = statement.kind in (DomainKind.GROUP, DomainKind.SYSTEM)

    def check(selection: Selection) -> bool:
        if everybody or selection.everything:
            return True
        under = selection.under
        if under and not (within(under, domain) or within(domain, under)):
            return False
        return selection.names is None or any(within(name, domain) for name in selection.names)

    return check
