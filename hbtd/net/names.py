"""A resolver of host names that caches answers, and does not delay the end of the process."""

import socket
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

REMEMBERED = 24 * 3600.0
"""Seconds for which an answer is reused while no nameserver answers (see RFC 8767, section 5)."""

PATIENCE = 0.5
"""Seconds for which a caller waits for a new answer before an older answer is used."""

ANOTHER = 30.0
"""Seconds after which a look-up that has not ended may be begun again in a second thread.

A third thread may begin the look-up twice as many seconds after the second thread, and so on: each
pause is twice as long as the previous pause.
"""

_FAMILIES = {IPv4Address: socket.AF_INET, IPv6Address: socket.AF_INET6}

_SEMANTICS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}

# Errors of a look-up by which a nameserver has said that there is no such name. All others pass.
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}

Found = list[tuple[int, tuple[Any, ...]]]
"""The addresses of a name: pairs of an address family and an address, as in the socket module."""


class _Asked(NamedTuple):
    """The question of a look-up: a name, an address family and a type of socket."""

    name: str
    family: int
    kind: int


@implementer(IHostResolution)
class _Asker:
    """A caller that waits for the addresses of a name, and gets at most one answer."""

    def __init__(self, receiver: IResolutionReceiver, name: str, port: int, semantics: str) -> None:
        self.name = name
        self._receiver = receiver
        self._port = port
        self._semantics = semantics
        self.answered = False
        """Whether no answer is expected any more."""
        self.alarm: IDelayedCall | None = None

    def cancel(self) -> None:
        """Ignore answers from now on."""
        self.answered = True
        self._stop_waiting()

    def answer(self, found: Found) -> None:
        """Pass the addresses to the caller, unless it got an answer before or has cancelled."""
        if self.answered:
            return
        self.cancel()
        for family, (host, _, *more) in found:
            kind: Any = IPv6Address if family == socket.AF_INET6 else IPv4Address
            self._receiver.addressResolved(kind(self._semantics, host, self._port, *more))
        self._receiver.resolutionComplete()

    def _stop_waiting(self) -> None:
        if self.alarm is not None and self.alarm.active():
            self.alarm.cancel()


class _LookUp:
    """A look-up in progress, and the callers that wait for its result."""

    def __init__(self) -> None:
        self.askers: list[_Asker] = []
        self.threads = 0
        """The number of threads that do this look-up."""
        self.another_at = 0.0
        """When another thread may begin, in seconds of the reactor's clock."""
        self.pause = ANOTHER


