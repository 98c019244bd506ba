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
    """Functions that make the publisher's thread and its condition, and the clock of both.

    By default they are the real ones. A simulation passes a `Background` whose threads wait in
    simulated time to hbtd's service.
    """

    make_thread: ThreadFactory = make_thread
    make_condition: Callable[[], Condition] = Condition
    """Returns a new `threading.Condition`, for the data that the reactor and the thread share."""
    monotonic: Callable[[], float] = monotonic
    """Returns the seconds of a monotonic clock; called in the reactor's thread and the new one."""
