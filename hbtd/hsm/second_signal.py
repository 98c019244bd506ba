"""What HSM's table says of components that are silent, or were never heard.

It is a second signal beside heartbeats: it explains, and decides nothing. No judgement follows from
it, and nothing that HSM is told.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from twisted.internet.interfaces import IReactorTime

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.formats import xnames
from hbtd.formats.counts import counted
from hbtd.runtime.periodic import PeriodicService
from hbtd.runtime.portions import in_portions
from hbtd.tracker.components import Component
from hbtd.tracker.tracker import Tracker

PORTION: Final = 1000
"""The most nodes that are looked at before the reactor does other work: a millisecond's worth."""

_REVIEW: Final = 1.0
"""Seconds between two looks at who of the expected has been heard, and who is absent by now."""

_UP: Final = {"on": "On", "ready": "Ready"}
"""The states of nodes from which heartbeats are expected, by their lower-case spelling."""


class Expected(NamedTuple):
    """A node from which heartbeats are expected, because HSM's table has it enabled and up."""

    state: str
    """The state of the node in HSM's table: `On` or `Ready`."""
    since: float
    """The observed time, in seconds, of the look at HSM's table that has first found it so.

    If a maintenance included the node after that, it is when the maintenance ended.
    """
    absent: bool
    """Whether the node has not been heard for `boot_time` seconds since then."""


class SecondSignal(PeriodicService):
    """Knows which nodes are expected and absent, and which silent components HSM says are off.

    A node is *expected* if HSM's table has it enabled, and `On` or `Ready`, and it is not tracked.
    It is *absent* if it has been so for `boot_time` observed seconds, since the first of successive
    looks at the table that found it so. While a maintenance includes a node it is not absent, and
    its time begins when that has ended. Only the leader looks; other replicas know nothing. If
    `boot_time` is 0, no node is expected.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        observed: Callable[[], float],
        params: LiveParams,
        tracker: Tracker,
        leading: Callable[[], bool],
    ) -> None:
        """Make a service that has yet to be started.

        `wall` returns the Unix time, `observed` the time of the observed clock in seconds, and
        `leading` whether this replica leads.
        """
        super().__init__(clock, _REVIEW, self._review, "the look for absent nodes")
        self._clock = clock
        self._wall = wall
        self._observed = observed
        self._params = params
        self._tracker = tracker
        self._leading = leading
        # Dictionaries of numbers and shared texts, which the garbage collector does not visit.
        self._since: dict[str, float] = {}
        self._states: dict[str, str] = {}
        self._off: dict[str, float] = {}
        self._looked = float("-inf")
        # Grows whenever all is forgotten: a look that began before counts no longer.
        self._epoch = 0
        self.at = 0.0
        """The Unix time at which the last complete look at HSM's table began; 0 if none did."""
        self.absent: Sequence[str] = ()
        """The xnames of the absent nodes, as of the last second."""
        params.on_change(self._params_changed)

    @property
    def after(self) -> int:
        """The value of `boot_time`, in seconds: 0 if nobody is looked for."""
        return self._params.current.boot_time

    def types(self) -> Collection[str]:
        """Return the types of components that may be expected: `Node`, or none."""
        return ("Node",) if self._params.current.boot_time else ()

    def begin(self) -> "Reading":
        """Begin a look at HSM's table; return an object that takes its rows, for `take`."""
        most = self._params.current.max_components if self._params.current.boot_time else 0
        return Reading(
            self._tracker, self._wall(), self._observed(), self._looked, self._epoch, most,
            self._since, self._off,
        )  # fmt: skip

    def take(self, reading: "Reading") -> None:
        """Take over what a look has found, which must be complete.

        Do nothing if all was forgotten since it began.
        """
        if reading.epoch == self._epoch:
            self._since, self._states, self._off = reading.since, reading.states, reading.off
            self._looked, self.at = reading.observed, reading.at

    def forget(self) -> None:
        """Forget everything, because another HSM is used, or another replica leads."""
        self._epoch += 1
        self._since, self._states, self._off = {}, {}, {}
        self._looked, self.at, self.absent = float("-inf"), 0.0, ()

    def expected(self, xname: str) -> Expected | None:
        """Return what is known of an expected node; `None` if the component is not expected."""
        since = self._since.get(xname)
        if since is None or xname in self._tracker:
            return None
        absent = self._observed() - since >= self._params.current.boot_time
        return Expected(self._states[xname], since, absent)

    def off_since(self, xname: str) -> float | None:
        """Return since when HSM's table has said `Off` of a tracked component, as a Unix time.

        It is the time at which the first of successive looks that found it so began. Return `None`
        if the last look found otherwise, or if the component was heard after that look began.
        """
        component = self._tracker.component(xname)
        if component is None or component.last_heard > self._looked:
            return None
        return self._off.get(xname)

    def health(self) -> str | None:
        """Return a text about the absent nodes; `None` if there are none."""
        if not self.absent:
            return None
        number = counted(len(self.absent), "node")
        return (
            f"{number}, first {self.absent[0]}: enabled and On or Ready in HSM's table, and not"
            f" heard for {self._params.current.boot_time} s"
        )

    def _params_changed(self, old: Params, new: Params) -> None:
        if new.sm_url != old.sm_url:
            self.forget()

    async def _review(self) -> None:
        """Find out who of the expected nodes has been heard by now, and who is absent."""
        if not self._leading():
            if self.at:
                self.forget()
            return
        absent: list[str] = []
        since, epoch = self._since, self._epoch
        if since:
            now, boot_time = self._observed(), self._params.current.boot_time
            async for portion in in_portions(self._clock, list(since), PORTION):
                for xname in portion:
                    if xname in self._tracker:
                        # If it is forgotten later, it is expected anew from the next look on.
                        since.pop(xname, None)
                    elif self._tracker.is_spared(xname):
                        since[xname] = now
                    elif now - since[xname] >= boot_time:
                        absent.append(xname)
        if epoch == self._epoch:
            self.absent = absent


