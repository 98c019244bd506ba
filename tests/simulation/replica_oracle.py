"""The oracle of several replicas, and of replicas beside an original hbtd."""

from bisect import insort

from tests.simulation.oracle import (
    CONTESTED,
    SLACK,
    Component,
    Oracle,
    Promise,
    Violation,
)

SHARED = 2.5
"""Seconds for which a replica has to go on after a heartbeat, so that the others learn of it."""


class ReplicaOracle(Oracle):
    """The oracle of several replicas that share an etcd."""

    slack = SLACK + 3.0
    """A heartbeat is stored for other replicas within three seconds, or their clocks stop."""

    relock = 15.0
    """Seconds after which a replica holds the lock again that etcd has lost."""

    settle = 25.0
    """Seconds, besides Warntime, until another replica leads: a lease, a wait, a load."""

    def __init__(self, warntime: int, errtime: int, interval: int) -> None:
        """Begin in a world in which nothing has happened."""
        super().__init__(warntime, errtime, interval)
        self.no_lock_until = 0.0
        """Until when nobody holds the lock through no fault of a replica: etcd has lost it."""
        # Alarms, and what had been shared of heartbeats by then; others may be shared later.
        self._alarms: list[tuple[str, str, list[float], tuple[float, float]]] = []

    def beaten(self, name: str) -> None:
        """Note that a heartbeat was answered."""
        self._get(name).seen = True

    def shared(self, name: str, at: float, sent: float | None = None) -> None:
        """Note that a heartbeat was answered by a replica that could share it from then on.

        It was sent at another time, if that is given.
        """
        component = self._get(name)
        component.known = True
        component.note_sent(at, at if sent is None else sent)
        insort(component.answered, at)
        insort(component.history, at)

    def _check_alarm(
        self, name: str, component: Component, word: str, times: tuple[float, float]
    ) -> None:
        self._alarms.append((name, word, component.answered[:], times))

    def _heard_last(self, component: Component, now: float) -> float:
        # A heartbeat that was not shared in time may be known all the same.
        return now

    def check_deaths(self, now: float) -> None:
        """Check all deaths, and the alarms of which it is known by now what had been shared."""
        while self._alarms and max(self._alarms[0][3]) + SHARED < now:
            name, word, before, times = self._alarms.pop(0)
            heard = before
            if before:
                heard = sorted({*before, *(t for t in self._get(name).history if t > before[0])})
            self._check_reasons(name, word, [(heard, at) for at in times])
        super().check_deaths(now)

    def sent(self, host: str, leader: str | None, now: float) -> None:
        """Note that a replica sends HSM an update; raise `Violation` if it holds no lock."""
        if host != leader and now > self.no_lock_until:
            raise Violation(
                Promise.ONE_JUDGE, f"{host} sends HSM an update, but the lock is held by {leader}"
            )

    def _settling(self, begin: float, end: float) -> float:
        patience = self._most("warntime", begin, end) + self.settle
        return patience * self.works.begun(begin - patience, end)


COMPARED = 60.0
"""Seconds, besides, in which comparisons of HSM's table put an original's words right."""


class MixedOracle(ReplicaOracle):
    """The oracle of replicas beside an original hbtd, for whose words hbtd does not answer."""

    def original_judged(self, name: str, now: float, *, buries: bool) -> None:
        """Note that an original has judged a component, and will tell HSM unless it is killed.

        `buries` says whether it has declared it dead while no hbtd knew of anything: it deletes the
        component's record, and nothing is known of the component any more.
        """
        component = self._get(name)
        component.original_at = now
        if buries:
            component.answered = []
            component.known = False

    def original_told(self, name: str, state: str, flag: str, now: float) -> None:
        """Note that an original has told HSM of a component, rightly or not."""
        component = self._get(name)
        component.told = f"{state}/{flag}".lower()
        component.original_at = now
        component.original_words += 1

    def told(self, name: str, state: str, flag: str, now: float, sent: float | None = None) -> None:
        """HSM was sent news of a component by hbtd; raise `Violation` if that was not true then."""
        component = self._get(name)
        if component.told != f"{state}/{flag}".lower():
            component.original_words = 0
        super().told(name, state, flag, now, sent)

    def check_rest(self, alive: dict[str, bool]) -> None:
        """Raise `Violation` unless HSM's last words are the truth, where hbtd can see to it."""
        mine = {name: lives for name, lives in alive.items() if not self._contested(name)}
        super().check_rest(mine)

    def _contested(self, name: str) -> bool:
        return self._get(name).original_words >= CONTESTED

    def _misled(self, component: Component) -> float:
        at = component.original_at
        if component.original_words >= CONTESTED:
            return float("inf")
        last = component.answered[-1] if component.answered else 0.0
        return COMPARED if at is not None and at > last else 0.0
