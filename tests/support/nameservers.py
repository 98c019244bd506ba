"""Nameservers in memory, which answer when a test says so, and the resolver that asks them."""

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.testing import MemoryReactorClock

from hbtd.net.names import Names


class _Reactor(MemoryReactorClock):
    """A reactor in memory whose threads are functions that tests call."""

    def callFromThread(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function, since tests have no threads."""
        function(*arguments)


class Nameservers:
    """What is looked up by `names` waits here until `say` or `fail` is called."""

    def __init__(self) -> None:
        self.clock: Any = _Reactor()
        """A reactor in memory, which looks up names here."""
        self.asked: list[str] = []
        """The names for which a thread was started."""
        self.families: list[int] = []
        """The address family of each of these, as far as they were looked up."""
        self.no_threads = False
        """Whether no thread can be started."""
        self._waiting: dict[str, Callable[[], None]] = {}
        self._hanging: list[Callable[[], None]] = []
        self._result: Any = None
        self.names = Names(self.clock, self._getaddrinfo, self._start)
        self.clock.installNameResolver(self.names)

    def say(self, name: str, *addresses: str) -> None:
        """Answer that a name has these addresses."""
        self._result = [
            (
                socket.AF_INET6 if ":" in each else socket.AF_INET,
                socket.SOCK_STREAM,
                0,
                "",
                (each, 0, 0, 0) if ":" in each else (each, 0),
            )
            for each in addresses
        ]
        self._waiting.pop(name)()

    def fail(self, name: str, error: Exception) -> None:
        """Let the look-up of a name raise an exception."""
        self._result = error
        self._waiting.pop(name)()

    def hang(self, name: str) -> None:
        """Let the look-up of a name go on until `end_hanging`."""
        self._hanging.append(self._waiting.pop(name))

    def end_hanging(self, error: Exception) -> None:
        """Let the look-ups that hang raise an exception."""
        self._result = error
        for work in self._hanging:
            work()

    def _start(self, work: Callable[[], None]) -> None:
        if self.no_threads:
            raise RuntimeError("can't start new thread")
        self.asked.append(self._last)
        self.families.append(self._family)
        self._waiting[self._last] = work

    def _getaddrinfo(
        self, name: str, port: None, family: int, kind: int, protocol: int, flags: int
    ) -> Any:
        if flags & socket.AI_NUMERICHOST:
            self._last, self._family = name, family
            return socket.getaddrinfo(name, port, family, kind, protocol, flags)
        if isinstance(self._result, Exception):
            raise self._result
        return self._result
