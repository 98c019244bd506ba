"""Blocks: keys in etcd that each have the ages of the heartbeats of many components.

A replica that reads blocks says so in its sign of life. While all living replicas read blocks, each
replica writes most heartbeats in blocks only, and a component's record about twice in `Errtime`
seconds. Otherwise, for example while an original hbtd runs, every heartbeat is written as a record.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from hbtd.config.params import Params
from hbtd.etcd.messages import Put
from hbtd.store.etcd_format import PRESENCE, InvalidValue, read_object
from hbtd.store.etcd_owed import OwedRecords
from hbtd.store.etcd_steps import Step, batches, put_of
from hbtd.tracker.cohorts import ORDINARY, Limits
from hbtd.tracker.records import Record

BLOCK = b"hbtd/block/"
"""The prefix of the key of a block; the replica's number, `/` and the block's slot follow.

The slot is the number of the block among the blocks of one plan, from 0.
"""

MOST_RESTATED = 1500
"""The greatest number of records that `Blocks.plan` puts into `Plan.restated`."""

_MOST_HEARD = 500
"""The most components in a block."""

_MOST_RECORDS = 100
"""The most records in the transaction of a block, which leaves room for block and presence key."""

_UNIT = 0.1
"""The unit of the ages in blocks, in seconds."""


class Block(NamedTuple):
    """The contents of a block: the ages of heartbeats in seconds, by the xname of the component."""

    heard: Mapping[str, float]
    """The ages of heartbeats that are written only in this block, without records."""
    recorded: Mapping[str, float]
    """The ages of heartbeats whose records are written in the same transaction.

    The transaction may also have records of heartbeats whose ages are in earlier blocks only. Such
    records add the status and the timestamp of the heartbeat, which blocks lack.
    """
    starting: Sequence[Record] = ()
    """Heartbeats of dead components that have yet to send enough of them to be started.

    They are whole, because a record in etcd says that its component lives.
    """


def block_value(block: Block) -> bytes:
    """Return the value that stores a block."""
    fields = {"Heard": _in_units(block.heard), "Recorded": _in_units(block.recorded)}
    if not block.starting:
        return orjson.dumps(fields)
    starting = {
        xname: [_units(age), timestamp, status]
        for xname, age, timestamp, status, _ in block.starting
    }
    return orjson.dumps({**fields, "Starting": starting})


def _in_units(ages: Mapping[str, float]) -> dict[str, int]:
    return {xname: _units(age) for xname, age in ages.items()}


def _units(age: float) -> int:
    return max(0, int(age / _UNIT))


def read_block(_: bytes, value: bytes) -> Block:
    """Return the block that is stored in a key's value.

    A missing field counts as empty; unknown fields are ignored. The names of components are not
    checked. Raise `InvalidValue` if the value is not that of a block.
    """
    stored = read_object(value)
    return Block(
        _ages(stored.get("Heard", {})),
        _ages(stored.get("Recorded", {})),
        _starting(stored.get("Starting", {})),
    )


def _ages(stored: Any) -> dict[str, float]:
    if not isinstance(stored, dict) or not all(
        type(age) is int and age >= 0 for age in stored.values()
    ):
        raise InvalidValue("it is no block: its ages are no natural numbers")
    return {xname: age * _UNIT for xname, age in stored.items()}


def _starting(stored: Any) -> Sequence[Record]:
    if not isinstance(stored, dict):
        raise InvalidValue("it is no block: Starting is no object")
    found: list[Record] = []
    for xname, value in stored.items():
        match value:
            case [int(age), str(timestamp), str(status)] if age >= 0 and type(age) is int:
                found.append(Record(xname, age * _UNIT, timestamp, status, False))
            case _:
                raise InvalidValue("it is no block: in Starting is no age with two texts")
    return tuple(found)


def put_of_block(presence: Put, slot: int, block: Block) -> Put:
    """Return the operation that writes a block of this replica.

    `presence` is the operation that writes this replica's presence key; the number of the replica
    and the lease are taken from it. `slot` is the number of the block among the blocks of one plan.
    """
    key = BLOCK + presence.key.removeprefix(PRESENCE) + b"/%d" % slot
    return Put(key, block_value(block), presence.lease)


class Plan(NamedTuple):
    """A plan for writing heartbeats to etcd: it divides them between blocks and records."""

    heard: Mapping[str, float]
    """The ages, in seconds, of the heartbeats that are written in blocks only, by component."""
    own: Sequence[Record]
    """The records of the new heartbeats that are not in `heard`."""
    restated: Sequence[Record]
    """The records of earlier heartbeats, which so far were written in blocks only."""
    in_blocks: bool
    """Whether the heartbeats in `own` are written in blocks as well as in their records."""
    starting: Sequence[Record] = ()
    """Heartbeats of dead components, which are written in blocks only (`Block.starting`)."""

    def steps(self, presence: Put | None, wall: float) -> list[Step]:
        """Return the steps that carry out the plan; no step is divided between transactions.

        `presence` is the operation that writes this replica's presence key; if it is `None`, no
        blocks are written. `wall` is the present Unix time in seconds.
        """
        if presence is None or not (self.in_blocks or self.restated or self.starting):
            return [Step([put_of(record, wall)]) for record in (*self.own, *self.restated)]
        steps = [] if self.in_blocks else [Step([put_of(record, wall)]) for record in self.own]
        with_block = [*self.own, *self.restated] if self.in_blocks else self.restated
        ages = {each.component: each.age for each in self.own if not each.warned}
        slots = count()
        for names, records in _portions(list(self.heard), with_block):
            recorded = {x: ages[x] for each in records if (x := each.component) in ages}
            block = Block({xname: self.heard[xname] for xname in names}, recorded)
            puts = [put_of(record, wall) for record in records]
            steps.append(Step([put_of_block(presence, next(slots), block), *puts]))
        # No record follows these blocks, of which it might seem to be part.
        for some in batches(self.starting, _MOST_RECORDS):
            steps.append(Step([put_of_block(presence, next(slots), Block({}, {}, some))]))
        return steps


def _portions(
    names: Sequence[str], records: Sequence[Record]
) -> Iterator[tuple[Sequence[str], Sequence[Record]]]:
    """Divide names and records among transactions.

    For each transaction, yield the names of the components in its block, and its records.
    """
    some_names = batches(names, _MOST_HEARD)
    some_records = batches(records, _MOST_RECORDS)
    while (portion := (next(some_names, ()), next(some_records, ()))) != ((), ()):
        yield portion


class Blocks:
    """Decides which heartbeats are written to etcd as records, and which in blocks only.

    Time is divided, for each component, into periods of half `errtime`. The first heartbeat in a
    period is written as a record. A later one is written in a block; if no other heartbeat follows
    for half of `warntime` (or of `errtime`, if that is shorter), its record is written, too.
    Therefore a program that reads only records may overestimate a component's silence, but by no
    more than half of `errtime` plus half of `warntime`. By the time a component is judged for its
    silence, its record has the status and the timestamp of its last heartbeat. For a component with
    limits of its own, these take the place of `errtime` and `warntime`.
    """

    def __init__(
        self,
        elapsed: Callable[[], float],
        params: Callable[[], Params],
        own_limits: Callable[[str], Limits] = lambda _: ORDINARY,
    ) -> None:
        """Make an object that plans only records, no blocks, until `allow` is called.

        `elapsed` returns the seconds of a clock that also advances while the process does not run;
        `params` returns the present parameters, and `own_limits` the limits of a component's own.
        """
        self._elapsed = elapsed
        self._params = params
        self._own_limits = own_limits
        self.allowed = False
        """Whether heartbeats may be written in blocks; `allow` sets this."""
        # When the record of a component was last written, by any replica.
        self._recorded: dict[str, float] = {}
        # The heartbeats taken here that their components' records don't tell of.
        self._owed = OwedRecords(own_limits)

    def allow(self, allowed: bool) -> None:
        """Plan blocks from now on if `allowed` is true; otherwise plan only records."""
        self.allowed = allowed

    @property
    def owed(self) -> int:
        """The number of components whose last heartbeat this replica has written only in a block.

        This replica owes etcd the record of each of these components.
        """
        return len(self._owed)

    def plan(self, records: Iterable[Record], starting: Sequence[Record] = ()) -> Plan:
        """Return the plan for writing the heartbeats in `records`, and those in `starting`.

        Those in `starting` are of dead components, and are always written in blocks only.

        The plan also has the records of other components, if their last heartbeats are only in
        blocks, and are at least as old as half of `warntime` (or of `errtime`, if that is shorter).
        If the plan can't be carried out, call `undo`; then `plan` may be called again with
        `records`.
        """
        now, params = self._elapsed(), self._params()
        heard: dict[str, float] = {}
        own: list[Record] = []
        for record in records:
            if self._needs_record(record, now, params):
                own.append(record)
                self._recorded[record.component] = now
                self._owed.discard(record.component)
            else:
                heard[record.component] = record.age
                self._owed.add(record, now - record.age)

        def silent_since(limits: Limits) -> float:
            return now - min(limits.over(params.warntime, params.errtime)) / 2

        restated = self._restate(now, silent_since, MOST_RESTATED)
        return Plan(heard, own, restated, self.allowed, starting)

    def plan_owed(self, most: int) -> Plan:
        """Return a plan for writing up to `most` records of heartbeats that are only in blocks."""
        now = self._elapsed()
        return Plan({}, (), self._restate(now, lambda _: now, most), self.allowed)

    def undo(self, plan: Plan) -> None:
        """Take back a plan that was not carried out, or not completely.

        Later plans can then contain its records again.
        """
        now = self._elapsed()
        for record in plan.own:
            self._recorded.pop(record.component, None)
        for record in reversed(plan.restated):
            if record.component not in self._owed:
                self._recorded.pop(record.component, None)
                self._owed.add(record, now - record.age, last=False)

    def note_records(self, xnames: Iterable[str]) -> None:
        """Remember that this or another replica has just written the records of these components.

        The next heartbeats of the components may be written in blocks.
        """
        now = self._elapsed()
        for xname in xnames:
            self._recorded[xname] = now
            self._owed.discard(xname)

    def note_heard_elsewhere(self, xnames: Iterable[str]) -> None:
        """Forget the records that this replica owes etcd for these components.

        Call this when another replica has written later heartbeats of the components in blocks:
        then that replica owes the records.
        """
        for xname in xnames:
            self._owed.discard(xname)

    def note_change(self, xname: str) -> None:
        """Make later plans contain the next heartbeat of a component as a record.

        Call this when the component was warned about, has died or was forgotten. A record of the
        component that this replica owes etcd is no longer owed.
        """
        self._recorded.pop(xname, None)
        self._owed.discard(xname)

    def reset(self, living: Collection[str] = ()) -> None:
        """Make later plans contain the next heartbeat of every component as a record.

        Call this when all of etcd has been read again, or all records were deleted. `living` are
        the components whose records in etcd say that the component is healthy (not warned about).
        The records that this replica owes etcd for other components are no longer owed.
        """
        self._recorded.clear()
        for xname in [xname for xname in self._owed if xname not in living]:
            self._owed.discard(xname)

    def _needs_record(self, record: Record, now: float, params: Params) -> bool:
        recorded = self._recorded.get(record.component)
        if recorded is None or record.warned or not self.allowed:
            return True
        limits = self._own_limits(record.component)
        period = limits.over(params.warntime, params.errtime)[1] / 2
        # Each component has its own moments, or all records would be written at once.
        moment = crc32(record.component.encode()) / 2**32 * period
        return (recorded - moment) // period != (now - moment) // period

    def _restate(
        self, now: float, silent_since: Callable[[Limits], float], most: int
    ) -> list[Record]:
        """Return up to `most` owed records, which are to be written and then are owed no longer.

        A record is owed if only a block has the last heartbeat of its component. Records of
        components last heard after the time that `silent_since` returns for their limits are left
        out. Times are in seconds of the clock `elapsed`; `now` is the present one.
        """
        restated: list[Record] = []
        for record, heard_at in self._owed.take(silent_since, most):
            self._recorded[record.component] = now
            restated.append(record._replace(age=now - heard_at))
        return restated
