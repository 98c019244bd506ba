"""The store in etcd, which several replicas share."""

import sys
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from itertools import islice
from math import inf
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore, succeed
from zope.interface import implementer

from hbtd.config.params import Params
from hbtd.etcd.client import MAX_OPERATIONS, EtcdClient
from hbtd.etcd.errors import RESOURCE_EXHAUSTED, Compacted, EtcdRefused, EtcdUnavailable
from hbtd.etcd.messages import Compare, Delete, Put
from hbtd.store.etcd_blocks import Blocks, Plan
from hbtd.store.etcd_commits import Numbering, request, steps_of_follower, steps_of_leader
from hbtd.store.etcd_format import FORGET, HEALTH, JUDGEMENT, RECORDS, REQUEST, judgement_value
from hbtd.store.etcd_identities import EtcdIdentities
from hbtd.store.etcd_log import EtcdLog
from hbtd.store.etcd_log_format import CURSOR, LOG, LOG_END
from hbtd.store.etcd_mirror import EtcdMirror, LeaderRequest
from hbtd.store.etcd_notes import EtcdNotes
from hbtd.store.etcd_past import EtcdPast
from hbtd.store.etcd_settings import SETTING, read_setting, setting_key, setting_step, settings_in
from hbtd.store.etcd_steps import Step, batches, key_of, operations_of, transactions
from hbtd.store.etcd_trimming import EtcdTrimming
from hbtd.store.etcd_writer import EtcdWriter
from hbtd.store.interface import IStore, LogEntry, NotLeading, StoreUnusable
from hbtd.store.memory_silences import MemorySilences
from hbtd.store.past import EVERYTHING, Noticed, Selection, SilencesThen, Span, StatesThen
from hbtd.store.questions import AT_ONCE
from hbtd.store.settings import Replacement, Setting, Settings
from hbtd.tracker.records import Identity, Record
from hbtd.tracker.silences import LongSilence
from hbtd.tracker.transitions import Judgement, Transition

_T = TypeVar("_T")

_BATCH = 500
"""The most records that are written at once before other calls have their turn."""


