"""Judges a world with a guard, once it is over: statements, deaths that wait, and all that do not.

What it asks for is in docs/guarantees.md. What is clear to the oracle (`guard_oracle`) it asks for
strictly; where that is not clear it asks for what holds in any case, and counts it as lenient.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

from tests.simulation.guard_oracle import EDGE, Cluster, Found, GuardOracle
from tests.simulation.guard_watch import Statement
from tests.simulation.oracle import Promise, Violation
from tests.simulation.outages import KINDS
from tests.simulation.silences import DEAD, WARNED, WELL, Silence

AT_ONCE = 3.0
"""Seconds within which HSM is told while nothing has gone wrong: nothing has to be tried again."""

COLUMNS = ("disruptions", "held", "came back", "told dead", "events", "lenient")
"""The columns of the table."""

ROWS = (*KINDS, "none")
"""The rows of the table: kinds of domains, and what was found in no domain."""


class Told(NamedTuple):
    """What hbtd has said of its guard."""

    statements: Sequence[Statement]
    disrupted: int
    """How many domains are disrupted at the end."""
    held: int
    """How many deaths wait at the end."""


class Judge:
    """Compares what hbtd said and did in a world with what the oracle says."""

    def __init__(self, oracle: GuardOracle, told: Told, end: float) -> None:
        """Judge a world that ended at a time."""
        self.table: Counter[tuple[str, str]] = Counter()
        """Numbers by row and column."""
        self._oracle = oracle
        self._log = oracle.log
        self._rules = oracle.rules
        self._told = told
        self._end = end
        self._clusters = oracle.clusters(end - oracle.rules.errtime)

    def judge(self, check: Callable[[Callable[[], None]], None]) -> None:
        """Call `check` with functions that raise `Violation` if hbtd has done wrong."""
        for statement in self._told.statements:
            if statement.what == "disrupted":
                check(lambda statement=statement: self._assign(statement))  # type: ignore[misc]
        for cluster in self._clusters:
            check(lambda cluster=cluster: self._check_cluster(cluster))  # type: ignore[misc]
        check(self._check_ends)
        check(self._check_warnings)
        check(self._check_returns)

    # Statements

    def _assign(self, statement: Statement) -> None:
        """Find the cluster that a statement is about."""
        self.table[statement.kind, "events"] += 1
        near = [each for each in self._clusters if self._is_near(each, statement)]
        fitting = [
            (cluster, found)
            for cluster in near
            for found in cluster.found
            if found.domain.name == statement.domain
            and found.earliest - EDGE <= statement.began <= found.latest + 1.0
        ]
        if fitting:
            cluster, found = min(fitting, key=lambda each: len(each[1].statements))
            found.statements.append(statement)
            cluster.statements.append(statement)
            return
        for cluster in near:
            if cluster.lenient:
                cluster.statements.append(statement)
                return
        if not self._is_part(statement):
            raise Violation(
                Promise.DISRUPTIONS,
                f"{statement.kind} {statement.domain} is stated to be disrupted at"
                f" {statement.began:.1f}; by what the world knows {self._said(near)}",
            )
        self.table[statement.kind, "lenient"] += 1

    def _is_near(self, cluster: Cluster, statement: Statement) -> bool:
        rules = self._rules
        last = self._log.due(cluster.silences[-1].since, rules.errtime)
        last += rules.interval + rules.late + 1.0
        if cluster.disturbed:
            last += rules.settle + rules.warntime
        return cluster.since <= statement.began <= last

    def _is_part(self, statement: Statement) -> bool:
        """Return whether a later statement says that a disruption has spread."""
        return any(
            each.what == "disrupted"
            and each.number > statement.number
            and statement.domain in each.includes
            and each.began - statement.began <= self._rules.errtime + self._rules.late
            for each in self._told.statements
        )

    @staticmethod
    def _said(clusters: Sequence[Cluster]) -> str:
        names = [found.domain.name for cluster in clusters for found in cluster.found]
        return f"it is {', '.join(names)}" if names else "nothing is"

    # Clusters

    def _check_cluster(self, cluster: Cluster) -> None:
        if cluster.lenient:
            kinds = {each.kind for each in cluster.statements} or {"none"}
            for kind in kinds:
                self.table[kind, "lenient"] += 1
            for silence in cluster.silences:
                self._check_told(silence, self._rules.hold + self._rules.interval, "it may be held")
            return
        for found in cluster.found:
            self._check_found(cluster, found)
        for silence in cluster.silences:
            if not self._may_join(cluster, silence):
                self._check_told(silence, 0.0, "it is in no disrupted domain")
            else:
                self._check_told(silence, self._waits(cluster, silence), "it is held")

    def _check_found(self, cluster: Cluster, found: Found) -> None:
        kind, name = found.domain.kind, found.domain.name
        self.table[kind, "disruptions"] += 1
        if len(found.statements) != 1:
            raise Violation(
                Promise.DISRUPTIONS,
                f"{kind} {name} was disrupted from {cluster.since:.1f} on, with"
                f" {len(found.members)} members; that was stated {len(found.statements)} times",
            )
        for silence in cluster.silences:
            if silence.name in found.members:
                self._check_member(found, silence)

    def _check_member(self, found: Found, silence: Silence) -> None:
        kind, rules = found.domain.kind, self._rules
        died = self._died(silence)
        if rules.hold:
            self.table[kind, "held"] += 1
            self.table[kind, "came back" if died == inf else "told dead"] += 1
            least = found.earliest + rules.hold
            if died < least - 1.0:
                back = "stayed away" if silence.until > least else "was back by then"
                raise Violation(
                    Promise.DISRUPTIONS,
                    f"{silence.name}, silent since {silence.since:.1f} with {kind}"
                    f" {found.domain.name}, is told dead at {died:.1f}; its death waits until"
                    f" {least:.1f} ({back})",
                )

    def _may_join(self, cluster: Cluster, silence: Silence) -> bool:
        """Return whether a silence may be one of what was found in its cluster."""
        return any(silence.name in each.domain.nodes for each in cluster.found)

    def _waits(self, cluster: Cluster, silence: Silence) -> float:
        """Return for how long a death may wait after it was due."""
        latest = max(each.latest for each in cluster.found if silence.name in each.domain.nodes)
        due = self._log.due(silence.since, self._rules.errtime)
        return max(latest - due, 0.0) + self._rules.hold

    def _died(self, silence: Silence) -> float:
        """Return when HSM was told that who was silent is dead; infinity if it was not."""
        until = silence.until + self._rules.late + 1.0
        words = self._log.words(silence.name, silence.since, until)
        return next((each.at for each in words if each.word == DEAD), inf)

    def _check_told(self, silence: Silence, waits: float, why: str) -> None:
        """Check that a death is told in time; `waits` is how much later than usual that may be."""
        rules, log = self._rules, self._log
        due = log.due(silence.since, rules.errtime)
        last = due + waits + rules.interval + rules.late + AT_ONCE
        if silence.until <= last or not self._is_sure(silence, last):
            return
        if self._died(silence) > last:
            raise Violation(
                Promise.EVERY_DEATH,
                f"{silence.name} was heard last at {silence.since:.1f}, and is told dead at"
                f" {self._died(silence):.1f}, not by {last:.1f}; nothing goes wrong, and {why}",
            )

    def _is_sure(self, silence: Silence, last: float) -> bool:
        """Return whether nothing has gone wrong in a silence up to a time."""
        vague = self._log.is_vague(silence)
        return last <= self._end and not (vague or self._disturbed(silence.since, last))

    def _disturbed(self, begin: float, end: float) -> bool:
        return self._log.disturbed(begin, end, self._rules.settle)

    # What never waits, and what ends

    def _check_warnings(self) -> None:
        rules, log = self._rules, self._log
        for silence in log.all(rules.warntime, self._end):
            last = log.due(silence.since, rules.warntime) + rules.interval + rules.late + AT_ONCE
            if silence.until <= last or not self._is_sure(silence, last):
                continue
            words = log.words(silence.name, silence.since, last)
            if not any(each.word in (WARNED, DEAD) for each in words):
                raise Violation(
                    Promise.DISRUPTIONS,
                    f"{silence.name} was heard last at {silence.since:.1f}, and nobody is warned"
                    f" about it by {last:.1f}: warnings do not wait",
                )

    def _check_returns(self) -> None:
        log, late = self._log, self._rules.late
        for name in log.names:
            for number, word in enumerate(words := log.words(name)):
                if word.word == WELL:
                    continue
                back = log.following(name, word.at + late + EDGE)
                last = back + late + AT_ONCE
                later = [each for each in words[number + 1 :] if each.at <= last]
                if last > self._end or self._disturbed(word.at, last):
                    continue
                if not any(each.word == WELL for each in later):
                    raise Violation(
                        Promise.DISRUPTIONS,
                        f"{name} is {word.word} in HSM from {word.at:.1f} on, is heard at"
                        f" {back:.1f}, and is not told back by {last:.1f}: returns do not wait",
                    )

    def _check_ends(self) -> None:
        """Check that all that was disrupted has ended, with a statement, and that nobody waits."""
        begun: Counter[str] = Counter()
        for each in self._told.statements:
            if each.what == "disrupted":
                begun[each.domain] += 1
                begun.subtract(each.includes)
            else:
                begun[each.domain] -= 1
        wrong = [domain for domain, number in begun.items() if number]
        if wrong or self._told.disrupted or self._told.held:
            raise Violation(
                Promise.DISRUPTIONS,
                f"at rest {self._told.disrupted} domains are disrupted, and {self._told.held}"
                f" deaths wait; without an end of their own are {', '.join(wrong) or 'none'}",
            )
