"""Self-checks: statements that hold unless hbtd has a bug, checked once a minute.

Each check is a small object or function that returns what is wrong, in one sentence. Checks change
nothing, and long ones work in portions.
"""

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.store.uncommitted import Uncommitted
from hbtd.tracker.cohorts import Deadlines
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement

_INTERVAL = 60.0
"""Seconds between two runs of all checks."""

_PORTION = 2000
"""The most components that are looked at before the reactor can do other work."""

_LATE_TICK = 10.0
"""Seconds after which the observed clock must have been wound again."""

_GRACE = 60.0
"""Seconds that the sweeps may need, beyond what the parameters say, to judge everybody."""

Check = Callable[[], Coroutine[Deferred[Any], Any, str | None]]
"""A coroutine function that returns what is wrong, as a sentence; `None` if nothing is wrong."""

Turn = Callable[[], Deferred[None]]
"""A function that returns a Deferred, which fires when the reactor has done other work."""


class Heard(Protocol):
    """The part of the observed clock's interface that the checks use."""

    ticked_at: float

    def now(self) -> float:
        """Return the observed time in seconds."""


class SelfChecks(PeriodicService):
    """Runs the self-checks once a minute, logs failures, and counts them.

    A check has failed if it finds something wrong in two runs in a row: at a single moment, some
    part may be between two steps. When a check begins to fail, a log line says what is wrong;
    another log line says when the check no longer fails.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, checks: Mapping[str, Check]) -> None:
        """Make a service that runs the checks in `checks`, whose keys are the names of the checks.

        The first run is a minute after the start.
        """
        super().__init__(clock, _INTERVAL, self.run, "the self-checks", now=False)
        self._checks = checks
        self._suspected: set[str] = set()
        self.failed: dict[str, str] = {}
        """The sentences that say what is wrong now, by the names of the checks that failed."""
        self.failures = Counter(dict.fromkeys(checks, 0))
        """The number of runs in which each check has failed, by the name of the check."""
        self.runs = 0
        """The number of times that all checks were run."""

    async def run(self) -> None:
        """Run all checks, one after another."""
        for name, check in self._checks.items():
            try:
                wrong = await check()
            except StoreUnusable:
                continue  # which is no bug, and is said elsewhere
            except Exception as error:  # noqa: BLE001  # the other checks are run nevertheless
                wrong = f"the check itself has failed: {error!r}"
            self._note(name, wrong)
        self.runs += 1

    def _note(self, name: str, wrong: str | None) -> None:
        if wrong is None:
            self._suspected.discard(name)
            if self.failed.pop(name, None) is not None:
                self._log.info("The self-check {name} finds nothing wrong any more.", name=name)
            return
        if name not in self._suspected:
            self._suspected.add(name)
            return
        self.failures[name] += 1
        if name not in self.failed:
            self._log.error(
                "The self-check {name} has failed, which is a bug in hbtd: {wrong}."
                " docs/runbook.md, HbtdSelfCheckFailed, says what to do.",
                name=name,
                wrong=wrong,
            )
        self.failed[name] = wrong


def clock_check(
    observed: Heard, monotonic: Callable[[], float], running: Callable[[], bool]
) -> Check:
    """Return the check that the observed clock is updated regularly.

    If it were not, no silence would be noticed. `observed.ticked_at` is the time of its last
    update, in seconds of `monotonic`; `running` returns whether the clock should be updated now.
    """

    async def check() -> str | None:
        late = monotonic() - observed.ticked_at
        if running() and late > _LATE_TICK:
            return f"the clock that measures silence has not been wound for {late:.0f} s"
        return None

    return check


def queues_check(tracker: Tracker, turn: Turn) -> Check:
    """Return the check that no component is in two of the states healthy, warned and dead.

    `turn` is awaited between portions of the work.
    """

    async def check() -> str | None:
        seen: set[str] = set()
        for queue in tracker.queues():
            for portion in _portions(queue):
                twice = seen.intersection(portion)
                if twice:
                    return f"{min(twice)} is tracked twice, in two different states"
                seen.update(portion)
                await turn()
        return None

    return check


def overdue_check(
    tracker: Tracker,
    observed: Heard,
    params: LiveParams,
    judging: Callable[[], bool],
    turn: Turn,
) -> Check:
    """Return the check that no living component has been silent for much longer than `errtime`.

    The check finds a fault if a silence is longer than three times the sum of `errtime` and
    `interval`, plus a minute, in observed seconds. Shorter silences need not be due to a bug: if
    hbtd was overloaded, components are judged up to `errtime` too late, and several sweeps may
    pass before all overdue components are judged. Components in maintenance are left out. A
    component's own limit takes the place of one `errtime`, and a deadline by which it is to be
    judged that of its silence. `judging` returns whether this replica judges; if this replica does
    not judge, nothing is checked. `turn` is awaited between portions of the work.
    """

    async def check() -> str | None:
        healthy, warned, _ = tracker.queues()
        for portion in _portions([*warned, *healthy]):
            if not judging():
                return None
            now, current = observed.now(), params.current
            more = 2 * current.errtime + 3 * current.interval + _GRACE
            for xname in portion:
                component, rule = tracker.component(xname), tracker.rule(xname)
                if component is None or rule is None or not tracker.phase(xname).living:
                    continue  # without a rule it is in maintenance
                silence = now - component.last_heard
                if isinstance(rule, Deadlines):
                    late = now - rule.die_at
                else:
                    late = silence - rule.over(0, current.errtime)[1]
                if late > more:
                    return f"{xname} has been silent for {silence:.0f} s and is not declared dead"
            await turn()
        return None

    return check


class JournalCheck:
    """The check that judgements are committed while the store can be used."""

    def __init__(self, uncommitted: Uncommitted, usable: Callable[[], bool]) -> None:
        """Make the check of the judgements in `uncommitted`.

        `usable` returns whether the store can be used.
        """
        self._uncommitted = uncommitted
        self._usable = usable
        self._first: Judgement | None = None

    async def __call__(self) -> str | None:
        """Return what is wrong, as a sentence; `None` if nothing is wrong.

        Something is wrong if the first uncommitted judgement is the same as in the previous run,
        although the store can be used.
        """
        before, self._first = self._first, self._uncommitted.first if self._usable() else None
        if self._first is None or self._first is not before:
            return None
        return (
            f"{len(self._uncommitted)} judgements, from that on {before.component} on, are not"
            " committed although the store can be used, so HSM is not told"
        )


def cursor_check(store: IStore, reader: str, judging: Callable[[], bool]) -> Check:
    """Return the check that the publisher's cursor is not beyond the end of the log of transitions.

    If it were, nothing would be published on Kafka. `reader` is the cursor's name in the store.
    `judging` returns whether this replica judges; if not, nothing is checked, because this
    replica may not know the end of the log yet.
    """

    async def check() -> str | None:
        if not (judging() and store.usable()):
            return None
        cursor = await store.cursor(reader)
        last = store.last_number()
        if cursor is not None and cursor > last and judging():
            return f"the cursor of {reader} is at {cursor}, beyond the end of the log at {last}"
        return None

    return check


def connections_check(
    hosts: Callable[[], Mapping[str, int]], connections: Iterable[Any], turn: Turn
) -> Check:
    """Return the check that the connections from each client address are counted correctly.

    The limits on connections depend on these counts. `hosts` returns the counts by address;
    `connections` are all open connections, each with its client's address in the attribute `host`.
    `turn` is awaited between portions of the work.
    """

    async def check() -> str | None:
        # Both at one moment; connections come and go during the count.
        counted, present = dict(hosts()), list(connections)
        found: Counter[str] = Counter()
        for portion in _portions(present):
            found.update(each.host for each in portion if each.host is not None)
            await turn()
        wrong = next((host for host in counted | found if counted.get(host) != found[host]), None)
        if wrong is not None:
            return (
                f"{wrong} has {found[wrong]} connections, but {counted.get(wrong, 0)} are counted"
            )
        return None

    return check


def pause(clock: IReactorTime) -> Turn:
    """Return a function that returns a Deferred, fired once the reactor has done other work."""
    return lambda: deferLater(clock, 0)


def _portions(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(items), _PORTION):
        yield items[start : start + _PORTION]
