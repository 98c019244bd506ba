"""What a new leader has to judge because the stored judgements lack it."""

from collections.abc import Iterable

from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Phase, Transition


def uncommitted_deaths(tracker: Tracker, stored: Iterable[Judgement]) -> list[Judgement]:
    """Return new judgements on the dead components whose deaths are not in `stored`.

    `stored` are the stored judgements, from which deaths are missing if etcd has lost its data.
    """
    dead = set(tracker.dead_components())
    latest = {each.component: each for each in stored if each.component in dead}
    deaths: list[Judgement] = []
    for xname in dead:
        judgement = latest.get(xname)
        if judgement is None or judgement.transition is not Transition.DIED:
            timestamp = "" if judgement is None else judgement.timestamp
            why = "dead, without a judgement in the store"
            before = Phase.UNKNOWN if judgement is None else judgement.transition.after
            deaths.append(Judgement(xname, Transition.DIED, timestamp, before, why))
    return deaths


def returns(
    tracker: Tracker,
    at: float,
    stored: Iterable[Judgement],
    started: Iterable[str],
    warned: Iterable[str] = (),
) -> list[Judgement]:
    """Return new judgements that components, which are healthy now, have started or restarted.

    A component has started if its judgement in `stored` is that it died; without a judgement there,
    if the component is in `started`. A component has restarted if its judgement in `stored` is a
    warning; without a judgement there, if the component is in `warned`. `at` is the current
    observed time.
    """
    latest = dict.fromkeys(warned, Transition.WARNED)
    latest.update(dict.fromkeys(started, Transition.DIED))
    latest.update(
        (each.component, each.transition)
        for each in stored
        if each.transition.alarming or each.component in latest
    )
    found: list[Judgement] = []
    for xname, transition in latest.items():
        record = tracker.record(xname, at)
        if transition.alarming and record is not None and not record.warned:
            back = Transition.RESTARTED if transition is Transition.WARNED else Transition.STARTED
            found.append(
                Judgement(xname, back, record.timestamp, transition.after, "heard elsewhere")
            )
    return found
