"""Threads of simulated processes: real threads, of which one at a time runs, in a world's time.

A simulated thread runs until it waits. Then the world goes on, and at the moment at which the wait
ends it lets the thread run again. So the same seed is the same world, also with threads.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from threading import Condition, Lock, Thread, current_thread
from typing import Any, TypeVar

from tests.simulation.process import Process

_T = TypeVar("_T")

_LATENCY = 0.002
"""The most seconds until a thread that may go on does so: others have the processor, too."""

_CONTENDED = 0.1
"""How often a thread has to wait before it gets a lock that nobody has for long."""


class Ended(SystemExit):
    """Raised in a thread of a process that is killed; nobody is told."""


class SimulatedThread(Thread):
    """A thread of a simulated process."""

    def __init__(self, process: Process, random: Random, work: Callable[[], None]) -> None:
        """Make a thread that calls `work`; it runs once it is started."""
        super().__init__(name="simulated", daemon=True)
        self.process = process
        self.holds = 0
        """How many locks it holds."""
        self._random = random
        self._work = work
        self._turn, self._back = Lock(), Lock()
        self._turn.acquire()
        self._back.acquire()
        self._number = 0
        self._pausing = self._woken = self._killed = self._over = False
        self._error: Exception | None = None

    def start(self) -> None:
        """Start it."""
        super().start()
        self.process.at_end(self._end)
        self.process.concurrently(self._go_on, self._latency())

    def run(self) -> None:
        """Do its work, when it is its turn."""
        self._turn.acquire()
        try:
            if not self._killed:
                self._work()
        except Ended:
            pass
        except Exception as error:  # noqa: BLE001  # the world is told
            self._error = error
        finally:
            self._over = True
            self._back.release()

    def pause(self, seconds: float | None = None) -> bool:
        """Wait until `wake` is called, or for some seconds; return whether `wake` was called.

        Only the thread itself may call this. While it waits it must not hold a lock.
        """
        assert current_thread() is self
        assert not self.holds, "a thread blocks while it holds a lock that the reactor needs"
        if self._killed:
            raise Ended
        self._number += 1
        self._pausing, self._woken = True, False
        if seconds is not None:
            self.process.concurrently(partial(self._resume, self._number, False), max(seconds, 0))
        self._back.release()
        self._turn.acquire()
        if self._killed:
            raise Ended
        return self._woken

    def contend(self) -> None:
        """Wait for a moment, now and then, as before a lock."""
        if self._killed or self._random.random() < _CONTENDED:
            self.pause(self._latency())

    def wake(self) -> None:
        """End its wait."""
        if self._pausing:
            self.process.concurrently(partial(self._resume, self._number, True), self._latency())

    def _latency(self) -> float:
        return self._random.uniform(0.0, _LATENCY)

    def _resume(self, number: int, woken: bool) -> None:
        if self._pausing and number == self._number:
            self._pausing, self._woken = False, woken
            self._go_on()

    def _go_on(self) -> None:
        if not self._over:
            self._turn.release()
            self._back.acquire()
            if self._error is not None:
                raise self._error

    def _end(self) -> None:
        self._killed = True
        self._error = None
        if not self._over:
            self._turn.release()
            self._back.acquire()
        self.join()


class SimulatedCondition(Condition):
    """A condition that a reactor and a simulated thread share.

    As one of them runs at a time, the lock is free whenever somebody asks for it.
    """

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process
        self._waits: list[SimulatedThread] = []

    def __enter__(self) -> bool:
        """Take the lock."""
        thread = current_thread()
        if isinstance(thread, SimulatedThread):
            if not thread.holds:
                thread.contend()
            thread.holds += 1
        return True

    def __exit__(self, *_: Any) -> None:
        """Give the lock back."""
        thread = current_thread()
        if isinstance(thread, SimulatedThread):
            thread.holds -= 1

    def wait(self, timeout: float | None = None) -> bool:
        """Wait without the lock until it is notified; return whether it was, within `timeout`."""
        thread = current_thread()
        assert isinstance(thread, SimulatedThread), "the reactor's thread blocks"
        holds, thread.holds = thread.holds, 0
        self._waits.append(thread)
        try:
            return thread.pause(timeout)
        finally:
            self._waits.remove(thread)
            thread.holds = holds

    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T:
        """Wait until `predicate` returns something true, or for `timeout` seconds; return that."""
        end = None if timeout is None else self._process.now() + timeout
        while not (result := predicate()):
            left = None if end is None else end - self._process.now()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        """Wake a thread that waits."""
        for thread in self._waits[:n]:
            thread.wake()
