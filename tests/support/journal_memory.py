"""A journal and its checkpointer, made of what a test has."""

from collections.abc import Callable, Sequence
from typing import Any

from hbtd.config.live_params import LiveParams
from hbtd.store.checkpointer import Checkpointer
from hbtd.store.condition import StoreCondition
from hbtd.store.journal import Journal
from hbtd.store.uncommitted import Uncommitted
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement

WALL = 1_795_000_000.25
"""The Unix time at which these journals say that everything is judged."""


def make_journal(
    clock: Any,
    observed: ObservedClock,
    tracker: Tracker,
    store: Any,
    params: LiveParams,
    tellers: Sequence[Callable[[Sequence[Judgement]], None]] = (),
    uncommitted: Uncommitted | None = None,
    judged: Callable[[Sequence[Judgement]], None] = lambda _: None,
    synchronized: Callable[[], bool] = lambda: True,
) -> tuple[Journal, Checkpointer]:
    """Return the journal and the checkpointer of a store; they have not begun."""
    uncommitted = Uncommitted() if uncommitted is None else uncommitted
    condition = StoreCondition(store, clock.seconds)
    checkpointer = Checkpointer(
        clock, observed, tracker, store, params, uncommitted, condition, synchronized
    )
    journal = Journal(
        clock,
        lambda: WALL,
        store,
        uncommitted,
        condition,
        checkpointer,
        tellers,
        lambda: 0.125,
        judged,
    )
    return journal, checkpointer
