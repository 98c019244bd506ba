"""Living components, the queues in which they are, and which of them are overdue."""

from collections import OrderedDict
from collections.abc import Container
from typing import NamedTuple


class Component:
    """The last heartbeat of a component that is not dead."""

    __slots__ = ("fresh", "last_heard", "source", "status", "timestamp")

    def __init__(
        self,
        last_heard: float,
        timestamp: str,
        status: str,
        source: str | None = None,
        fresh: bool = False,
    ) -> None:
        self.last_heard = last_heard
        """The observed time of the heartbeat, in seconds."""
        self.timestamp = timestamp
        """The timestamp in the heartbeat, verbatim."""
        self.status = status
        """The status in the heartbeat, verbatim."""
        self.source = source
        """The IP address that sent the heartbeat, or the replica that took it, if known."""
        self.fresh = fresh
        """Whether the heartbeat was the first on its connection."""


class Unheard(NamedTuple):
    """Which components may have sent heartbeats that have not been read yet."""

    sources: Container[str | None] = ()
    """Those whose last heartbeat came from one of these IP addresses, or replicas."""
    fresh: bool = False
    """Whether also those whose last heartbeat was the first on its connection."""


def sort_queue(queue: OrderedDict[str, Component]) -> None:
    """Put the components of a queue in the order of their last heartbeats."""
    in_order = sorted(queue.items(), key=lambda item: item[1].last_heard)
    queue.clear()
    queue.update(in_order)


def find_overdue(
    queue: OrderedDict[str, Component],
    at: float,
    limit: float,
    patience: float,
    unheard: Unheard,
    most: int,
) -> list[tuple[str, Component, float]]:
    """Return at most `most` components of a queue that have been silent for `limit` seconds.

    With each comes how long that is, less `patience` seconds for those that are `unheard`.
    """
    overdue: list[tuple[str, Component, float]] = []
    for xname, component in queue.items():
        silent = at - component.last_heard
        if silent < limit or len(overdue) >= most:
            break
        if component.source in unheard.sources or (unheard.fresh and component.fresh):
            silent -= patience
            if silent < limit:
                continue
        overdue.append((xname, component, silent))
    return overdue