class Reading:
    """What one look at HSM's table finds; see `SecondSignal.begin`."""

    def __init__(
        self,
        tracker: Tracker,
        at: float,
        observed: float,
        looked: float,
        epoch: int,
        most: int,
        since_before: dict[str, float],
        off_before: dict[str, float],
    ) -> None:
        """Make a look without rows, which began at the Unix time `at`.

        `observed` is the observed time then, and `looked` that at which the last complete look
        began, in seconds. `since_before` and `off_before` are the results of that one: the observed
        times since when nodes are expected, and the Unix times since when components are off. At
        most `most` nodes are found to be expected.
        """
        self._tracker = tracker
        self._looked = looked
        self._most = most
        self._since_before = since_before
        self._off_before = off_before
        self.at = at
        self.observed = observed
        self.epoch = epoch
        self.since: dict[str, float] = {}
        """The observed times since when nodes are expected, by xname."""
        self.states: dict[str, str] = {}
        """The states of these nodes in HSM's table."""
        self.off: dict[str, float] = {}
        """The Unix times since when tracked components are `Off` in HSM's table, by xname."""

    def add(self, name: str, state: str, *, enabled: bool) -> None:
        """Take a row of HSM's table: the name and the state of a component.

        `enabled` says whether the table has it as enabled.
        """
        word = state.lower()
        if word == "off":
            self._add_off(name)
        elif enabled and word in _UP and len(self.since) < self._most:
            self._add_up(name, _UP[word])

    def _add_off(self, name: str) -> None:
        component = self._find(name)
        if component is None:
            return
        before = self._off_before.get(component.xname)
        # Who was heard since the look before was on in between.
        same = before is not None and component.last_heard <= self._looked
        self.off[component.xname] = before if before is not None and same else self.at

    def _add_up(self, name: str, state: str) -> None:
        if name in self._tracker:
            return
        xname = xnames.parse(name)
        if xname is None or xname in self._tracker or xnames.type_of_valid(xname) != "Node":
            return
        self.since[xname] = self._since_before.get(xname, self.observed)
        self.states[xname] = state

    def _find(self, name: str) -> Component | None:
        component = self._tracker.component(name)
        return component or self._tracker.component(xnames.normalise(name))
