"""A simulated process: its reactor, and what can happen to a process as a whole."""

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.simulation.clock import Event, WorldClock


class ProcessState(Enum):
    """What a process is."""

    RUNNING = auto()
    STOPPED = auto()
    """By SIGSTOP."""
    DEAD = auto()


class Process:
    """Runs calls for as long as it lives, one at a time; each takes a little of its time.

    What comes while it is stopped or busy waits. When it goes on, timers that are due come before
    what was received, as in a round of a reactor.
    """

    def __init__(
        self, clock: WorldClock, cost: Callable[[], float], fail: Callable[[Failure], None]
    ) -> None:
        """Make a running process.

        `cost` returns how many seconds of a processor the next call takes; `fail` is told of
        exceptions that calls raise.
        """
        self.clock = clock
        self.state = ProcessState.RUNNING
        self.used = 0.0
        """The seconds of a processor that it has used."""
        self._cost = cost
        self._fail = fail
        self._busy_until = 0.0
        self._timers: deque[Callable[[], object]] = deque()
        self._input: deque[Callable[[], object]] = deque()
        self._next: Event | None = None
        self._at_death: list[Callable[[], object]] = []
        self._at_end: list[Callable[[], object]] = []
        self._held: list[Callable[[], object]] = []
        self._remains: list[Callable[[], object]] = []

    def now(self) -> float:
        """Return the time as the process sees it: while it works, later than the world's."""
        now, busy_until = self.clock.now, self._busy_until
        return busy_until if busy_until > now else now

    def timer(self, call: Callable[[], object]) -> None:
        """Have the process do something whose time has come."""
        self._timers.append(call)
        self._schedule()

    def input(self, call: Callable[[], object]) -> None:
        """Have the process do something because of what it has received."""
        self._input.append(call)
        self._schedule()

    def queue_timer(self, call: Callable[[], object]) -> None:
        """Do as `timer` does, as soon as `start` is called."""
        self._timers.append(call)

    def queue_input(self, call: Callable[[], object]) -> None:
        """Do as `input` does, as soon as `start` is called."""
        self._input.append(call)

    def start(self) -> None:
        """Do what is waiting, at once if that makes no difference: it spares an event.

        Only an event of the clock may call this, as its last step, and nothing in a process may.
        """
        if (
            self._next is None
            and self.state is ProcessState.RUNNING
            and self._busy_until <= self.clock.now
            and self.clock.is_last()
        ):
            self._go_on()
        else:
            self._schedule()

    def at_death(self, call: Callable[[], object]) -> None:
        """Have the world do something when the process is killed."""
        self._at_death.append(call)

    def at_end(self, call: Callable[[], object]) -> None:
        """Have the world do something when the process has ended, in whatever way."""
        self._at_end.append(call)

    def concurrently(self, call: Callable[[], object], after: float = 0.0) -> None:
        """Have another thread of the process do something after some seconds.

        That takes no time of the reactor's thread. It waits while the process is stopped, and does
        not happen once it is dead.
        """

        def come() -> None:
            if self.state is ProcessState.RUNNING:
                try:
                    call()
                except Exception:  # noqa: BLE001  # as the end of a thread that nobody waits for
                    self._fail(Failure())
            elif self.state is ProcessState.STOPPED:
                self._held.append(call)

        self.clock.after(after, come)

    def stop(self) -> None:
        """Send it SIGSTOP."""
        if self.state is ProcessState.RUNNING:
            self.state = ProcessState.STOPPED

    def resume(self) -> None:
        """Send it SIGCONT."""
        if self.state is ProcessState.STOPPED:
            self.state = ProcessState.RUNNING
            self._schedule()
            held, self._held = self._held, []
            for call in held:
                self.concurrently(call)

    def kill(self) -> None:
        """Send it SIGKILL."""
        if self.state is ProcessState.DEAD:
            return
        self.state = ProcessState.DEAD
        self._timers.clear()
        self._input.clear()
        calls, self._at_death = self._at_death, []
        # Kept, as is all that belongs to it: Python would end its coroutines, whose last steps are
        # none that a process takes that is killed.
        self._remains = [*calls, *self._held]
        for call in [*calls, *self._at_end]:
            call()

    def lose_power(self) -> None:
        """End it with its host: nobody is told."""
        self._at_death.clear()
        self.kill()

    def _schedule(self) -> None:
        if (
            self._next is None
            and self.state is ProcessState.RUNNING
            and (self._timers or self._input)
        ):
            self._next = self.clock.at(self._busy_until, self._go_on)

    def _go_on(self) -> None:
        self._next = None
        if self.state is not ProcessState.RUNNING:
            return
        waiting = self._timers or self._input
        if waiting:
            call = waiting.popleft()
            cost = self._cost()
            self.used += cost
            self._busy_until = self.clock.now + cost
            try:
                call()
            except Exception:  # noqa: BLE001  # as a reactor does
                self._fail(Failure())
        self._schedule()


