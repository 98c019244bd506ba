"""The thread, condition and clock that the Kafka publisher uses; a simulation replaces them."""

from collections.abc import Callable
from threading import Condition, Thread
from time import monotonic
from typing import NamedTuple

ThreadFactory = Callable[[Callable[[], None]], Thread]
"""The type of a function that takes a function and returns an unstarted thread that calls it."""


def make_thread(run: Callable[[], None]) -> Thread:
    """Return a new, unstarted daemon thread that will call `run`."""
    return Thread(target=run, name="hbtd-telemetry", daemon=True)


class Background(NamedTuple):
    """The functions by which the Kafka publisher makes its thread and condition, and its clock.

    The default functions make real threads and conditions, and read the real clock. A simulation
    gives hbtd's service a `Background` whose threads wait in simulated time.
    """

    make_thread: ThreadFactory = make_thread
    make_condition: Callable[[], Condition] = Condition
    """Returns a new `threading.Condition`, which guards what the reactor and the thread share."""
    monotonic: Callable[[], float] = monotonic
    """Returns the seconds of a monotonic clock; both the reactor and the thread call it."""