@implementer(IStore)
class EtcdStore:
    """Keeps judgements, records and the log of transitions in etcd; see `IStore`.

    Every replica writes the records of the components that it hears. Only the leader writes
    judgements, in fenced transactions, which have no effect once another replica leads. A follower
    writes a *request* to the leader instead; the leader watches etcd for requests.

    Calls are carried out one after the other. Judgements and requests are also held in memory, in
    `mirror`; the replica updates the mirror with the changes that other replicas write.
    """

    durable = True
    shared = True
    gather = 0.5

    def __init__(
        self,
        client: EtcdClient,
        wall: Callable[[], float],
        blocks: Blocks | None = None,
        judge: str = "",
    ) -> None:
        """Make a store in the etcd that `client` talks to.

        `wall` returns the present Unix time in seconds; times in stored records are by this clock.
        `blocks` decides which heartbeats are written in blocks; if it is `None`, all heartbeats are
        written as records. `judge` is the host and port of this replica, for the entries that the
        replica adds to the log.
        """
        self._client = client
        self.wall = wall
        """A function that returns the present Unix time in seconds."""
        self._judge = judge
        self._turn = DeferredLock()
        self._questions = DeferredSemaphore(AT_ONCE)
        self._closed = False
        self._trouble: str | None = "Not initialized"
        self._out_of_sync: str | None = None
        self.mirror = EtcdMirror(wall)
        """A copy, in memory, of the judgements and of the requests to the leader in etcd."""
        self.blocks = Blocks(lambda: 0.0, Params) if blocks is None else blocks
        """The `Blocks` that decides which heartbeats are written in blocks, not as records."""
        self.writer = EtcdWriter(client, self.mirror)
        """The `EtcdWriter` that makes all writing transactions of this store."""
        self._numbering = Numbering(self.mirror)
        self._log = EtcdLog(client, self.mirror, self.writer, self._in_turn)
        self._past = EtcdPast(self._log, self.mirror)
        self._identities = EtcdIdentities(client, self.mirror, self.writer, self._in_turn)
        self._notes = EtcdNotes(client, self.writer, self._in_turn)
        self._silences = MemorySilences()
        self._trimming = EtcdTrimming(self._log, self.mirror, self.writer)
        self.settings = Settings()
        """The settings in etcd, as far as their changes have reached this replica."""

    # The condition of the store

    def open(self) -> Deferred[None]:
        """Open the store: read judgements and requests to the leader from etcd into `mirror`.

        Also read the cursors of the log's readers and the number of the last log entry, but no log
        entries. Write the key `HBTD_HEALTH_KEY`, too (docs/protocol.md, "etcd"). The Deferred fails
        with `StoreUnusable` if etcd fails.
        """
        return self._noting(self._open())

    async def _open(self) -> None:
        self.mirror.clear()
        for prefix in (CURSOR, JUDGEMENT, REQUEST):
            async for page in self._client.pages(prefix, prefix[:-1] + b"0"):
                for item in page.items:
                    self.mirror.apply(item.key, item.value, item.mod_revision)
        pages = self._client.pages(SETTING, SETTING[:-1] + b"0")
        settings = [item async for page in pages for item in page.items]
        self.settings.replace(settings_in(settings))
        last = await self._client.last_key(LOG, LOG_END)
        if last is not None:
            self.mirror.apply(last.key, last.value, last.mod_revision)
        await self._client.put(*HEALTH)

    def close(self) -> Deferred[None]:
        """Close the store once earlier calls are done; later calls fail with `StoreUnusable`."""
        self._closed = True
        return self._turn.run(lambda: None)

    def usable(self) -> bool:
        """Return whether the last call has succeeded, and changes in etcd reach this replica."""
        return not self._closed and self._trouble is None and self._out_of_sync is None

    def health(self) -> str:
        """Return the reason why the store can't be used.

        If the store can be used, return the text that the original hbtd returns in this case.
        """
        trouble = "Closed" if self._closed else self._trouble
        return self._out_of_sync or trouble or "Initialization key present: HBTD_OK"

    def out_of_sync(self, reason: str) -> None:
        """Make the store unusable until `in_sync` is called.

        Call this when changes in etcd no longer reach this replica. `reason` is the text that
        `health` returns meanwhile.
        """
        self._out_of_sync = reason

    def in_sync(self) -> None:
        """Make the store usable again.

        Call this when changes in etcd reach this replica again after `out_of_sync`. Earlier errors
        of etcd no longer count either.
        """
        self._out_of_sync = self._trouble = None

    # Reading

    def undelivered(
        self, share: Callable[[str, str], tuple[str, str]] | None = None
    ) -> Deferred[list[Judgement]]:
        """Return the undelivered judgements in `mirror`, in the order of their commits.

        `share` is not used, because the judgements are in memory already.
        """
        stored = self.mirror.judgements()
        return succeed([each.judgement for each in stored if not each.delivered])

    def judgements(
        self, of: Collection[Transition] = tuple(Transition)
    ) -> Deferred[list[Judgement]]:
        """Return the judgements in `mirror` with transitions in `of`, in order of their commits.

        There is at most one judgement on each component.
        """
        found = (each.judgement for each in self.mirror.judgements())
        return succeed([judgement for judgement in found if judgement.transition in of])

    def told(self) -> Deferred[dict[str, tuple[Transition, float]]]:
        """Return the alarms that HSM has acknowledged and that no later judgement has replaced.

        The result is a dictionary from each component's name to the transition and the Unix time of
        the acknowledgement. The alarms are taken from `mirror`.
        """
        return succeed(
            {
                judgement.component: (judgement.transition, told)
                for judgement, _, _, told in self.mirror.judgements()
                if told
            }
        )

    def records(self, after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Record]]:
        """Return the records of the first `most` components after the name `after`.

        The age of a heartbeat, in seconds, is the present time of the wall clock less the stored
        time of the heartbeat.
        """

        async def work() -> Sequence[Record]:
            found: list[Record] = []
            first = f"{after}\0".encode()
            for start, end in sorted(RECORDS):
                if first >= end:
                    continue
                async for page in self._client.pages(max(start, first), end):
                    stored = (self.mirror.read_record(each.key, each.value) for each in page.items)
                    found += [each.record for each in stored if each is not None]
                    if len(found) >= most:
                        return found[:most]
            return found

        return self._noting(self._in_turn(work))

    # Writing

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Store judgements and records; the judgements are marked as not delivered.

        The leader uses fenced transactions. Each of these also adds its judgements to the log. If
        the judgements on one component are divided between transactions, each judgement is stored
        together with a record that agrees with it.

        The Deferred's result is `True` on the leader and `False` on a follower. A follower writes
        no judgements, but the records and, for each judgement `STARTED`, a request to the leader to
        make that judgement. A component that restarted needs no request: the leader recognizes
        the restart by the record.
        """

        async def work() -> bool:
            leading, wall = self.writer.leading, self.wall()
            if leading:
                numbers = self._numbering.assign(judgements, self.writer.lock_key)
                steps = steps_of_leader(judgements, numbers, records, self._judge, wall)
            else:
                steps = steps_of_follower(judgements, records, wall)
            await self.writer.write(steps, fenced=leading)
            self._numbering.committed()
            self.blocks.note_records(each.component for each in records if not each.warned)
            for judgement in judgements:
                if judgement.transition.alarming:
                    self.blocks.note_change(judgement.component)
            return leading

        return self._noting(self._in_turn(work))

    def checkpoint(
        self, records: Sequence[Record], starting: Sequence[Record] = ()
    ) -> Deferred[None]:
        """Store the heartbeats in `records`, in blocks or as records, as `Blocks.plan` decides.

        Those in `starting`, of dead components, are written in blocks, for the other replicas.

        The Deferred fails with `StoreUnusable` if any heartbeat could not be stored.
        """

        async def work() -> None:
            last = {record.component: record for record in records}
            await self._carry_out(self.blocks.plan(last.values(), starting))

        return self._noting(self._in_turn(work))

    async def write_owed_records(self) -> None:
        """Write the records of all components whose last heartbeats are only in blocks.

        Raise `StoreUnusable` if etcd fails.
        """

        async def work() -> None:
            await self._carry_out(self.blocks.plan_owed(_BATCH))

        async def write_all() -> None:
            for _ in range(0, self.blocks.owed, _BATCH):
                await self._in_turn(work)

        await self._noting(write_all())

    async def _carry_out(self, plan: Plan) -> None:
        done = False
        try:
            await self.writer.write(plan.steps(self.writer.presence, self.wall()))
            done = True
        finally:
            if not done:
                self.blocks.undo(plan)

    def delivered(self, judgements: Sequence[Judgement], at: float = 0.0) -> Deferred[None]:
        """Mark judgements as delivered, because HSM has acknowledged them.

        `at` is the Unix time of the acknowledgement; 0 if it is not known. The Deferred fails with
        `NotLeading` if this replica does not lead.
        """

        async def work() -> None:
            steps: dict[str, Step] = {}
            for judgement in judgements:
                xname = judgement.component
                stored = self.mirror.judgement(xname)
                if stored is None or stored.delivered or stored.judgement != judgement:
                    continue
                key, done = key_of(JUDGEMENT, xname), stored._replace(delivered=True, told=at)
                if judgement.transition.alarming:
                    steps[xname] = Step([Put(key, judgement_value(done))], done)
                else:
                    steps[xname] = Step([Delete(key)], dropped=xname)
            await self.writer.write(list(steps.values()), fenced=True)

        return self._noting(self._in_turn(work))

    def forget(self, xname: str) -> Deferred[None]:
        """Delete what is stored about a component, except its entries in the log.

        A follower deletes the record and the identity, and writes a request to the leader to delete
        the judgement.
        """

        async def work() -> None:
            self.blocks.note_change(xname)
            await self._identities.remove(xname)
            record = Delete(xname.encode())
            if not self.writer.leading:
                await self.writer.write([request(xname, FORGET, record)])
                return
            judgement = Delete(key_of(JUDGEMENT, xname))
            # This request tells replicas not to write an earlier heartbeat that they still hold.
            forget = Put(key_of(REQUEST, xname), FORGET)
            step = Step([record, judgement, forget], dropped=xname, request=(xname, FORGET))
            revision = await self.writer.write([step], fenced=True)
            # A request that another replica has written since then is not deleted.
            await self.writer.remove({xname: LeaderRequest(FORGET, revision)})

        return self._noting(self._in_turn(work))

    def remove_requests(self, xnames: Sequence[str]) -> Deferred[None]:
        """Delete from etcd the requests to the leader that `mirror` has about these components.

        If a newer request has replaced such a request in etcd, the newer request stays. The
        Deferred fails with `StoreUnusable` if etcd fails.
        """

        async def work() -> None:
            known = self.mirror.requests
            for batch in batches(xnames, MAX_OPERATIONS - 1):
                requests = {xname: known[xname] for xname in batch if xname in known}
                if not await self.writer.remove(requests):
                    for xname, request in requests.items():
                        await self.writer.remove({xname: request})

        return self._noting(self._in_turn(work))

    def clear_records(self) -> Deferred[None]:
        """Delete all records, but no judgements."""

        async def work() -> None:
            self.blocks.reset()
            await self.writer.write([Step([Delete(*each) for each in RECORDS])])

        return self._noting(self._in_turn(work))

    async def touch(self) -> int:
        """Write this replica's presence key, and nothing else; return the revision of the write.

        The revision is a number by which etcd counts its writes. Raise `EtcdUnavailable` or
        `EtcdRefused` as the methods of `EtcdClient` do, and `StoreUnusable` if the store is closed.
        """
        return await self._in_turn(lambda: self.writer.write([Step([])]))

    # Host names and NIDs

    def identities(self, after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Identity]]:
        """Return the identities of the first `most` components after the name `after`."""
        return self._noting(self._identities.read(after, most))

    def identify(self, identities: Sequence[Identity]) -> Deferred[None]:
        """Store host names and NIDs; write only those keys of etcd whose values change."""
        return self._noting(self._identities.write(identities))

    # Notes

    def notes(self, kind: str) -> Deferred[dict[str, str]]:
        """Return all notes of a kind: a dictionary from their names to their texts.

        Notes are texts that parts of hbtd keep in the store; see `IStore.notes`.
        """
        return self._noting(self._notes.read(kind))

    def write_notes(self, kind: str, notes: Mapping[str, str | None]) -> Deferred[None]:
        """Write notes of a kind; delete the notes whose text is `None`.

        Notes are texts that parts of hbtd keep in the store; see `IStore.notes`. `notes` has the
        texts by name. The Deferred fails with `NotLeading` if this replica does not lead.
        """
        return self._noting(self._notes.write(kind, notes))

    # Long silences, which are not in etcd

    def keep_silences(self, silences: Sequence[LongSilence], noticed: Noticed) -> Deferred[None]:
        """Add long silences to the table in memory; see `IStore.keep_silences`."""
        self._silences.keep(silences, noticed)
        return succeed(None)

    def silences(
        self, since: float = -inf, least: float = 0.0, after: int = 0, most: int = 5000
    ) -> Deferred[SilencesThen]:
        """Return a portion of the long silences in this replica's table; see `IStore.silences`."""
        return succeed(self._silences.read(since, least, after, most))

    # Settings

    def write_settings(self, settings: Sequence[Setting]) -> Deferred[None]:
        """Write settings; remove those whose text is `None`.

        `IStore.write_settings` says more. Any replica may write them.
        """

        async def work() -> None:
            written = iter(settings)
            for batch in transactions(map(setting_step, settings)):
                revision = await self.writer.write(batch)
                for setting in islice(written, len(batch)):
                    self.settings.apply(setting, revision)

        return self._noting(self._in_turn(work))

    def replace_settings(self, replacements: Sequence[Replacement]) -> Deferred[Sequence[bool]]:
        """Write those settings that still have the texts that they are expected to have.

        `IStore.replace_settings` says more. Any replica may write them.
        """

        async def work() -> Sequence[bool]:
            replaced: list[bool] = []
            left = iter(replacements)
            for batch in transactions(setting_step(setting) for setting, _ in replacements):
                some = list(islice(left, len(batch)))
                if await self._replaced(some):
                    replaced += [True] * len(some)
                    continue
                for each in some:
                    replaced.append(await self._replaced([each]))
                    if not replaced[-1]:
                        await self._read_setting(each[0])
            return replaced

        return self._noting(self._in_turn(work))

    async def _replaced(self, replacements: Sequence[Replacement]) -> bool:
        """Write settings in one transaction, unless one of them has changed; return whether so."""
        settings, known = [setting for setting, _ in replacements], self.settings
        if any(known.text(each.kind, each.name) != before for each, before in replacements):
            return False
        compares = [
            Compare.mod_revision(setting_key(each), known.number(each.kind, each.name))
            for each in settings
        ]
        operations = operations_of(map(setting_step, settings))
        result = await self.writer.attempt(compares, operations)
        for setting in settings if result.succeeded else ():
            known.apply(setting, result.revision)
        return result.succeeded

    async def _read_setting(self, setting: Setting) -> None:
        """Take over what a setting is now in etcd, also if it is gone."""
        key = setting_key(setting)
        page = await self._client.range(key, key + b"\0")
        for item in page.items:
            self.settings.apply(read_setting(key, item.value), item.mod_revision)
        if not page.items:
            self.settings.apply(setting._replace(text=None), page.revision)

    async def restore_settings(self) -> None:
        """Write settings that etcd has lost again. Raise `StoreUnusable` if etcd fails."""
        if self.settings.lost:
            await self.write_settings(self.settings.lost)

    # The log of transitions

    def log(self, after: int, most: int) -> Deferred[Sequence[LogEntry]]:
        """Return up to `most` entries of the log with numbers above `after`, in order."""
        return self._noting(self._log.read(after, most))

    def history(
        self, span: Span, selection: Selection = EVERYTHING, most: int = 1000
    ) -> Deferred[Sequence[LogEntry]]:
        """Return at most `most` log entries about selected components, from the times in `span`.

        `span` also says whether the oldest or the newest entry comes first.
        """
        return self._noting(self._asking(self._past.history(span, selection, most)))

    def states_at(
        self,
        at: float,
        selection: Selection = EVERYTHING,
        after: str = "",
        most: int = sys.maxsize,
    ) -> Deferred[StatesThen]:
        """Return the states that the selected components had at the Unix time `at`.

        The result has the first `most` of these components after the name `after`, in the order of
        their names. To find the states, all of the log is read.
        """
        return self._noting(self._asking(self._past.states_at(at, selection, after, most)))

    async def _asking(self, question: Coroutine[Any, Any, _T]) -> _T:
        """Return the answer to a question about the past; two are answered at a time at most.

        The number is limited because each question keeps what it has found in memory. Between two
        pages of the log that a question reads, other calls of the store are carried out.
        """
        try:
            async with self._questions:
                return await question
        finally:
            question.close()

    def last_number(self) -> int:
        """Return the highest number of any judgement or log entry that this replica knows of."""
        return self.mirror.last_number

    def cursor(self, reader: str) -> Deferred[int | None]:
        """Return the cursor of a reader of the log, or `None` if the reader has none yet."""
        return self._noting(self._log.cursor(reader))

    def move_cursor(self, reader: str, number: int) -> Deferred[None]:
        """Set a reader's cursor to `number`, the number of the last entry that it has passed on.

        After a change of the leader, the reader of the same name on the new leader begins with the
        entry after this number. The Deferred fails with `NotLeading` if this replica does not lead.
        """
        return self._noting(self._log.move_cursor(reader, number))

    async def restore_cursors(self) -> None:
        """Write the cursors of log readers back to etcd, if etcd has lost its data.

        The cursors are taken from `mirror`. Raise `StoreUnusable` if etcd fails.
        """
        if self.mirror.lost_cursors:
            await self._noting(self._log.restore_cursors())

    def trim(self, before: float, most: int, told: int) -> Deferred[int]:
        """Delete old entries of the log; return how many were deleted.

        `IStore.trim` says which entries are old. In a log of more than 10,000 entries, old entries,
        up to a tenth of the log, may be left for later calls. The Deferred fails with `NotLeading`
        if this replica does not lead.
        """
        return self._noting(self._trimming.trim(before, most, told))

    # The order of calls

    async def flush(self) -> None:
        """Wait until all earlier calls have succeeded or failed."""
        await self._turn.run(lambda: None)

    async def exclusively(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run `work` once all earlier calls of this store are done, and return its result.

        Later calls wait until `work` has ended. So `work` must not wait for calls of this store,
        but use etcd directly. Raise `StoreUnusable` if the store is closed, and the exceptions of
        `work`.
        """
        return await self._in_turn(work)

    async def _in_turn(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run `work` after all earlier calls; return the result of `work`.

        Raise `StoreUnusable` if the store is closed, and the exceptions of `work`.
        """
        if self._closed:
            raise StoreUnusable("Closed")
        done: _T = await self._turn.run(lambda: Deferred.fromCoroutine(work()))
        return done

    def _noting(self, work: Coroutine[Any, Any, _T]) -> Deferred[_T]:
        """Run a coroutine, and note for `usable` and `health` whether etcd has failed.

        The Deferred fires with the coroutine's result. Errors of etcd become `StoreUnusable`.
        """

        async def noting() -> _T:
            try:
                done = await work
            except NotLeading:
                raise
            except (EtcdUnavailable, EtcdRefused, Compacted) as error:
                self._trouble = describe(error)
                raise StoreUnusable(self._trouble) from error
            self._trouble = None
            return done

        return Deferred.fromCoroutine(noting())


def describe(error: EtcdUnavailable | EtcdRefused | Compacted) -> str:
    """Return a text that says why the store can't be used and, if known, what to do about it."""
    what = f"etcd: {error}"
    if isinstance(error, EtcdRefused) and error.code == RESOURCE_EXHAUSTED:
        what += "; raise its quota or compact and defragment it, then disarm the alarm"
    return what
