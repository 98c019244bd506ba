"""The store on etcd, which several replicas share."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.logger import Logger
from zope.interface import implementer

from hbtd.etcd.client import MAX_OPERATIONS, EtcdClient
from hbtd.etcd.errors import RESOURCE_EXHAUSTED, Compacted, EtcdRefused, EtcdUnavailable
from hbtd.etcd.messages import Compare, Delete, Operation, Put
from hbtd.store.etcd_format import (
    FORGET,
    HEALTH,
    JUDGEMENT,
    RECORDS,
    REQUEST,
    STARTED,
    Kept,
    NotOurs,
    judgement_value,
    read_judgement,
    read_record,
)
from hbtd.store.etcd_steps import (
    Step,
    key_of,
    latest,
    portions,
    put_of,
    size_of,
    transactions,
)
from hbtd.store.interface import IStore, NotLeading, StoreUnusable
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Transition

_T = TypeVar("_T")

_MAX_SKIPPED = 1000
"""Keys that we remember to have complained about."""


class Request(NamedTuple):
    """What a replica asks the leader for."""

    what: bytes
    revision: int


@implementer(IStore)
class EtcdStore:
    """Keeps records and judgements in etcd, in transactions; see `IStore`.

    Any replica writes records, for these are facts. Judgements are the leader's alone: whatever is
    written about them depends on the key that stands for holding the lock (`lead`). The others
    write a *request* to the leader instead, which takes it up.

    Calls are done one after the other. Judgements and requests are also held in memory, which who
    follows etcd's changes keeps up to date (`saw`).
    """

    durable = True
    shared = True
    gather = 0.5

    _log = Logger()

    def __init__(self, client: EtcdClient, wall: Callable[[], float]) -> None:
        """`wall` gives the Unix time in seconds, which stored times are in."""
        self._client = client
        self._wall = wall
        self._writing = DeferredLock()
        self._lock_key: bytes | None = None
        self._kept: dict[str, Kept] = {}
        self._number = 0
        self._trouble: str | None = "Not initialized"
        self._out_of_touch: str | None = None
        self._complained_of: set[bytes] = set()
        self.requests: dict[str, Request] = {}
        """What the leader is asked for, by component."""
        self.mark: Put | None = None
        """Written with every transaction, so that readers know whose it is."""
        self.transactions = 0
        """How many transactions were made."""
        self.bytes_written = 0
        """How many bytes of keys and values these had."""
        self.skipped_count = 0
        """How many keys had values that could not be used."""

    # The store as such

    def open(self) -> Deferred[None]:
        """Learn what etcd has, and note there that it can be used."""
        return self._doing(self._open())

    async def _open(self) -> None:
        self.start_over()
        async for page in self._client.pages(JUDGEMENT, REQUEST[:-1] + b"0"):
            for item in page.items:
                self.saw(item.key, item.value, item.mod_revision)
        await self._client.put(*HEALTH)
        self._found(None)

    def close(self) -> Deferred[None]:
        """Do no more."""
        self._trouble = "Closed"
        return self._writing.run(lambda: None)

    def usable(self) -> bool:
        """Whether it is open, etcd did what it was last asked for, and its changes reach us."""
        return self._trouble is None and self._out_of_touch is None

    def health(self) -> str:
        """Tell people how etcd is."""
        return self._out_of_touch or self._trouble or "Initialization key present: HBTD_OK"

    def out_of_touch(self, trouble: str | None) -> None:
        """Note whether etcd's changes reach us, or why they don't."""
        self._out_of_touch = trouble
        if trouble is None:
            self._found(None)

    def _found(self, trouble: str | None) -> None:
        if self._trouble != "Closed":
            self._trouble = trouble

    # What etcd has, in memory

    def start_over(self) -> None:
        """Know of nothing, as before `saw` has been told what etcd has."""
        self._kept.clear()
        self.requests.clear()

    def saw(self, key: bytes, value: bytes | None, revision: int) -> Kept | None:
        """Take up a judgement or request that is in etcd, or, without a value, no longer is.

        Gives the judgement, if it is one. Other keys mean nothing here.
        """
        if key.startswith(JUDGEMENT):
            xname = key[len(JUDGEMENT) :].decode("utf-8", "replace")
            kept = self.read(read_judgement, key, value) if value is not None else None
            if kept is None:
                self._kept.pop(xname, None)
                return None
            self._keep(kept)
            return kept
        if key.startswith(REQUEST):
            xname = key[len(REQUEST) :].decode("utf-8", "replace")
            if value is None:
                self.requests.pop(xname, None)
            else:
                self.requests[xname] = Request(value, revision)
        return None

    def read(self, reader: Callable[[bytes, bytes], _T], key: bytes, value: bytes) -> _T | None:
        """Read a value; one that can't be used is skipped, counted, and said once to be so."""
        try:
            return reader(key, value)
        except NotOurs as error:
            self.skipped_count += 1
            if key not in self._complained_of and len(self._complained_of) < _MAX_SKIPPED:
                self._complained_of.add(key)
                self._log.warn(
                    "etcd's key {key!r} is left alone: {error}",
                    key=key[:100].decode("utf-8", "replace"),
                    error=str(error),
                )
            return None

    def read_record(self, key: bytes, value: bytes) -> Record | None:
        """Read a record, as `read` does."""
        return self.read(lambda key, value: read_record(key, value, self._wall()), key, value)

    def undelivered(self) -> Deferred[list[Judgement]]:
        """Get what HSM has yet to acknowledge."""
        return succeed([kept.judgement for kept in self._in_order() if not kept.delivered])

    def standing(self) -> Deferred[list[Judgement]]:
        """Get all judgements."""
        return succeed([kept.judgement for kept in self._in_order()])

    def dead(self) -> list[str]:
        """Give the components whose last judgement is that they have died."""
        judgements = (kept.judgement for kept in self._kept.values())
        return [each.component for each in judgements if each.transition is Transition.DIED]

    def _in_order(self) -> list[Kept]:
        return sorted(self._kept.values(), key=lambda kept: kept.number)

    def _keep(self, kept: Kept) -> None:
        self._kept[kept.judgement.component] = kept
        self._number = max(self._number, kept.number)

    # What etcd is told

    def lead(self, lock_key: bytes) -> None:
        """Judge, for as long as this key is there."""
        self._lock_key = lock_key

    def follow(self) -> None:
        """Leave judging to others."""
        self._lock_key = None

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Keep judgements as not delivered, and records: each component's in one transaction.

        Who does not lead keeps the records, and asks the leader to judge those who have started.
        That somebody is back after a warning, the record tells by itself.
        """

        async def work() -> bool:
            wall = self._wall()
            last = {record.component: record for record in records}
            judging = self._lock_key is not None
            if judging:
                died = {j.component for j in judgements if j.transition is Transition.DIED}
                steps = [
                    self._judgement(judgement, number, last.pop(xname, None), wall, xname in died)
                    for number, (xname, judgement) in enumerate(
                        latest(judgements), self._number + 1
                    )
                ]
            else:
                for xname, judgement in latest(judgements):
                    if judgement.transition.alarming:
                        # We led when it was made; its record would have others believe it.
                        last.pop(xname, None)
                steps = [
                    self._request(xname, STARTED, put_of(last.pop(xname), wall))
                    for xname, judgement in latest(judgements)
                    if judgement.transition is Transition.STARTED and xname in last
                ]
            steps += [Step([put_of(record, wall)]) for record in last.values()]
            await self._write(steps, judging=judging)
            return judging

        return self._doing(self._in_turn(work))

    def _judgement(
        self, judgement: Judgement, number: int, record: Record | None, wall: float, died: bool
    ) -> "Step":
        kept = Kept(judgement, number, False)
        key = judgement.component.encode()
        step = Step([Put(JUDGEMENT + key, judgement_value(kept))], kept)
        if record is not None:
            step.operations.append(put_of(record, wall))
        elif died:
            step.operations.append(Delete(key))
        return step

    def _request(self, xname: str, what: bytes, about: Operation) -> "Step":
        step = Step([about, Put(key_of(REQUEST, xname), what)])
        step.asked = (xname, what)
        return step

    def checkpoint(self, records: Sequence[Record]) -> Deferred[None]:
        """Keep records."""

        async def work() -> None:
            wall = self._wall()
            last = {record.component: record for record in records}
            await self._write([Step([put_of(record, wall)]) for record in last.values()])

        return self._doing(self._in_turn(work))

    def delivered(self, judgements: Sequence[Judgement]) -> Deferred[None]:
        """Note that HSM has acknowledged these."""

        async def work() -> None:
            steps: dict[str, Step] = {}
            for judgement in judgements:
                xname = judgement.component
                kept = self._kept.get(xname)
                if kept is None or kept.delivered or kept.judgement != judgement:
                    continue
                key, done = key_of(JUDGEMENT, xname), kept._replace(delivered=True)
                if judgement.transition.alarming:
                    steps[xname] = Step([Put(key, judgement_value(done))], done)
                else:
                    steps[xname] = Step([Delete(key)], gone=xname)
            await self._write(list(steps.values()), judging=True)

        return self._doing(self._in_turn(work))

    def forget(self, xname: str) -> Deferred[None]:
        """Drop whatever is kept of a component, or ask the leader to."""

        async def work() -> None:
            record = Delete(xname.encode())
            if self._lock_key is None:
                await self._write([self._request(xname, FORGET, record)])
                return
            request = key_of(REQUEST, xname)
            judgement = Delete(key_of(JUDGEMENT, xname))
            # The request tells those who have yet to write what they heard before.
            operations: list[Operation] = [record, judgement, Put(request, FORGET)]
            revision = await self._write([Step(operations, gone=xname)], judging=True)
            # But not what another replica has asked for since.
            asked = self.requests[xname] = Request(FORGET, revision)
            await self._withdraw({xname: asked})

        return self._doing(self._in_turn(work))

    def answered(self, xnames: Sequence[str]) -> Deferred[None]:
        """Take away requests that are done with; what was asked for since then stays."""

        async def work() -> None:
            for some in portions(xnames, MAX_OPERATIONS - 1):
                asked = {x: self.requests[x] for x in some if x in self.requests}
                if not await self._withdraw(asked):
                    for xname, request in asked.items():
                        await self._withdraw({xname: request})

        return self._doing(self._in_turn(work))

    async def _withdraw(self, asked: dict[str, Request]) -> bool:
        """Take away requests, if all are as they were; tells whether that is so."""
        keys = [key_of(REQUEST, xname) for xname in asked]
        revisions = [request.revision for request in asked.values()]
        compares = list(map(Compare.mod_revision, keys, revisions))
        operations: list[Operation] = [] if self.mark is None else [self.mark]
        operations += [Delete(key) for key in keys]
        result = await self._client.txn(compares, operations)
        for xname, request in asked.items() if result.succeeded or len(asked) == 1 else ():
            if self.requests.get(xname) == request:
                del self.requests[xname]
        return result.succeeded

    def clear_records(self) -> Deferred[None]:
        """Drop all records."""

        async def work() -> None:
            await self._write([Step([Delete(*each) for each in RECORDS])])

        return self._doing(self._in_turn(work))

    def records(self) -> Deferred[list[Record]]:
        """Get all records, with their ages by the wall clock."""

        async def work() -> list[Record]:
            found: list[Record] = []
            for start, end in RECORDS:
                async for page in self._client.pages(start, end):
                    records = (self.read_record(item.key, item.value) for item in page.items)
                    found += [record for record in records if record is not None]
            return found

        return self._doing(self._in_turn(work))

    async def touch(self) -> int:
        """Write but our mark; gives the revision of that.

        Raises `EtcdUnavailable` or `EtcdRefused`.
        """
        return await self._in_turn(lambda: self._write([Step([])]))

    async def settle(self) -> None:
        """Wait until all that was asked for before is done, or has failed."""
        await self._writing.run(lambda: None)

    async def quietly(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Do something while nothing is being written."""
        return await self._in_turn(work)

    async def _write(self, steps: Sequence["Step"], *, judging: bool = False) -> int:
        """Take steps, as many at once as etcd allows; judging ones only for as long as we lead.

        Gives the revision of the last ones.
        """
        revision = 0
        compares: list[Compare] = []
        if judging:
            if self._lock_key is None:
                raise NotLeading("another replica leads")
            compares.append(Compare.exists(self._lock_key))
        for some in transactions(steps):
            operations: list[Operation] = [] if self.mark is None else [self.mark]
            for step in some:
                operations += step.operations
            result = await self._client.txn(compares, operations)
            self.transactions += 1
            self.bytes_written += sum(map(size_of, operations))
            if not result.succeeded:
                raise NotLeading("another replica leads")
            for step in some:
                if step.kept is not None:
                    self._keep(step.kept)
                if step.gone is not None:
                    self._kept.pop(step.gone, None)
                if step.asked is not None:
                    xname, what = step.asked
                    self.requests[xname] = Request(what, result.revision)
            revision = result.revision
        return revision

    async def _in_turn(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Do something when all that was asked for before is done."""
        if self._trouble == "Closed":
            raise StoreUnusable(self._trouble)
        done: _T = await self._writing.run(lambda: Deferred.fromCoroutine(work()))
        return done

    def _doing(self, work: Coroutine[Any, Any, _T]) -> Deferred[_T]:
        """Do something, and note how etcd is."""
        return Deferred.fromCoroutine(self._noting(work))

    async def _noting(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            done = await work
        except NotLeading:
            raise
        except (EtcdUnavailable, EtcdRefused, Compacted) as error:
            said = f"etcd: {error}"
            if isinstance(error, EtcdRefused) and error.code == RESOURCE_EXHAUSTED:
                said += "; raise its quota or compact and defragment it, then disarm the alarm"
            self._found(said)
            raise StoreUnusable(said) from error
        self._found(None)
        return done
