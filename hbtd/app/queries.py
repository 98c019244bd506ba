"""Queries about components: how the parts that answer them are connected."""

from collections.abc import Callable, Sequence

from hbtd.api.components import Components
from hbtd.hsm.notifier import Notifier
from hbtd.monitor import Monitor
from hbtd.queries.components import Explainer, Facts, HSMStanding
from hbtd.queries.machine import Machine
from hbtd.queries.summary import HSMQueue, Summary
from hbtd.store.interface import LogEntry
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker


def make_queries(
    tracker: Tracker,
    monitor: Monitor,
    notifier: Notifier,
    machine: Machine,
    observed: ObservedClock,
    wall: Callable[[], float],
    replica: str,
) -> Components:
    """Return the handlers of queries about components; `wall` returns Unix seconds."""

    def standing(xname: str) -> HSMStanding:
        component = tracker.component(xname)
        if component is None or not component.told:
            return HSMStanding()
        return HSMStanding("told", component.told)

    async def recent(xname: str, most: int) -> Sequence[LogEntry]:
        return ()

    def hsm() -> HSMQueue:
        return HSMQueue(notifier.hsm_ready, notifier.pending_count, notifier.set_aside_count)

    facts = Facts(tracker, observed, wall, standing)
    explainer = Explainer(tracker, monitor, facts, recent)
    summary = Summary(tracker, machine, facts, wall, hsm, lambda: monitor.leading, replica)
    return Components(tracker, monitor, machine, facts, explainer, summary)
