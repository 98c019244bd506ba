"""What truly happens in a soak, and whether what HSM is told fits it.

The oracle is that of the simulated machine rooms, by which docs/guarantees.md is written. Here it
is told by an observer of real processes, who learns of things a little late. So where the observer
is not sure, a machine is taken to hear (the silence of a node counts), but not to work (deaths need
not be told).
"""

from collections.abc import Callable, Iterable
from statistics import median
from typing import Final

from hbtd.simulator.bulk_update import Update
from tests.simulation.oracle import Oracle, ReplicaOracle, Violation

WARNTIME, ERRTIME, INTERVAL = 30, 90, 5
"""Longer than hbtd's defaults, in seconds: a soak shares a small machine with others."""

AGENT_PERIOD: Final = WARNTIME / 3
"""Seconds between two heartbeats of an agent."""

_STARTING: Final = 30.0
"""Seconds after which an agent that was started has certainly been heard."""

_KEPT: Final = 64
"""Heartbeats of a node that are remembered; what was before can't explain what HSM is told now."""


def _trim(times: list[float]) -> None:
    if len(times) > 2 * _KEPT:
        del times[:-_KEPT]


class SingleOracle(Oracle):
    """The oracle of one hbtd, for hours: it remembers the last heartbeats only."""

    def beaten(self, name: str) -> None:
        """Note that a heartbeat may have been heard."""
        self._get(name).seen = True

    def answered(self, name: str, now: float) -> None:
        """Note that a heartbeat was answered."""
        component = self._get(name)
        component.seen = True
        component.answered.append(now)
        component.died = None
        _trim(component.answered)


class SeveralOracle(ReplicaOracle):
    """The oracle of replicas, for hours."""

    def shared(self, name: str, at: float) -> None:
        """Note that a heartbeat was answered by a replica that could share it from then on."""
        super().shared(name, at)
        component = self._get(name)
        _trim(component.answered)
        _trim(component.history)


class Truth:
    """Tells an oracle what happens at one machine, and keeps what it finds.

    All times are seconds of one clock. `broken` is called with a line for each broken promise.
    """

    def __init__(self, oracle: Oracle, broken: Callable[[str], None]) -> None:
        self.oracle = oracle
        self.dead: dict[str, float] = {}
        """The nodes that don't beat, and since when."""
        self.agents: dict[str, float] = {}
        """The nodes with a real agent that beat, and since when it runs."""
        self.warned_agents = 0
        """Warnings about nodes whose agent ran."""
        self.told_of = 0
        """Changes of a component that HSM was told of."""
        self.took: list[float] = []
        """Seconds from a death to the moment in which HSM was told."""
        self._broken = broken
        self._slack = oracle.slack
        self._lags: list[tuple[float, float]] = []

    def exists(self, name: str) -> None:
        """Note that there is a node, which may be heard at any time: not all answers are seen."""
        if isinstance(self.oracle, ReplicaOracle | SingleOracle):
            self.oracle.beaten(name)

    def lagged(self, now: float, seconds: float) -> None:
        """Note that this observer was late, and so may have seen answers too late."""
        self._lags = [(at, lag) for at, lag in self._lags if at > now - ERRTIME - 2 * INTERVAL]
        if seconds > 0.05:
            self._lags.append((now, seconds))
        self.oracle.slack = self._slack + max((lag for _, lag in self._lags), default=0.0)

    def died(self, name: str, now: float) -> None:
        """Note that a node beats no more."""
        since = self.agents.pop(name, None)
        if since is not None:
            # Its answers are not seen here: its last heartbeat was answered within its last period.
            self._heard(name, max(since, now - AGENT_PERIOD - 0.5))
        self.dead[name] = now
        self.oracle.died(name, now)

    def booted(self, name: str, now: float, *, agent: bool = False) -> None:
        """Note that a node begins to beat, or goes on."""
        self.dead.pop(name, None)
        self.oracle.booted(name)
        if agent:
            self.agents[name] = now
            self._heard(name, now)

    def _heard(self, name: str, at: float) -> None:
        if isinstance(self.oracle, ReplicaOracle):
            self.oracle.beaten(name)
            self.oracle.shared(name, at)
        else:
            self.oracle.answered(name, at)

    def answered(self, name: str, now: float) -> None:
        """Note that the one hbtd answered a heartbeat, perhaps of a node that died meanwhile."""
        self.oracle.answered(name, now)
        if name in self.dead:
            self.oracle.died(name, self.dead[name])

    def told(self, update: Update) -> None:
        """Note that HSM has applied an update."""
        for name in update.names:
            self.told_of += 1
            self._told(name, update)

    def _told(self, name: str, update: Update) -> None:
        word = f"{update.state}/{update.flag}".lower()
        now = update.received
        since = self.agents.get(name)
        if since is not None and word != "ready/ok":
            self.warned_agents += 1
            if word == "standby/alert" and now - since > _STARTING:
                self._broken(f"{name} is said to be {word}, but its agent runs")
            return
        died = self.dead.get(name)
        if died is not None and word == "standby/alert" and self.oracle.word(name) != word:
            self.took.append(now - died)
        try:
            self.oracle.told(name, update.state, update.flag, now)
        except Violation as violation:
            self._broken(f"{violation.promise.value}: {violation}")

    def check(self, now: float) -> None:
        """Note each death of which HSM should have been told by now."""
        while True:
            try:
                self.oracle.check_deaths(now)
            except Violation as violation:
                self._broken(f"{violation.promise.value}: {violation}")
                # Once is enough.
                self.oracle.booted(str(violation).split()[0])
            else:
                return

    def check_rest(self, names: Iterable[str]) -> None:
        """Check, when nothing has failed for a while, that HSM's last words are the truth."""
        for name in names:
            if name in self.agents and self.oracle.word(name) == "ready/ok":
                continue
            try:
                self.oracle.check_rest({name: name not in self.dead})
            except Violation as violation:
                self._broken(f"{violation.promise.value}: {violation}")

    def summary(self) -> str:
        """Return what HSM was told of, as a text."""
        took = sorted(self.took) or [0.0]
        return (
            f"{self.told_of} changes told, {len(self.took)} deaths, told after"
            f" {median(took):.1f} s (median), {took[-1]:.1f} s at most;"
            f" {self.warned_agents} warnings about nodes whose agent ran"
        )
