"""What the publisher's thread is made of: the thread, its condition, and its clock."""

from collections.abc import Callable
from threading import Condition, Thread
from time import monotonic
from typing import NamedTuple

ThreadFactory = Callable[[Callable[[], None]], Thread]
"""A function that makes a thread which is to call a function, and is not started yet."""


def make_thread(run: Callable[[], None]) -> Thread:
    """Make the publisher's thread, which ends with the process at the latest."""
    return Thread(target=run, name="hbtd-telemetry", daemon=True)


class Background(NamedTuple):
    """How the publisher makes its thread, and what the thread waits with; by default the real ones.

    The constructor of hbtd's service takes a `Background`: a simulation passes one whose threads
    wait in simulated time.
    """

    make_thread: ThreadFactory = make_thread
    make_condition: Callable[[], Condition] = Condition
    """Makes a condition, with which the reactor and the thread lock what they share."""
    monotonic: Callable[[], float] = monotonic
    """Returns the seconds of a monotonic clock; called in both threads."""
