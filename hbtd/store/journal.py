"""The journal: commits judgements to the store before HSM and Kafka are told of them."""

from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.formats.counts import counted
from hbtd.formats.nodesets import count_names
from hbtd.runtime.backoff import Backoff
from hbtd.store.checkpointer import Checkpointer
from hbtd.store.condition import StoreCondition
from hbtd.store.interface import IStore
from hbtd.store.uncommitted import Uncommitted
from hbtd.tracker.transitions import Judgement, Transition

_GATHER = 0.1
"""Seconds for which judgements are gathered before a commit, to keep the updates to HSM few."""

_RETRY = (0.75, 1.5)
"""The shortest and the longest pause, in seconds, before a failed commit is tried again."""

_BATCH = 500
"""The most judgements that are committed in one call of the store.

Between two such batches the reactor can do other work. A batch takes a few milliseconds; in etcd it
takes about four transactions.
"""


class Journal:
    """Commits judgements to the store, then passes them on to the functions `tellers`.

    The tellers send the judgements to HSM and Kafka. Judgements are committed in the order in which
    they are added, each together with the record of its component. The store adds the judgement to
    the log of transitions in the same step.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        store: IStore,
        uncommitted: Uncommitted,
        condition: StoreCondition,
        checkpointer: Checkpointer,
        tellers: Sequence[Callable[[Sequence[Judgement]], None]],
        jitter: Callable[[], float],
        judged: Callable[[Sequence[Judgement]], None] = lambda _: None,
    ) -> None:
        """Make the journal of a store.

        `wall` returns the current Unix time in seconds. `uncommitted` is the queue of judgements to
        be committed, and `condition` records whether `store` can be used; `checkpointer` must have
        been made with the same two objects. `checkpointer` provides the records that are committed
        with the judgements.

        While this replica leads, each of `tellers` is called with the judgements of each commit.
        `jitter` returns a random number from 0 to 1, which varies the pauses before a failed commit
        is tried again. `judged` is called with the judgements of each call of `add`, before their
        commit.
        """
        self._clock = clock
        self._wall = wall
        self._store = store
        self._uncommitted = uncommitted
        self._condition = condition
        self._checkpointer = checkpointer
        self._tellers = tellers
        self._leading = False
        self._committing: Deferred[None] | None = None
        # Components that were forgotten while a judgement about them was being committed. If the
        # commit is tried again, the store has to forget them once more after that.
        self._forgotten_in_hand: set[str] = set()
        self._open = False
        # Whether nobody waits any more for the judgements that are not committed yet.
        self._given_up = False
        self._judged = judged
        self._backoff = Backoff(*_RETRY, jitter)

    def begin(self) -> None:
        """Begin to commit judgements, including those that were added before this call."""
        self._open = True
        self.add([])

    def ready(self) -> bool:
        """Return whether the store is usable now, or was found usable in the last five seconds."""
        return self._condition.ready()

    def lead(self) -> None:
        """Begin to pass committed judgements on to the tellers: this replica leads from now on."""
        self._leading = True

    def follow(self) -> None:
        """Stop passing judgements on to the tellers, because this replica has become a follower.

        Also drop the uncommitted alarms (`WARNED`, `DIED`), because only the leader judges silence.
        """
        self._leading = False
        self._uncommitted.drop_alarms()

    def add(self, judgements: Sequence[Judgement]) -> None:
        """Queue judgements to be committed to the store and then passed on to the tellers.

        The commit begins 0.1 s later, so that it includes judgements that are added meanwhile. If
        commits are in progress already, the judgements are committed right after the earlier ones.
        Judgements without a time get the current Unix time.
        """
        at = self._wall()
        self._uncommitted.add([each.made_at(at) for each in judgements])
        self._judged(judgements)
        if self._uncommitted.waiting and self._committing is None and self._open:
            committing = Deferred.fromCoroutine(self._commit_all())
            self._committing = committing.addErrback(self._commit_failed)

    def forget(self, xname: str) -> None:
        """Make the store forget a component, and drop the uncommitted alarms about it.

        The store deletes the component's judgement, record and identity, in the background. Alarms
        are the judgements `WARNED` and `DIED`.
        """
        if self._uncommitted.forget(xname):
            self._forgotten_in_hand.add(xname)
        self._checkpointer.forget(xname)

    async def close(self, within: float) -> bool:
        """Commit the queued judgements, but give up after `within` seconds.

        Return whether all judgements were committed. If not, log how many were not.
        """
        # A call that is cancelled may fail like any other; it must not be tried again.
        giving_up = self._clock.callLater(within, self._give_up)
        try:
            while self._committing is not None:
                await self._committing
        except CancelledError:
            self._log.error(
                "hbtd stops although {judgements} could not be committed to the store, nor passed"
                " on to HSM and Kafka.",
                judgements=counted(len(self._uncommitted), "judgement"),
            )
            return False
        finally:
            if giving_up.active():
                giving_up.cancel()
        return True

    def _give_up(self) -> None:
        self._given_up = True
        if self._committing is not None:
            self._committing.cancel()

    async def _commit_all(self) -> None:
        """Commit judgements, batch by batch, and pass them on, until no judgements are left."""
        await deferLater(self._clock, _GATHER)
        while self._uncommitted.take(_BATCH):
            committed_again: set[str] = set()
            while (ours := await self._commit(self._uncommitted.in_hand)) is None:
                if self._given_up:
                    raise CancelledError
                await deferLater(self._clock, self._backoff.next())
                committed_again |= self._forgotten_in_hand
            safe = self._uncommitted.finish(passed_on=ours)
            self._forgotten_in_hand.clear()
            for xname in committed_again:
                await self._checkpointer.forget_again(xname)
            if ours:
                self._tell(safe)
            await deferLater(self._clock, 0)
        self._committing = None

    def _tell(self, judgements: Sequence[Judgement]) -> None:
        """Log committed judgements, one line for each transition, and pass them on to the tellers.

        Do nothing if this replica has ceased to lead: the next leader finds the judgements in the
        store.
        """
        if not self._leading:
            return
        components: dict[Transition, list[str]] = {}
        for judgement in judgements:
            components.setdefault(judgement.transition, []).append(judgement.component)
        for transition, xnames in components.items():
            self._log.info("{said}: {xnames}", said=transition.message, xnames=count_names(xnames))
        for tell in self._tellers:
            tell(judgements)

    def _commit_failed(self, failure: Failure) -> None:
        """Log an unexpected error of `_commit_all`, and commit the judgements that still wait."""
        if failure.check(CancelledError):
            failure.raiseException()
        self._log.failure(
            "Passing judgements on to HSM and Kafka failed because of a bug in hbtd; HSM and Kafka"
            " may not be told of some judgements.",
            failure,
        )
        self._committing = None
        self.add([])

    async def _commit(self, judgements: Sequence[Judgement]) -> bool | None:
        """Commit judgements together with the records of their components.

        Return `True` if the judgements are to be passed on, `False` if another replica judges
        instead, and `None` if the commit failed or was postponed.
        """
        # While this replica leads, nobody else judges.
        if not self._leading and self._checkpointer.behind_others():
            return None
        try:
            ours = await self._store.commit(judgements, self._checkpointer.records_with(judgements))
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # it is tried again
            self._condition.failed(error)
            return None
        self._backoff.reset()
        self._condition.worked()
        return ours
