"""The HSM client and the notifier, connected to a fake HSM in memory, on one clock."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from treq.client import HTTPClient
from treq.testing import StubTreq
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.vhost import NameVirtualHost

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.hsm.client import HSMClient
from hbtd.hsm.notifier import Notifier
from hbtd.hsm.reconciler import Reconciler
from hbtd.hsm.second_signal import SecondSignal
from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.store.memory import MemoryStore
from hbtd.store.uncommitted import Uncommitted
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition

STARTED, WARNED, RESTARTED, DIED = Transition
URL = "http://hsm.example/hsm/v1"
OTHER_URL = "https://other.example:8443/apis/smd/hsm/v2"
USER_AGENT = "hbtd/1.2.3 (replica-0)"
WALL = 1_800_000_000.0
KINDS = {kind.message: kind for kind in Transition}


def judge(transition: Transition, *names: str) -> list[Judgement]:
    """Make the same judgement on several components."""
    return [Judgement(name, transition, "2026-11-23T00:00:00Z") for name in names]


def nodes(count: int) -> list[str]:
    """Return the xnames of `count` nodes."""
    return [f"x{i // 512}c{i // 64 % 8}s{i % 64}b0n0" for i in range(count)]


def kind(update: Update) -> Transition:
    """Return the transition of an update."""
    return KINDS[update.message]


def lines(events: Sequence[LogEvent], level: str) -> list[str]:
    """Return what hbtd has logged at a level."""
    return [
        formatEvent(event)
        for event in events
        if event["log_level"].name == level and event["log_namespace"].startswith("hbtd.")
    ]


class _Hosts(NameVirtualHost):
    """Web servers by host name, which record the times of readiness probes."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.asked: list[float] = []

    def getChild(self, path: bytes, request: Any) -> Any:
        """Return the server for a request."""
        if request.method == b"GET":
            self.asked.append(self._clock.seconds())
        return super().getChild(path, request)


class HSMTestCase(SynchronousTestCase):
    """Holds a clock, two fake HSMs (at `URL` and `OTHER_URL`), a client and a notifier."""

    conceal: Callable[[str], str] = str
    make_clock: Callable[[], Clock] = Clock

    def setUp(self):
        """Begin with default parameters."""
        self.begin()

    def begin(self, **params: Any) -> None:
        """Begin anew with these parameters; start nothing."""
        self.clock = self.make_clock()
        self.clock.advance(1000)
        self.hsm, self.other = FakeHSM(self.clock), FakeHSM(self.clock)
        self.hosts = _Hosts(self.clock)
        self.hosts.addHost(b"hsm.example", self.hsm.resource())
        self.hosts.addHost(b"other.example", self.other.resource())
        http = self.connect()
        self.params = LiveParams(Params(**{"kv_url": "mem:", "sm_url": URL, **params}))
        self.client = HSMClient(http, self.clock, self.params, USER_AGENT, conceal=self.conceal)
        self.acknowledged: list[Judgement] = []
        self.uncommitted = Uncommitted()
        self.notifier = Notifier(
            self.clock,
            self.client,
            self.params,
            self._delivered,
            lambda: 0.125,
            superseded=self.uncommitted.was_heard,
        )

    def make_reconciler(
        self,
        observed: Callable[[], float],
        tracker: Tracker,
        store: MemoryStore,
        leading: Callable[[], bool] = lambda: True,
    ) -> Reconciler:
        """Return a reconciler beside the notifier; its wall clock is `WALL` at second 0."""
        second_signal = SecondSignal(
            self.clock,
            lambda: WALL + self.clock.seconds(),
            observed,
            self.params,
            tracker,
            leading,
        )
        return Reconciler(
            self.clock,
            lambda: WALL + self.clock.seconds(),
            observed,
            self.client,
            self.params,
            tracker,
            self.uncommitted,
            store,
            self.notifier,
            leading,
            second_signal,
        )

    def connect(self) -> HTTPClient:
        """Return a client of HTTP for `hosts`; `stub` delivers what it sends."""
        self.stub: Any = StubTreq(self.hosts)
        return cast("HTTPClient", self.stub)  # it is not typed as a client

    def _delivered(self, judgements: Sequence[Judgement]) -> Deferred[None]:
        self.acknowledged.extend(judgements)
        return succeed(None)

    def change(self, **params: object) -> None:
        """Change parameters."""
        self.params.patch({name: str(value) for name, value in params.items()})

    def advance(self, seconds: float) -> None:
        """Advance the clock from one delayed call to the next, delivering what is sent."""
        end = self.clock.seconds() + seconds
        self.stub.flush()
        while (now := self.clock.seconds()) < end:
            due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end)
            self.clock.advance(max(0.0, min(due, end) - now))
            self.stub.flush()

    def advance_until(self, condition: Any, within: float) -> float:
        """Advance the clock until a condition holds; return the seconds that took."""
        began = self.clock.seconds()
        while not condition():
            if self.clock.seconds() - began > within:
                self.fail(f"not within {within} s")
            self.advance(0.05)
        return self.clock.seconds() - began

    def tell(self, transition: Transition, *names: str) -> None:
        """Give the notifier the same judgement on several components."""
        self.notifier.tell(judge(transition, *names))

    def sent(self) -> list[tuple[Transition, list[str]]]:
        """Return the transition and components of each update that HSM was sent."""
        return [(kind(update), update.names) for update in self.hsm.updates]


class StartedTestCase(HSMTestCase):
    """Holds a started notifier, and a ready HSM."""

    def begin(self, **params: Any) -> None:
        super().begin(**params)
        self.notifier.startService()
