"""Builds the handlers of queries about components, which get their answers from parts of hbtd."""

from collections.abc import Callable, Sequence

from hbtd.api.components import Components
from hbtd.hsm.notifier import Notifier
from hbtd.hsm.reconciler import Reconciler
from hbtd.hsm.standing import Standing, Told
from hbtd.monitor import Monitor
from hbtd.queries.components import Facts
from hbtd.queries.explanations import Explainer
from hbtd.queries.flapping import FlapWatch
from hbtd.queries.guard import GuardFacts
from hbtd.queries.machine import Machine
from hbtd.queries.maintenance import MaintenanceFacts
from hbtd.queries.summary import HSMQueue, Summary, TableFound
from hbtd.store.interface import IStore
from hbtd.store.past import LogEntry, Selection, Span
from hbtd.store.uncommitted import Uncommitted
from hbtd.tracker.hindrances import Hindrance
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker


def make_queries(
    tracker: Tracker,
    monitor: Monitor,
    notifier: Notifier,
    reconciler: Reconciler,
    store: IStore,
    uncommitted: Uncommitted,
    machine: Machine,
    observed: ObservedClock,
    wall: Callable[[], float],
    replica: str,
    leader: Callable[[], str | None],
    hindrances: Callable[[], Sequence[Hindrance]],
    maintenance: MaintenanceFacts,
    marks: FlapWatch,
    threshold: Callable[[str], str | None] = lambda _: None,
    guard: GuardFacts | None = None,
) -> Components:
    """Return the handlers of queries about components; `wall` returns Unix seconds.

    `replica` is the name of this replica; `leader` returns the name of the replica that leads, or
    `None` if it is not known. `hindrances` returns what has hindered hbtd, in the order of
    `Hindrances.all`. `marks` says which components are flapping. `threshold` returns what the
    threshold that applies to a component matches, or `None` if none applies. `guard` describes
    disruptions.
    """

    async def recent(xname: str, most: int) -> Sequence[LogEntry]:
        found: Sequence[LogEntry] = await store.history(
            Span(newest_first=True), Selection([xname]), most
        )
        return found

    def hsm() -> HSMQueue:
        waiting = notifier.pending_count + len(uncommitted)
        told = not monitor.limits.nosm
        table, last = None, reconciler.last
        if last is not None:
            table = TableFound(last.at, last.differences, len(last.held), reconciler.contested)
        absent = len(reconciler.second_signal.absent)
        return HSMQueue(told, notifier.hsm_ready, waiting, notifier.set_aside_count, table, absent)

    def standing(xname: str) -> Standing:
        if xname in uncommitted:
            reason = "this change has yet to be stored, and HSM is told after that"
            return Standing(Told.WAITING, 0.0, reason)
        return reconciler.standing(xname)

    disruption = (lambda _: None) if guard is None else guard.of
    facts = Facts(tracker, observed, wall, standing, maintenance.of, marks, disruption)
    explainer = Explainer(
        tracker,
        monitor,
        facts,
        recent,
        hindrances,
        reconciler.second_signal,
        wall,
        marks,
        threshold,
        maintenance.sentence,
        (lambda _: "") if guard is None else guard.sentence,
    )
    summary = Summary(
        tracker,
        machine,
        facts,
        wall,
        hsm,
        lambda: monitor.leading,
        leader,
        replica,
        maintenance.update,
        list if guard is None else guard.summary,
    )
    return Components(tracker, monitor, machine, facts, explainer, summary, marks)
