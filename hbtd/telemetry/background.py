"""The threading primitives and the clock of the Kafka publisher, which a simulation replaces."""

from collections.abc import Callable
from threading import Condition, Thread
from time import monotonic
from typing import NamedTuple

ThreadFactory = Callable[[Callable[[], None]], Thread]
"""A function that returns a new, unstarted thread that will call the given function."""


def make_thread(run: Callable[[], None]) -> Thread:
    """Return a new, unstarted daemon thread that will call `run`."""
    return Thread(target=run, name="hbtd-telemetry", daemon=True)


class Background(NamedTuple):
    """How the publisher makes its thread, and what the thread waits with; by default the real ones.

    hbtd's service is given a `Background`; a simulation gives it one whose threads wait in
    simulated time.
    """

    make_thread: ThreadFactory = make_thread
    make_condition: Callable[[], Condition] = Condition
    """Returns a new `threading.Condition`, the lock of what the reactor and the thread share."""
    monotonic: Callable[[], float] = monotonic
    """Returns the seconds of a monotonic clock; called in the reactor's and that thread."""
