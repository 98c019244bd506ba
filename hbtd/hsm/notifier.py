"""The notifier: decides which updates are sent to HSM, and when."""

import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.formats.counts import counted
from hbtd.hsm.batch_size import BatchSize
from hbtd.hsm.client import HSMClient, HSMRejected, UpdateFailed
from hbtd.hsm.condition import Condition
from hbtd.hsm.in_doubt import InDoubt
from hbtd.hsm.lane import Lane
from hbtd.hsm.outbox import Outbox
from hbtd.hsm.quarantine import Culprit, Quarantine
from hbtd.hsm.readiness import Readiness
from hbtd.hsm.standing import Standing, Told
from hbtd.hsm.told import TimeToTell
from hbtd.runtime.backoff import Backoff
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.interface import StoreUnusable
from hbtd.tracker.transitions import Judgement, Transition

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 10.0
"""The longest pause before a retry of an update, in seconds; the first is `_FIRST_PAUSE`."""

_DOUBT = 3
"""The time for which HSM may continue an abandoned update, as a multiple of `sm_timeout`."""

_LOOK_BACK = 5.0
"""Seconds between two checks for judgements to send again because of abandoned updates."""


class Notifier(Service):
    """Sends HSM the latest judgement on each component, until HSM has acknowledged it.

    There are two connections, with one PATCH at a time on each. No component is on both, so that
    HSM receives no older judgement after a newer one. When an update has failed, for whatever
    reason, its components become suspects. The first connection sends all other components, so that
    suspects don't delay them. The second connection sends the suspects, which `Quarantine` divides
    into halves again and again, until the components that cause the failures are found and set
    aside.

    While HSM is not ready, or `nosm` is set, judgements wait in the outbox. If no update succeeds,
    HSM itself is at fault: after `sm_retries` retries with growing pauses, both connections wait
    until a probe finds HSM ready.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: HSMClient,
        params: LiveParams,
        delivered: Callable[[Sequence[Judgement]], Deferred[None]],
        jitter: Callable[[], float],
        may_send: Callable[[], bool] = lambda: True,
        wall: Callable[[], float] = time.time,
        told: Callable[[str], float] = lambda _: 0.0,
        superseded: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Make a notifier; it sends nothing until it is started.

        `delivered` is called with judgements that HSM has acknowledged; the Deferred that it
        returns may fail with `StoreUnusable`. `jitter` returns a random number from 0 to 1.
        `may_send` returns whether this replica, and no other, may send updates to HSM. `wall`
        returns the Unix time in seconds. `told` returns the Unix time at which HSM acknowledged the
        latest transition of a component, or 0 if that is not known. `superseded` returns whether
        a judgement `STARTED` or `RESTARTED` on a component has yet to be committed, and so is newer
        than the judgements that this notifier has.
        """
        self._clock = clock
        self._client = client
        self._params = params
        self._delivered = delivered
        self._may_send = may_send
        self._told = told
        self._superseded = superseded
        self._jitter = jitter
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, jitter)
        self._condition = Condition(clock, params, wall)
        self._readiness = Readiness(clock, client, params, self._found_ready, self._suspend)
        self._outbox = Outbox()
        self._quarantine = Quarantine(self._outbox, jitter, self._is_stale)
        self._batch_sizes = {each: BatchSize() for each in Transition}
        self._in_doubt = InDoubt()
        self.time_to_tell = TimeToTell(wall)
        """Statistics of the seconds from each judgement to HSM's acknowledgement of it."""
        self._looking_back = PeriodicService(
            clock, _LOOK_BACK, self._look_back, "the notifier's look back", now=False
        )
        self._everybody = Lane(clock)
        self._suspects = Lane(clock)
        self._lanes = (self._everybody, self._suspects)
        self._drained: Deferred[None] | None = None
        self.delivered_count = 0
        """The number of judgements that HSM has acknowledged."""
        self.rejected_count = 0
        """The number of times that a component was set aside because its updates failed."""
        self.failed_count = 0
        """The number of PATCH requests that failed without a rejection of their content by HSM."""
        params.on_change(self._params_changed)

    @property
    def pending_count(self) -> int:
        """The number of components with a judgement that HSM has yet to acknowledge.

        Components that are set aside don't count.
        """
        return len(self._outbox) - self.set_aside_count

    @property
    def set_aside_count(self) -> int:
        """The number of components that are set aside because their updates fail."""
        return len(self._quarantine.set_aside)

    def set_aside(self) -> Iterator[Culprit]:
        """Yield the components that are set aside, each with its judgement and its last failure."""
        return self._quarantine.culprits()

    @property
    def batch_sizes(self) -> dict[Transition, int]:
        """The maximum number of components in the next update, by transition."""
        return {transition: size.size for transition, size in self._batch_sizes.items()}

    @property
    def hsm_ready(self) -> bool:
        """Whether HSM was ready at the last probe, and is not in an outage (see `Condition`)."""
        return self._readiness.ready and not self._condition.in_outage

    def health(self) -> str:
        """Return a text about the state of HSM (docs/protocol.md, "Probes and health")."""
        return self._condition.health(self.hsm_ready, self._quarantine)

    def trouble(self) -> str | None:
        """Return why HSM can't be told of all judgements and, if known, since when.

        Return `None` if HSM can be told of all judgements.
        """
        return self._condition.trouble(self.hsm_ready, self._quarantine)

    def standing(self, xname: str) -> Standing:
        """Return whether HSM was told of the latest transition of a tracked component.

        The answer is certain on the leader only; a follower knows only what the store says.
        """
        said = self._quarantine.why_set_aside(xname)
        if said is not None:
            return Standing(Told.SET_ASIDE, 0.0, f"its updates fail, the last one with: {said}")
        latest = self._outbox.latest(xname)
        if latest is not None:
            return Standing(Told.WAITING, 0.0, self._why_waiting(latest))
        if xname in self._in_doubt:
            reason = "HSM may still carry out an older update, and is told again after that"
            return Standing(Told.IN_DOUBT, self._told(xname), reason)
        at = self._told(xname)
        if at or self._may_send():
            return Standing(Told.TOLD, at)
        return Standing(Told.UNKNOWN, 0.0, "another replica tells HSM")

    def _why_waiting(self, judgement: Judgement) -> str:
        if self._is_stale(judgement):
            return "it is not sent any more, since the component was heard"
        if self._params.current.nosm:
            return "no updates are sent to HSM: nosm is set"
        if self._condition.in_outage or not self._readiness.ready:
            return self._condition.why_not_ready()
        if not self._may_send():
            return "this replica does not lead at the moment"
        if self._quarantine.is_suspect(judgement.component):
            return "an update with it has failed; it is sent again"
        return "it is about to be sent, or HSM has not answered yet"

    def tell(self, judgements: Iterable[Judgement]) -> None:
        """Send judgements to HSM as soon as possible.

        A judgement replaces an earlier one on the same component that is still in the outbox. An
        alarm (warned, died) is not sent if it is superseded, which means that the component has
        been heard from since the alarm was made.
        """
        for judgement in judgements:
            if not self._is_stale(judgement):
                self._outbox.put(judgement)
        self._notify()

    def tell_again(self, judgements: Iterable[Judgement]) -> None:
        """Send again judgements that HSM has acknowledged, because its table may differ from them.

        A judgement is ignored if another one on the same component has yet to be acknowledged, or
        if it is an alarm that is superseded (see `tell`).
        """
        for judgement in judgements:
            if not self._is_stale(judgement):
                self._outbox.put_back(judgement)
            if judgement in self._outbox:
                self.time_to_tell.repeated(judgement)
        self._notify()

    def judged(self, judgements: Iterable[Judgement]) -> None:
        """Remove from the outbox the alarms (warned, died) on components that were just heard.

        `judgements` are the new judgements `STARTED` and `RESTARTED` on these components. They have
        yet to be committed, and `tell` is called with them after that. Alarms on suspects stay in
        the outbox, because their retries are counted, but they are not sent either.
        """
        for judgement in judgements:
            xname = judgement.component
            if not (judgement.transition.alarming or self._quarantine.is_suspect(xname)):
                self._outbox.withdraw_alarm(xname)

    def _is_stale(self, judgement: Judgement) -> bool:
        return judgement.transition.alarming and self._superseded(judgement.component)

    def resume(self, judgements: Sequence[Judgement], superseded: Container[str] = ()) -> None:
        """Send judgements that the store does not mark as delivered, after a start or an election.

        The previous process or leader may have sent HSM updates with these judgements, and with
        earlier ones on the same components, and HSM may still be carrying them out. So the
        judgements are sent once more when HSM must have finished these updates (see `InDoubt`).
        Judgements on components in `superseded` are not sent, because newer judgements on these
        components follow.
        """
        self._in_doubt.inherited(judgements, self._doubt_ends())
        self.tell(each for each in judgements if each.component not in superseded)

    def drop_all(self) -> None:
        """Empty the outbox, forget all failures of updates, and abandon the updates in flight."""
        self._outbox = Outbox()
        self._quarantine = Quarantine(self._outbox, self._jitter, self._is_stale)
        self._in_doubt = InDoubt()
        self.time_to_tell.drop_repeats()
        self._abandon_calls()

    def withdraw(self, xname: str) -> None:
        """Drop the latest judgement on a component if that is an alarm (warned, died).

        An alarm in the outbox is not sent; one that HSM has acknowledged is not sent again. An
        update in flight is not stopped. Failures of updates with the component are forgotten.
        """
        self._outbox.withdraw_alarm(xname)
        self._in_doubt.withdraw_alarm(xname)
        self._quarantine.forget(xname)
        if self._outbox.latest(xname) is None:
            self.time_to_tell.drop_repeat(xname)
        self._notify()

    def startService(self) -> None:
        """Start probing HSM and sending the updates in the outbox."""
        super().startService()
        self._readiness.startService()
        self._looking_back.startService()
        for lane in self._lanes:
            lane.run(self._is_running, self._step)

    def stopService(self) -> Deferred[None]:
        """Send the updates in the outbox, for at most `sm_timeout` seconds, and stop.

        While `nosm` is set, stop at once. The Deferred fires when the notifier has stopped.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._quarantine.has_work and not self._params.current.nosm:
            await self._drain(self._params.current.sm_timeout)
        super().stopService()
        self._abandon_calls()
        self._interrupt()
        await self._looking_back.stopService()
        await self._readiness.stopService()

    async def _drain(self, timeout: float) -> None:
        """Wait until HSM has acknowledged all judgements, for at most `timeout` seconds.

        Judgements on components that are set aside don't count.
        """
        self._log.info(
            "Waiting up to {timeout} s, so that HSM is notified of {components} before hbtd stops.",
            timeout=timeout,
            components=counted(self.pending_count, "component"),
        )
        self._drained = Deferred()
        self._drained.addTimeout(timeout, self._clock).addErrback(lambda _: None)
        await self._drained
        if self.pending_count:
            self._log.warn(
                "HSM was not notified of {components} before hbtd stopped. It will be notified"
                " after the next start; with --kv_url=mem:, it never will be.",
                components=counted(self.pending_count, "component"),
            )

    def _is_running(self) -> bool:
        return bool(self.running)

    async def _step(self, lane: Lane) -> None:
        """Send the next batch on a connection, or wait until there may be one."""
        batch = self._next_batch(lane) if self._may_use(lane) else []
        if not batch:
            await self._wait_for_work(lane)
            return
        await self._send(lane, batch)
        if self.running:
            # What follows from an acknowledgement is enough for one iteration of the reactor.
            await lane.wakeup.pause(0)

    async def _wait_for_work(self, lane: Lane) -> None:
        if not self._quarantine.has_work:
            self._backoff.reset()
            drained, self._drained = self._drained, None
            if drained is not None:
                drained.callback(None)
        if not self.running:
            return
        due = self._quarantine.next_due()
        if lane is self._everybody or due is None or not self._may_use(lane):
            await lane.wakeup.wait()
        else:
            await lane.wakeup.wait(max(0.0, due - self._clock.seconds()))

    def _notify(self) -> None:
        for lane in self._lanes:
            lane.wakeup.notify()

    def _interrupt(self) -> None:
        for lane in self._lanes:
            lane.wakeup.interrupt()

    def _abandon_calls(self) -> None:
        """Cancel the updates in flight."""
        for lane in self._lanes:
            lane.abandon()

    def _may_use(self, lane: Lane) -> bool:
        """Return whether a batch may be sent on a connection now."""
        if not self._readiness.ready or self._params.current.nosm or not self._may_send():
            return False
        # What has not failed yet comes first, to show whether HSM is to blame.
        if lane is self._suspects and (self._condition.in_outage or self._quarantine.in_a_row):
            return not self._outbox.has_free
        return True

    def _next_batch(self, lane: Lane) -> list[Judgement]:
        """Return the batch to send next on a connection; it is empty if there is none."""
        if lane is self._everybody:
            return self._quarantine.next_batch(self._batch_sizes)
        return self._quarantine.next_suspects(self._batch_sizes, self._clock.seconds())

    async def _send(self, lane: Lane, batch: list[Judgement]) -> None:
        """Send a batch to HSM, and handle the response or its absence."""
        transition = batch[0].transition
        batch_size = self._batch_sizes[transition]
        began = self._clock.seconds()
        within = self._patience(batch) if lane is self._suspects else None
        pause = 0.0
        try:
            names = [each.component for each in batch]
            await lane.wait_for(self._client.update(transition, names, within), names)
        except UpdateFailed as error:
            if lane is self._everybody and not lane.abandoned and not error.unsent:
                now = self._clock.seconds()
                batch_size.failed(len(batch), now, timed_out=error.timed_out)
            if error.in_doubt:
                self._in_doubt.abandoned(batch, self._doubt_ends())
            if not lane.abandoned:
                pause = self._failed(batch, error)
        else:
            took = (now := self._clock.seconds()) - began
            batch_size.answered(len(batch), took, self._target(), now)
            self._acknowledged(batch)
            self._log.debug(
                "HSM accepted {components} as {state}/{flag} in {took:.3f} s.",
                components=counted(len(batch), "component"),
                state=transition.state,
                flag=transition.flag,
                took=took,
            )
        self._notify()
        if pause and self.running:
            await lane.wakeup.pause(pause)

    def _target(self) -> float:
        """Return the seconds that an update should take; see `BatchSize.answered`."""
        return self._params.current.sm_timeout / 4

    def _patience(self, batch: list[Judgement]) -> float | None:
        """Return the seconds that an update with suspects may take, `None` for `sm_timeout`.

        HSM may hang on suspects, so the time is shorter if they, rather than HSM, seem to be to
        blame. After several failures in a row HSM may just be slow; then it is `sm_timeout`,
        because HSM would continue an update that is given up early. For components that are set
        aside it is `sm_timeout`, too, since they delay no other components.
        """
        if batch[0].component in self._quarantine.set_aside:
            return None
        patience = self._batch_sizes[batch[0].transition].patience(len(batch))
        if patience is not None and self._quarantine.is_evident(batch):
            return patience
        return max(patience or 0.0, self._target()) if self._quarantine.in_a_row < 2 else None

    def _doubt_ends(self) -> float:
        """Return the time by which HSM must have finished an update that is abandoned now.

        The time is in seconds of the notifier's clock.
        """
        return self._clock.seconds() + _DOUBT * self._params.current.sm_timeout

    def _acknowledged(self, batch: list[Judgement]) -> None:
        self._backoff.reset()
        self._condition.works()
        for judgement in batch:
            self._outbox.discard(judgement)
        self.time_to_tell.acknowledged(batch)
        self._condition.back(self._quarantine.accepted(batch))
        self._in_doubt.acknowledged(batch)
        self.delivered_count += len(batch)
        # What an abandoned update may undo is told again, by the next leader if need be.
        certain = [each for each in batch if each.component not in self._in_doubt]
        if certain:
            self._delivered(certain).addErrback(self._log_unmarked)

    def _log_unmarked(self, failure: Failure) -> None:
        failure.trap(StoreUnusable)
        self._log.warn(
            "HSM's acknowledgement could not be stored; after a restart the update will be sent"
            " again: {error}",
            error=failure.getErrorMessage(),
        )

    def _failed(self, batch: list[Judgement], error: UpdateFailed) -> float:
        """Note that an update has failed; return for how many seconds its connection pauses.

        If HSM is to blame, suspend sending.
        """
        pause = again = error.retry_after
        rejected = isinstance(error, HSMRejected)
        exhausted = False
        if not rejected:
            self.failed_count += 1
        if error.unsent or not (rejected or self._quarantine.is_evident(batch)):
            failures = self._backoff.failures
            exhausted = self._condition.in_outage or failures >= self._params.current.sm_retries
            delay = 0.0 if exhausted else self._backoff.next()
            # The first halves, and what waits, show at once whether HSM is to blame.
            if error.unsent or failures or not (error.timed_out or len(batch) > 1):
                pause = max(pause, delay)
            again = max(pause, delay) if error.timed_out else pause
        self._log.debug(
            "An update to HSM failed; the next follows after {pause:.2f} s or more: {error}",
            error=str(error),
            pause=pause,
        )
        before = self._quarantine.in_a_row
        if not error.unsent:
            self._blame(batch, error, again)
        if exhausted:
            self._suspend(str(error))
        elif self._quarantine.in_a_row > before and self._quarantine.everything_fails:
            self._suspend(f"every update fails, the last one with: {error}")
        return pause

    def _blame(self, batch: list[Judgement], error: UpdateFailed, again: float) -> None:
        """Pass a failed update to the quarantine, which makes its components suspects.

        Log those that the quarantine sets aside, because they are to blame. The components are sent
        again `again` seconds from now at the earliest.
        """
        culprits = self._quarantine.failed(
            batch,
            str(error),
            self._clock.seconds(),
            pause=again,
            rejected=isinstance(error, HSMRejected),
        )
        self.rejected_count += len(culprits)
        if culprits:
            for each in self._batch_sizes.values():
                each.acquit()
        for culprit in culprits:
            self._condition.set_aside(culprit)

    def _suspend(self, reason: str) -> None:
        """Send no updates until a probe finds HSM ready; `reason` is for the log and `health`."""
        self._backoff.reset()
        self._readiness.mark_unready()
        self._condition.failed(reason)

    def _found_ready(self, before: bool) -> None:
        if not self._quarantine.has_work:
            self._condition.works()  # otherwise the next update shows whether HSM has recovered
        if not before:
            self._backoff.reset()
            self._quarantine.reconsider()
            self._notify()

    def _look_back(self) -> None:
        """Send again the judgements whose effect an abandoned update may have undone."""
        in_flight = frozenset[str]().union(*(lane.in_flight for lane in self._lanes))
        self.tell_again(self._in_doubt.settled(self._clock.seconds(), in_flight))

    def _params_changed(self, old: Params, new: Params) -> None:
        if new.sm_url != old.sm_url:
            # Updates in flight to the old HSM must be sent to the new one.
            self._batch_sizes = {each: BatchSize() for each in Transition}
            self._condition.reset()
            self._abandon_calls()
            self._quarantine.clear()
        self._interrupt()