@implementer(IHostnameResolver)
class Names:
    """A name resolver for a reactor; it calls `getaddrinfo`, which may block, in threads.

    If several callers ask for a name at the same time, one thread looks it up for all of them. The
    thread does not belong to the reactor's pool: while no nameserver answers, look-ups would occupy
    the whole pool, and the process could not end before the pool had finished all look-ups in its
    queue. It is a daemon thread, so the process can end without waiting for the thread.

    A look-up continues after its callers have given up, because the system's retries may take
    longer than callers wait: the system asks the second nameserver after 5 s. The answer is kept
    for the next caller. An older answer is used if there is no new answer within `PATIENCE`
    seconds. It is also used if the look-up fails, unless a nameserver says that the name does not
    exist.

    A look-up may never end, because the system may also ask services that hang. So a second thread
    begins the same look-up when a caller asks 30 s or more after the first thread began, a third
    one 60 s or more after the second, and so on: each pause is twice as long as the previous one.

    hbtd looks up a name for each new connection, often because the previous connection has failed.
    So if a name has several addresses, each answer begins with another address than the previous
    answer.
    """

    def __init__(
        self,
        reactor: Any,
        getaddrinfo: Callable[..., Any] = socket.getaddrinfo,
        start: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        """Make a resolver; `reactor` provides `IReactorTime` and `IReactorFromThreads`.

        `getaddrinfo` looks up a name, like the function of the socket module. `start` runs a
        function in a thread of its own, by default in a daemon thread.
        """
        self._reactor = reactor
        self._getaddrinfo = getaddrinfo
        self._start = start or _start_daemon
        self._asking: dict[_Asked, _LookUp] = {}
        self._known: dict[_Asked, tuple[float, Found]] = {}
        self._turns: dict[_Asked, int] = {}

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Look up a host name, and pass its addresses to `resolutionReceiver`.

        The arguments and the result are those of `IHostnameResolver.resolveHostName`.
        """
        asker = _Asker(resolutionReceiver, hostName, portNumber, transportSemantics)
        resolutionReceiver.resolutionBegan(asker)
        families = {_FAMILIES[each] for each in addressTypes or _FAMILIES}
        family = families.pop() if len(families) == 1 else socket.AF_UNSPEC
        asked = _Asked(hostName, family, _SEMANTICS[transportSemantics])
        try:
            found = self._look_up(asked, socket.AI_NUMERICHOST)
        except (OSError, ValueError):
            self._ask(asked, asker)
        else:
            asker.answer(found)
        return asker

    def _ask(self, asked: _Asked, asker: _Asker) -> None:
        """Let `asker` wait for the look-up of `asked`; begin the look-up if none is in progress.

        If a look-up has been in progress for too long, begin the same one in another thread, too.
        """
        look_up = self._asking.get(asked) or _LookUp()
        now = self._reactor.seconds()
        if not look_up.threads or now >= look_up.another_at:
            try:
                self._start(lambda: self._look_up_and_tell(asked, look_up))
            except RuntimeError:  # no thread can be made now
                if not look_up.threads:
                    asker.answer(self._next(asked))
                    return
            else:
                look_up.threads += 1
                look_up.another_at, look_up.pause = now + look_up.pause, 2 * look_up.pause
        self._asking[asked] = look_up
        look_up.askers = [each for each in look_up.askers if not each.answered]
        look_up.askers.append(asker)
        if self._remembers(asked):
            asker.alarm = self._reactor.callLater(PATIENCE, lambda: asker.answer(self._next(asked)))

    def _look_up(self, asked: _Asked, flags: int = 0) -> Found:
        answer = self._getaddrinfo(asked.name, None, asked.family, asked.kind, 0, flags)
        return [(family, address) for family, _, _, _, address in answer]

    def _look_up_and_tell(self, asked: _Asked, look_up: _LookUp) -> None:
        """Look up a name; then have `_looked_up` called in the reactor's thread.

        This runs in a thread of its own, because the look-up may block.
        """
        found: Found | None
        try:
            found = self._look_up(asked)
        except socket.gaierror as error:
            found = [] if error.errno in _NO_SUCH_NAME else None
        except ValueError:  # this can't be a name
            found = []
        except Exception:  # noqa: BLE001  # those who ask must get an answer
            found = None
        self._reactor.callFromThread(self._looked_up, asked, look_up, found)

    def _looked_up(self, asked: _Asked, look_up: _LookUp, found: Found | None) -> None:
        """Remember the addresses that a thread has found, and pass them to the callers.

        `found` is `None` if no nameserver has answered. If several threads look up the same name,
        the first answer counts.
        """
        look_up.threads -= 1
        if self._asking.get(asked) is not look_up or (found is None and look_up.threads):
            return
        if found is not None:
            self._known[asked] = (self._reactor.seconds(), found)
        del self._asking[asked]
        for asker in look_up.askers:
            asker.answer(self._next(asked))

    def _remembers(self, asked: _Asked) -> bool:
        at, found = self._known.get(asked, (0.0, []))
        return bool(found) and self._reactor.seconds() - at < REMEMBERED

    def _next(self, asked: _Asked) -> Found:
        """Return the remembered addresses, beginning with another one each time.

        Return an empty list if none are remembered, or if they are too old.
        """
        if not self._remembers(asked):
            return []
        _, found = self._known[asked]
        turn = self._turns.get(asked, 0) % len(found)
        self._turns[asked] = turn + 1
        return found[turn:] + found[:turn]


def _start_daemon(work: Callable[[], None]) -> None:
    Thread(target=work, name="hbtd-names", daemon=True).start()
