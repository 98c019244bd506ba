"""A stand-in of the original hbtd, for tests of fleets that mix it with this hbtd.

It computes from heartbeats, times and etcd what the original hbtd computes: what it writes to etcd,
and what it tells HSM. `tests.replicas.test_original_hbtd` compares it with a recording of the
original. Heartbeats are calls of `beat`; `tests.support.original_http` has an HTTP server.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable, LockTimeout
from hbtd.etcd.messages import Delete, KeyValue
from hbtd.store.etcd_format import ALIVE, HEALTH, LIFE, LOCK, PARAMS
from hbtd.tracker.transitions import Transition

STARTED, WARNED, RESTARTED, DIED = Transition

SWEPT = (b"x0", b"xz")
"""The range of the keys that the original sweeps."""

LEASE = 10
"""The TTL of its life key's lease, and of its lock's, in seconds."""

_RENEWAL = 3.0


class Heard(NamedTuple):
    """What a heartbeat makes the original do."""

    value: bytes
    """The record that it writes."""
    started: bool
    """Whether it will tell HSM that the component has started."""


class Swept(NamedTuple):
    """What a sweep makes the original do."""

    told: list[tuple[str, Transition]]
    """The components, with what it will tell HSM of each."""
    deleted: list[bytes]
    """The keys that it deletes."""
    written: list[tuple[bytes, bytes]]
    """The keys that it writes, with their values."""


def record(name: str, heard: int, timestamp: str, status: str, warning: str = "") -> bytes:
    """Return a record as the original writes it."""
    fields = {
        "Component": name,
        "Last_hb_rcv_time": format(heard, "x"),
        "Last_hb_timestamp": timestamp,
        "Last_hb_status": status,
        "Had_warning": warning,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def take_beat(known: bytes | None, name: str, timestamp: str, status: str, now: int) -> Heard:
    """Return what a heartbeat does to the record `known`; `now` is Unix time in seconds.

    A warning stays in the record until a sweep finds it there beside a time that is recent enough.
    """
    warning = json.loads(known)["Had_warning"] if known is not None else ""
    if warning == "WG":
        warning = "WN"
    return Heard(record(name, now, timestamp, status, warning), known is None)


def sweep(
    records: Sequence[tuple[bytes, bytes]], now: int, warntime: int, errtime: int, *, gap: bool
) -> Swept:
    """Return what a sweep does that has read `records`.

    `gap` says whether this is the first sweep of an original that found no other one alive when it
    started: nobody was listening before that, so nobody is declared dead.
    """
    swept = Swept([], [], [])
    for key, value in records:
        fields = json.loads(value)
        name, heard = fields["Component"], int(fields["Last_hb_rcv_time"], 16)
        warning, silent = fields["Had_warning"], now - heard
        told: Transition | None = None
        if silent >= errtime:
            if not gap:
                swept.told.append((name, DIED))
                swept.deleted.append(key)
                continue
            heard, warning, told = now, "WG", WARNED
        elif silent >= warntime:
            if not warning:
                warning, told = "WN", WARNED
        elif warning == "WN":
            warning, told = "", RESTARTED
        if told is not None:
            swept.told.append((name, told))
            sender = fields["Last_hb_timestamp"], fields["Last_hb_status"]
            swept.written.append((name.encode(), record(name, heard, *sender, warning)))
    return swept


class OriginalHbtd:
    """A process of the original hbtd, which sweeps while nobody else holds the lock.

    It lets go of the lock after each sweep. What it has to tell HSM is told at the end of its own
    next sweep, the latest transition of each component alone; what waits is lost with the process.
    """

    _log = Logger()

    def __init__(
        self,
        client: EtcdClient,
        clock: IReactorTime,
        wall: Callable[[], float],
        tell: Callable[[Transition, list[str]], None],
        number: int,
        *,
        warntime: int,
        errtime: int,
        interval: float,
    ) -> None:
        """Make a process that has not been started.

        `tell` stands for HSM; `wall` returns the Unix time in seconds.
        """
        self._client = client
        self._clock = clock
        self._wall = wall
        self._tell = tell
        self._life_key = LIFE + str(number).encode()
        self.warntime = warntime
        self.errtime = errtime
        self.interval = interval
        self._gap = False
        self._waiting: dict[str, Transition] = {}
        self._next: dict[str, IDelayedCall] = {}
        self._work: set[Deferred[Any]] = set()
        self.running = False
        self.on_judged: Callable[[str, Transition], object] = lambda name, transition: None
        """Called with each component that it will tell HSM of, before that."""
        self.sweeps = 0
        """The number of sweeps for which it got the lock."""

    async def start(self) -> None:
        """Start it: see who is alive, say that it lives, and sweep from one interval later on."""
        self.running = True
        await self._client.put(*HEALTH)
        alive = await self._client.range(LIFE + b"0", LIFE + b"2147483647")
        self._gap = not alive.items
        lease = await self._client.grant(LEASE)
        await self._client.put(self._life_key, ALIVE, lease)
        self._later(_RENEWAL, "renewal", lambda: self._renew(lease))
        self._later(self.interval, "sweep", self._sweep)

    @property
    def busy(self) -> bool:
        """Whether a request to etcd is under way, as one may be for a moment after `kill`."""
        return bool(self._work)

    def kill(self) -> None:
        """End it at once; its leases expire, whatever ended it (SIGTERM does the same)."""
        self.running = False
        for call in self._next.values():
            if call.active():
                call.cancel()
        for work in list(self._work):
            work.addErrback(lambda failure: failure.trap(CancelledError))
            work.cancel()

    async def beat(self, name: str, timestamp: str = "t", status: str = "OK") -> None:
        """Take a heartbeat; raise `EtcdUnavailable` if etcd fails."""
        key = name.encode()
        known = await self._client.get(key)
        value = known.value if known is not None else None
        heard = take_beat(value, name, timestamp, status, int(self._wall()))
        await self._client.put(key, heard.value)
        if heard.started:
            self._note(name, STARTED)

    async def heartbeating(self, name: str) -> bool:
        """Return whether a component, named as it names itself, was heard within `errtime`."""
        known = await self._client.get(name.encode())
        if known is None:
            return False
        heard = int(json.loads(known.value)["Last_hb_rcv_time"], 16)
        return self._wall() - heard < self.errtime

    async def patch(self, params: dict[str, str]) -> None:
        """Change parameters: it writes all of its own to etcd, and reads none from there."""
        await self._client.put(PARAMS, json.dumps(params, separators=(",", ":")).encode())

    def _later(self, seconds: float, name: str, work: Callable[[], Any]) -> None:
        if self.running:
            self._next[name] = self._clock.callLater(seconds, self._do, work)

    def _do(self, work: Callable[[], Any]) -> None:
        done = Deferred.fromCoroutine(work())
        self._work.add(done)

        def ended(result: Any) -> Any:
            self._work.discard(done)
            return result

        done.addBoth(ended)
        done.addErrback(lambda failure: failure.trap(CancelledError) and None)
        done.addErrback(lambda failure: self._log.failure("The stand-in has failed.", failure))

    async def _renew(self, lease: int) -> None:
        with suppress(EtcdUnavailable, EtcdRefused):
            await self._client.renew(lease)
        self._later(_RENEWAL, "renewal", lambda: self._renew(lease))

    async def _sweep(self) -> None:
        """Sweep, if the lock can be had within two intervals, and be due again."""
        try:
            lease = await self._client.grant(LEASE)
            await self._client.lock(LOCK, lease, 2 * self.interval)
            try:
                await self._sweep_locked()
            finally:
                if self.running:
                    await self._client.revoke(lease)
            self._tell_hsm()
        except LockTimeout:
            pass  # somebody else sweeps
        except (EtcdUnavailable, EtcdRefused) as error:
            self._log.warn("The stand-in could not sweep: {error}", error=str(error))
        self._later(self.interval, "sweep", self._sweep)

    async def _sweep_locked(self) -> None:
        found: list[KeyValue] = []
        async for page in self._client.pages(*SWEPT):
            found += page.items
        records = [(item.key, item.value) for item in found]
        now = int(self._wall())
        swept = sweep(records, now, self.warntime, self.errtime, gap=self._gap)
        for name, transition in swept.told:
            self._note(name, transition)
        for key in swept.deleted:
            await self._client.txn((), [Delete(key)])
        for key, value in swept.written:
            await self._client.put(key, value)
        self._gap = False
        self.sweeps += 1

    def _note(self, name: str, transition: Transition) -> None:
        self._waiting[name] = transition
        self.on_judged(name, transition)

    def _tell_hsm(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for transition in Transition:
            names = [name for name, each in waiting.items() if each is transition]
            if names:
                self._tell(transition, names)
