"""Helpers for tests of telemetry: judgements, messages, and the log of publishers."""

import threading
import time
from collections.abc import Iterable, Sequence

from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from hbtd.store.interface import LogEntry
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.mock_kafka import Message

NAMES = [
    f"x1000c{chassis}s{slot}b{board}n0"
    for chassis in range(8)
    for slot in range(32)
    for board in range(2)
]

SAID = {
    Transition.STARTED: ("Ready", "OK", "Heartbeat started."),
    Transition.WARNED: ("Ready", "Warning", "Heartbeat stopped, node may be dead."),
    Transition.RESTARTED: ("Ready", "OK", "Heartbeat re-started."),
    Transition.DIED: ("Standby", "Alert", "Heartbeat stopped, node is dead."),
}
"""State, flag and info of each transition (docs/protocol.md, "What the states mean")."""


def numbered(numbers: Iterable[int]) -> list[Judgement]:
    """Make judgements on many components in turn, with their numbers as timestamps."""
    return [
        Judgement(NAMES[number % len(NAMES)], Transition.STARTED, str(number)) for number in numbers
    ]


def entries(numbers: Iterable[int]) -> list[LogEntry]:
    """Make entries of a log, as `numbered` makes judgements, with their numbers plus one."""
    return [
        LogEntry(number + 1, judgement, "host:80")
        for number, judgement in ((int(each.timestamp), each) for each in numbered(numbers))
    ]


def message(
    name: str, timestamp: object, transition: Transition = Transition.STARTED
) -> tuple[bytes, bytes]:
    """Return a message's key and value as docs/protocol.md specifies them."""
    state, flag, info = SAID[transition]
    text = (
        f'{{"MessageID":"Heartbeat Change Notification","ID":"{name}","NewState":"{state}",'
        f'"NewFlag":"{flag}","LastHBTimeStamp":"{timestamp}","Info":"{info}"}}'
    )
    return name.encode(), text.encode()


def numbered_messages(numbers: Iterable[int]) -> dict[bytes, list[bytes]]:
    """Return the messages for numbered judgements, by key."""
    return by_key([message(NAMES[number % len(NAMES)], number) for number in numbers])


def contents(messages: Sequence[Message]) -> list[tuple[bytes, bytes]]:
    """Return keys and values of consumed messages."""
    return [(each.key or b"none", each.value or b"none") for each in messages]


def by_key(found: Iterable[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """Group values by key, each key's in order."""
    values: dict[bytes, list[bytes]] = {}
    for key, value in found:
        values.setdefault(key, []).append(value)
    return values


def publisher_threads() -> list[str]:
    """Return the names of the threads of publishers and their producers."""
    names = [thread.name for thread in threading.enumerate()]
    # The threads of logs that other tests have written to stay, idle.
    return [name for name in names if name.startswith("hbtd-") and name != "hbtd-log"]


def said_by_publishers(test: TestCase) -> list[str]:
    """Return a list that receives what publishers log, until the test ends."""
    said: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if str(event.get("log_namespace")).startswith("hbtd.telemetry"):
            said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    test.addCleanup(globalLogPublisher.removeObserver, observe)
    return said


class SleepWatch:
    """A watch for the time in which a thread sleeps.

    On Linux, time does not count in which it runs, or is kept from it because all cores are busy;
    nor does time in which another thread of Python does or is, which may hold the GIL meanwhile.
    """

    def __init__(self) -> None:
        self._last, self._busy = time.monotonic(), self._busy_times()

    def lap(self) -> float:
        """Return the seconds for which the thread that calls has slept since it called last."""
        last, before = self._last, self._busy
        self._last, self._busy = time.monotonic(), self._busy_times()
        busy = sum(each - before.get(thread, 0) for thread, each in self._busy.items())
        return self._last - last - busy / 1e9

    def _busy_times(self) -> dict[int, int]:
        busy = {}
        for thread in threading.enumerate():
            number = thread.native_id or 0
            try:
                with open(f"/proc/self/task/{number}/schedstat", encoding="ascii") as figures:
                    ran, waited, _ = map(int, figures.read().split())
            except OSError:  # there is no such file, or the thread has ended
                continue
            busy[number] = ran + waited
        return busy


class Pulse:
    """A call repeated a hundred times a second, which shows for how long the reactor is blocked."""

    def __init__(self, test: TestCase) -> None:
        self.longest_gap = 0.0
        """The longest time between two calls in which the thread slept, in seconds."""
        self._watch = SleepWatch()
        beating = LoopingCall(self._beat)
        beating.start(0.01)
        test.addCleanup(beating.stop)

    def _beat(self) -> None:
        self.longest_gap = max(self.longest_gap, self._watch.lap())