@implementer(IReactorTime, IReactorTCP, IReactorPluggableNameResolver)
class ProcessReactor:
    """The reactor of a simulated process."""

    def __init__(self, process: Process, network: Any, host: str) -> None:
        """Make the reactor; `host` is the process's address in the network."""
        self.process = process
        self.network = network
        self.host = host
        self.running = True
        self.nameResolver = self
        self.stopped: Deferred[None] = Deferred()
        """Fires when `stop` is called."""
        self._calls: set[DelayedCall] = set()

    # Time

    def seconds(self) -> float:
        """Return the seconds of the monotonic clock."""
        return self.process.now()

    def callLater(  # type: ignore[override]  # the interface has no self
        self, delay: float, call: Callable[..., object], *args: Any, **kw: Any
    ) -> IDelayedCall:
        """Call something after some seconds."""
        assert delay >= 0, delay
        now = self.process.now
        made = DelayedCall(now() + delay, call, args, kw, self._calls.discard, self._wait_for, now)
        self._calls.add(made)
        self._wait_for(made)
        return made

    def getDelayedCalls(self) -> list[DelayedCall]:
        """Return all calls to come."""
        return list(self._calls)

    def _wait_for(self, call: DelayedCall) -> None:
        process, due = self.process, call.getTime()

        def come() -> None:
            if call.called or call.cancelled:
                return
            if call.getTime() > due:
                # It was put off meanwhile; of that a reactor is not told.
                self._wait_for(call)
                return
            process.queue_timer(run)
            process.start()

        def run() -> None:
            if call.called or call.cancelled:
                return
            if call.getTime() > process.now():
                self._wait_for(call)
                return
            self._calls.discard(call)
            call.called = 1
            call.func(*call.args, **call.kw)

        process.clock.at(due, come)

    # Calls

    def callWhenRunning(self, call: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Call something in the next round."""
        self.process.timer(lambda: call(*args, **kw))

    def callFromThread(self, call: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Call something in the next round; nobody else has threads here."""
        self.process.timer(lambda: call(*args, **kw))

    def addSystemEventTrigger(self, *args: Any, **kw: Any) -> None:
        """Do nothing: processes are ended by the world."""

    def stop(self) -> None:
        """Fire `stopped`."""
        if not self.stopped.called:
            self.stopped.callback(None)

    # Connections

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen for connections to the process's address."""
        return self.network.listen(self, port, factory)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """Connect to an address."""
        return self.network.connect(self, host, port, factory, timeout)

    def resolveHostName(
        self,
        receiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Tell `receiver` the address of a name, which is the name itself."""
        receiver.resolutionBegan(self)
        receiver.addressResolved(IPv4Address("TCP", hostName, portNumber))
        receiver.resolutionComplete()
        return receiver

    def installNameResolver(self, resolver: Any) -> Any:
        """Keep this one."""
        return self
