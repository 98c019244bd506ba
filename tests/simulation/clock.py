"""The clock of a world: a heap of what is to happen, and the time, which jumps to the next."""

from collections.abc import Callable
from heapq import heappop, heappush


class Event:
    """Something that is to happen at a time, unless it is cancelled."""

    __slots__ = ("call", "time")

    def __init__(self, time: float, call: Callable[[], object]) -> None:
        self.time = time
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Have it not happen."""
        self.call = None


class WorldClock:
    """The time of a world, in seconds since its beginning, and all that is to happen in it."""

    def __init__(self) -> None:
        self.now = 0.0
        """The time."""
        self.happened = 0
        """How many events have happened."""
        self._events: list[tuple[float, int, Event]] = []
        self._number = 0

    def at(self, time: float, call: Callable[[], object]) -> Event:
        """Have something happen at a time, after all that is to happen then already."""
        time = self.now if time < self.now else time
        event = Event(time, call)
        self._number += 1
        heappush(self._events, (time, self._number, event))
        return event

    def after(self, seconds: float, call: Callable[[], object]) -> Event:
        """Have something happen after some seconds."""
        return self.at(self.now + seconds, call)

    def is_last(self) -> bool:
        """Return whether what is happening is the last thing that happens at this time."""
        return not self._events or self._events[0][0] > self.now

    def run(self, until: float) -> None:
        """Let happen what is to happen up to a time, one event after the other."""
        events = self._events
        while events and events[0][0] <= until:
            time, _, event = heappop(events)
            call = event.call
            if call is None:
                continue
            event.call = None
            self.now = time
            self.happened += 1
            call()
        self.now = until
