"""The oracle of the guard: what is one disruption, and whose death waits, by who beat when.

It shares no code with hbtd, and looks at a whole world when that is over. Silences that may lead to
deaths are cut into *clusters*, within which they began less than Errtime after each other. In each
cluster it goes through the moments in which a death is due, as hbtd looks before that for what is
disrupted (`tests.simulation.outages`). Where it can't be sure who counts as silent, since somebody
is just about to, or hbtd was disturbed, it tries all ways. Only if all of them have the same answer
the cluster is *clear*; otherwise it is *lenient*, which is counted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain, combinations
from math import inf
from typing import NamedTuple

from tests.simulation.guard_watch import Statement
from tests.simulation.outages import FEWEST, Domain, disrupted
from tests.simulation.silences import Silence, Silences

MOST_UNSURE = 6
"""The most nodes of which the oracle tries both whether they count as silent and not."""

EDGE = 0.3
"""Seconds by which what the oracle knows of a heartbeat may differ from what hbtd knows."""

Answer = Mapping[str, frozenset[str]]
"""The disrupted domains by name, with those whose silence they explain."""


class GuardRules(NamedTuple):
    """What the guard goes by in a world, in seconds and percent."""

    warntime: float
    errtime: float
    interval: float
    hold: float
    """How long deaths wait; 0 if they do not, as with `--guard=report`."""
    share: float = 55.0
    late: float = 0.0
    """How much later a heartbeat may be known than it was answered: replicas share them."""
    settle: float = 20.0
    """Seconds after a disturbance from which on hbtd works as if there had been none."""
    recovery: float = 8.0
    """Seconds after a disturbance within which hbtd judges again those who were silent before."""


@dataclass
class Found:
    """A disruption that hbtd has to find."""

    domain: Domain
    members: frozenset[str]
    """Those who certainly are its members."""
    earliest: float
    latest: float
    """Between which times it is found."""
    statements: list[Statement] = field(default_factory=list)


@dataclass
class Cluster:
    """Silences that began less than Errtime after each other, and what follows from them."""

    silences: Sequence[Silence]
    found: list[Found] = field(default_factory=list)
    """What is certainly found."""
    lenient: str = ""
    """Why it is not clear what is found; empty if it is."""
    disturbed: bool = False
    """Whether hbtd was disturbed before it found anything."""
    statements: list[Statement] = field(default_factory=list)
    """What hbtd has stated of it."""

    @property
    def since(self) -> float:
        """When the first of the silences began."""
        return self.silences[0].since

    @property
    def clear(self) -> bool:
        """Whether it is clear what is found, and when."""
        return not self.lenient


class View:
    """What hbtd may see when it looks at who is silent."""

    def __init__(self) -> None:
        self.since: dict[str, float] = {}
        """All that live, and when they were heard last."""
        self.certain: set[str] = set()
        """Those who certainly count as silent."""
        self.unsure: set[str] = set()
        """Those who may."""
        self.older: set[str] = set()
        """Those whose silence was explained before, so that it does not count any more."""

    @property
    def silent(self) -> set[str]:
        """Those who may count as silent."""
        return self.certain | self.unsure

    def leave_out(self, names: Set[str]) -> None:
        """Count the silences of some nodes no more."""
        self.older |= self.silent & names
        self.certain -= names
        self.unsure -= names

    def bury(self, names: Set[str]) -> "View":
        """Return what hbtd sees once some of those whose deaths wait are dead."""
        view = View()
        view.since = {name: since for name, since in self.since.items() if name not in names}
        view.certain, view.unsure, view.older = self.certain, self.unsure, self.older - names
        return view

    def answers(self, domains: Iterable[Domain], share: float) -> Iterator[Answer]:
        """Return all that may be found."""
        # Those whose deaths wait already don't count, but for the size of a domain.
        counted = self.since.keys() - self.older
        for some in _subsets(sorted(self.unsure)):
            silent = self.certain.union(some)
            yield disrupted(silent, counted, self.since.keys(), domains, share)


class GuardOracle:
    """Says which disruptions there were in a world."""

    def __init__(
        self,
        log: Silences,
        rules: GuardRules,
        domains: Sequence[Domain],
        period: Callable[[str], float],
    ) -> None:
        """Make the oracle; `period` returns the time between two heartbeats of a node."""
        self.log = log
        self.rules = rules
        self.domains = {each.name: each for each in domains}
        self._period = period

    def clusters(self, end: float) -> list[Cluster]:
        """Return the clusters of silences that began before a time, and what they mean."""
        log, rules = self.log, self.rules
        clusters = [Cluster(each) for each in log.together(log.all(self._long, end), rules.errtime)]
        for cluster in clusters:
            self._look(cluster)
        return clusters

    @property
    def _long(self) -> float:
        """The silence after which a death may be due."""
        return self.rules.errtime - self.rules.late - EDGE

    # When somebody counts as silent

    def _least(self, name: str) -> float:
        """Return the shortest silence after which a node may count as silent."""
        return min(1.9 * self._period(name), self.rules.warntime) - EDGE

    def _most(self, name: str) -> float:
        """Return the silence after which a node certainly counts as silent."""
        usual = max(2.1 * self._period(name), self.rules.warntime)
        return min(usual, self.rules.errtime) + self.rules.late + EDGE

    # What is found

    def _look(self, cluster: Cluster) -> None:
        """Go through the moments at which deaths are due, until it is not clear what is found."""
        rules, log, silences = self.rules, self.log, cluster.silences
        if any(map(log.is_vague, silences)):
            cluster.lenient = "a heartbeat may have been heard"
        dues = sorted(log.due(each.since, rules.errtime) for each in silences)
        wait = rules.interval + rules.late + EDGE
        if log.disturbed(cluster.since - EDGE, dues[0] + wait, rules.settle):
            cluster.disturbed = True
            self._look_late(cluster, dues)
            return
        buried = set[str]()
        for due in dues:
            dying = {
                each.name
                for each in silences
                if due - EDGE <= log.due(each.since, rules.errtime) <= due + EDGE
            }
            members = {name for each in cluster.found for name in each.members}
            if dying <= members | buried:
                continue
            view = self._view(cluster, due, wait, buried)
            if not self._is_clear(cluster, view, members):
                return
            if log.disturbed(due - EDGE, due + wait, rules.settle):
                cluster.lenient = cluster.lenient or "hbtd was disturbed before the last death"
                return
            answers = self._answers(view, due, due + wait)
            names = {frozenset(answer) for answer in answers}
            if names <= {frozenset[str](), frozenset(each.domain.name for each in cluster.found)}:
                pass  # nothing new
            elif len(names) > 1:
                cluster.lenient = cluster.lenient or "its part is near the share"
                return
            elif members & view.silent:
                cluster.lenient = cluster.lenient or "it may have spread"
                return
            else:
                earliest = due - rules.late if self._nothing_due(cluster, due) else -inf
                self._find(cluster, answers, earliest, due + wait)
                members = {name for each in cluster.found for name in each.members}
            buried |= dying - members

    def _is_clear(self, cluster: Cluster, view: "View", members: Set[str]) -> bool:
        """Return whether it is clear which silences began within one Errtime of each other.

        `members` are explained already; if they fell silent long before the others they are left
        out of the view.
        """
        errtime = self.rules.errtime
        if len(view.unsure) > MOST_UNSURE:
            cluster.lenient = cluster.lenient or "too many may be silent or not"
            return False
        begun = [view.since[name] for name in view.silent - members]
        explained = [view.since[name] for name in view.silent & members]
        together = [*begun, *explained]
        if begun and explained and min(begun) - max(explained) > errtime + self.rules.late + EDGE:
            view.leave_out(members)
            together = begun
        if together and max(together) - min(together) > errtime - self.rules.late - EDGE:
            cluster.lenient = cluster.lenient or "the silences straddle Errtime"
            return False
        return True

    def _look_late(self, cluster: Cluster, dues: Sequence[float]) -> None:
        """Look at a cluster during which hbtd was disturbed, so that it is unclear when it looks.

        Whoever was silent all the time counts; whoever is heard meanwhile may count, or not.
        """
        rules = self.rules
        last = dues[-1] + rules.interval + rules.late + EDGE
        last = max([last, *(x + rules.recovery for x in self.log.disturbances if x <= last)])
        last += rules.interval
        view = self._view(cluster, dues[0], last - dues[0], set())
        if not self._is_clear(cluster, view, set()):
            return
        answers = self._answers(view, dues[0], last)
        if len({frozenset(answer) for answer in answers}) > 1:
            cluster.lenient = cluster.lenient or "hbtd was disturbed, and may look early or late"
        elif any(answers):
            self._find(cluster, answers, -inf, last)

    def _answers(self, view: View, begin: float, end: float) -> list[Answer]:
        """Return all that may be found in a view, by who looks between two times.

        Deaths that wait from before may be declared then, so that domains become smaller: which one
        explains others depends on whether that is before or after hbtd looks.
        """
        log = self.log
        times = {word.at for name in view.older for word in log.words(name, begin, end)}
        views = [view]
        for at in sorted(times):
            dead = {name for name in view.older if log.dead(name, at)}
            views += [view.bury(dead)] if dead else []
        answers = (each.answers(self.domains.values(), self.rules.share) for each in views)
        return [*chain.from_iterable(answers)]

    def _find(
        self, cluster: Cluster, answers: Sequence[Answer], earliest: float, latest: float
    ) -> None:
        for name in answers[0]:
            members = frozenset[str].intersection(*(answer[name] for answer in answers))
            # It is not found before enough of its members are silent.
            silent = sorted(self.log.last(each, latest) + self._least(each) for each in members)
            begins = silent[FEWEST - 1] if len(silent) >= FEWEST else cluster.since
            found = Found(self.domains[name], members, max(earliest, begins), latest)
            cluster.found.append(found)

    def _nothing_due(self, cluster: Cluster, due: float) -> bool:
        """Return whether nobody else's death makes hbtd look before a death is due in a cluster."""
        mine = {each.name for each in cluster.silences}
        reach = self.rules.errtime + self.rules.hold + 2 * self.rules.interval
        return not any(
            name not in mine
            and not self.log.dead(name, cluster.since)
            and self.log.due(self.log.last(name, due), self.rules.errtime) <= due + EDGE
            and self.log.last(name, due) >= cluster.since - reach
            for name in self.log.names
        )

    def _view(self, cluster: Cluster, due: float, wait: float, buried: Set[str]) -> "View":
        """Return what hbtd may see of a cluster when it looks, `wait` seconds after `due` at most.

        `buried` are those of the cluster that have been declared dead.
        """
        log, view = self.log, View()
        for name in log.names:
            since = log.last(name, due)
            before = since < cluster.since - EDGE
            if since == -inf or name in buried or (before and log.dead(name, due)):
                continue
            view.since[name] = since
            if before and self._is_long(name, since):
                view.older.add(name)
            elif log.silence(name, due) >= self._most(name) and log.back(name, due) > due + wait:
                view.certain.add(name)
            elif log.silence(name, due + wait) >= self._least(name) or (
                log.silence(name, due) >= self._least(name)
            ):
                view.unsure.add(name)
        return view

    def _is_long(self, name: str, since: float) -> bool:
        """Return whether a silence is so long that it belongs to a cluster."""
        return self.log.due(since, self._long) <= self.log.following(name, since)

    # Who may be a member

    def may_wait(self, name: str, since: float, now: float) -> bool:
        """Return whether a silence may be one of a disruption: enough others began with it."""
        reach = self.rules.errtime + 2 * self.rules.late + 1.0
        others = {each.name for each in self.log.all(1.0, now) if abs(each.since - since) <= reach}
        for domain in self.domains.values():
            if name in domain.nodes:
                silent = len(others & domain.nodes)
                beating = sum(
                    self.log.last(each, now) > now - self.rules.warntime for each in domain.nodes
                )
                if silent >= 3 and 100 * silent >= (self.rules.share - 10) * (silent + beating):
                    return True
        return False


def _subsets(names: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return chain.from_iterable(combinations(names, number) for number in range(len(names) + 1))
