"""The notifier: decides which updates HSM is sent, and when."""

from collections.abc import Callable, Container, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.hsm.batch_size import BatchSize
from hbtd.hsm.client import HSMClient, HSMRejected, HSMUnavailable
from hbtd.hsm.in_doubt import InDoubt
from hbtd.hsm.outbox import Outbox
from hbtd.hsm.quarantine import Culprit, Quarantine
from hbtd.hsm.readiness import Readiness
from hbtd.runtime.backoff import Backoff
from hbtd.runtime.outage import Outage
from hbtd.runtime.periodic import PeriodicService
from hbtd.runtime.wakeup import Wakeup
from hbtd.store.interface import StoreUnusable
from hbtd.tracker.transitions import Judgement, Transition

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 10.0
"""The longest pause before a retry of an update, in seconds; the first is `_FIRST_PAUSE`."""

_DOUBT = 3
"""The time for which HSM may continue an abandoned update, as a multiple of `sm_timeout`."""

_LOOK_BACK = 5.0
"""Seconds between two looks for abandoned or rejected updates that are to be sent again."""

_RECONSIDER = 300.0
"""Seconds after which rejected updates are sent again, even without a new judgement."""


class Notifier(Service):
    """Sends HSM the latest judgement on each component, until HSM has acknowledged it.

    Only one PATCH is sent at a time, so that no older judgement follows a newer one. While HSM is
    not ready, or `nosm` is set, judgements wait in the outbox. A batch that fails for reasons other
    than its content is retried up to `sm_retries` times, after growing pauses; then it waits until
    a probe finds HSM ready. When HSM rejects a batch, `Quarantine` finds the components to blame.
    These are set aside, so that they don't delay others, and sent again after a new judgement,
    after an outage of HSM, and every five minutes.
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
    ) -> None:
        """Make a notifier; it sends nothing until it is started.

        `delivered` is called with judgements that HSM has acknowledged; the Deferred that it
        returns may fail with `StoreUnusable`. `jitter` returns a random number from 0 to 1.
        `may_send` returns whether this replica, and no other, may send updates to HSM.
        """
        self._clock = clock
        self._client = client
        self._params = params
        self._delivered = delivered
        self._may_send = may_send
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, jitter)
        self._outage = Outage(self._log_outage, self._log_recovery)
        self._seen_ready = False
        self._readiness = Readiness(clock, client, params, self._hsm_became_ready, self._suspend)
        self._outbox = Outbox()
        self._quarantine = Quarantine(self._outbox)
        self._batch_sizes = {each: BatchSize() for each in Transition}
        self._in_doubt = InDoubt()
        self._looking_back = PeriodicService(
            clock, _LOOK_BACK, self._look_back, "the notifier's look back", now=False
        )
        self._reconsidered_at = clock.seconds()
        self._wakeup = Wakeup(clock)
        self._call: Deferred[None] | None = None
        # Whether the notifier itself cancelled the call, whose failure then says nothing about HSM.
        self._call_abandoned = False
        self._drained: Deferred[None] | None = None
        self.delivered_count = 0
        """The number of judgements that HSM has acknowledged."""
        self.rejected_count = 0
        """The number of times that a component was set aside because HSM rejected its update."""
        self.failed_count = 0
        """The number of PATCHes that failed for reasons other than their content."""
        params.on_change(self._params_changed)

    @property
    def pending_count(self) -> int:
        """The number of components in the outbox, whose judgement HSM has yet to acknowledge."""
        return len(self._outbox)

    @property
    def set_aside_count(self) -> int:
        """The number of components that are set aside because HSM rejects their updates."""
        return len(self._quarantine.set_aside)

    @property
    def hsm_ready(self) -> bool:
        """Whether HSM was ready at the last probe, and sending has not been suspended since."""
        return self._readiness.ready

    def health(self) -> str:
        """Return a text about the state of HSM (docs/protocol.md, "Probes and health")."""
        if not self._readiness.ready:
            return "Not ready"
        reason = self._outage.reason
        return f"Ready, but can't be told of changes: {reason}" if reason else "Ready"

    def tell(self, judgements: Sequence[Judgement]) -> None:
        """Send judgements to HSM as soon as possible.

        Each replaces an earlier judgement on the same component that is still in the outbox.
        """
        for judgement in judgements:
            self._outbox.put(judgement)
        self._wakeup.notify()

    def resume(self, judgements: Sequence[Judgement], superseded: Container[str] = ()) -> None:
        """Send judgements that the previous leader or process has not marked as delivered.

        HSM may have been sent an update with them, and may still be carrying it out, so they are
        treated like those of an abandoned update (see `InDoubt`). Judgements on components in
        `superseded` are not sent, because newer ones follow.
        """
        self._in_doubt.abandoned(judgements, self._doubt_ends())
        self.tell([each for each in judgements if each.component not in superseded])

    def drop_all(self) -> None:
        """Empty the outbox, and abandon the update in flight."""
        self._outbox = Outbox()
        self._quarantine = Quarantine(self._outbox)
        self._in_doubt = InDoubt()
        self._abandon_call()

    def withdraw(self, xname: str) -> None:
        """Remove the judgement on a component from the outbox if its transition is warned or died.

        An update in flight is not stopped. Earlier rejections of the component are forgotten.
        """
        self._outbox.withdraw_alarm(xname)
        self._quarantine.forget(xname)
        self._wakeup.notify()

    def startService(self) -> None:
        """Start probing HSM and sending the updates in the outbox."""
        super().startService()
        self._readiness.startService()
        self._looking_back.startService()
        Deferred.fromCoroutine(self._run())

    def stopService(self) -> Deferred[None]:
        """Send the updates in the outbox, for at most `sm_timeout` seconds, and stop.

        The Deferred fires when the notifier has stopped.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._outbox and not self._params.current.nosm:
            await self._drain(self._params.current.sm_timeout)
        super().stopService()
        self._abandon_call()
        self._wakeup.interrupt()
        await self._looking_back.stopService()
        await self._readiness.stopService()

    async def _drain(self, timeout: float) -> None:
        """Wait until the outbox is empty, for at most `timeout` seconds."""
        self._log.info(
            "Waiting up to {timeout} s for HSM to be notified of {count} components.",
            timeout=timeout,
            count=len(self._outbox),
        )
        self._drained = Deferred()
        self._drained.addTimeout(timeout, self._clock).addErrback(lambda _: None)
        await self._drained
        if self._outbox:
            self._log.warn("HSM was not notified of {count} components.", count=len(self._outbox))

    async def _run(self) -> None:
        """Send one batch after another while the service runs."""
        while self.running:
            try:
                batch = self._next_batch()
                await (self._send(batch) if batch else self._wait_for_work())
            except Exception:  # noqa: BLE001  # a bug must not end the loop
                self._log.failure(
                    "Notifying HSM failed because of a bug in hbtd, which tries again."
                )
                await self._pause(_FIRST_PAUSE)

    async def _wait_for_work(self) -> None:
        if not self._outbox and self._drained is not None:
            drained, self._drained = self._drained, None
            drained.callback(None)
        self._backoff.reset()
        if self.running:
            await self._wakeup.wait()

    async def _pause(self, seconds: float) -> None:
        if self.running:
            await self._wakeup.pause(seconds)

    def _next_batch(self) -> list[Judgement]:
        """Return the batch to send now; it is empty if none can or may be sent.

        If only suspects of the quarantine are left to send, they are set aside.
        """
        if not self._readiness.ready or self._params.current.nosm or not self._may_send():
            return []
        batch = self._quarantine.next_batch(self._batch_sizes)
        if not batch:
            self._note_culprits(self._quarantine.convict())
        return batch

    async def _send(self, batch: list[Judgement]) -> None:
        """Send a batch to HSM, and handle the response or its absence."""
        transition = batch[0].transition
        batch_size = self._batch_sizes[transition]
        began = self._clock.seconds()
        self._call_abandoned = False
        self._call = self._client.update(transition, [each.component for each in batch])
        try:
            await self._call
        except HSMRejected as rejected:
            self._backoff.reset()
            self._note_culprits(self._quarantine.rejected(batch, str(rejected)))
            if self._quarantine.rejects_everything:
                self._quarantine.acquit()
                self._suspend(f"it refuses whatever it is told: {rejected}")
        except HSMUnavailable as error:
            if error.timed_out:
                batch_size.timed_out(len(batch))
            if error.in_doubt:
                self._in_doubt.abandoned(batch, self._doubt_ends())
            if not self._call_abandoned:
                await self._failed(error)
        else:
            took = self._clock.seconds() - began
            batch_size.answered(len(batch), took, self._params.current.sm_timeout / 4)
            self._acknowledged(batch)
            self._log.debug(
                "HSM accepted {count} components as {state}/{flag} in {took:.3f} s.",
                count=len(batch),
                state=transition.state,
                flag=transition.flag,
                took=took,
            )
        finally:
            self._call = None

    def _abandon_call(self) -> None:
        """Cancel the update in flight, if there is one."""
        if self._call is not None:
            self._call_abandoned = True
            self._call.cancel()

    def _doubt_ends(self) -> float:
        """Return the time by which HSM must have finished an update that is abandoned now.

        The time is in seconds of the notifier's clock.
        """
        return self._clock.seconds() + _DOUBT * self._params.current.sm_timeout

    def _acknowledged(self, batch: list[Judgement]) -> None:
        self._backoff.reset()
        self._recovered()
        for judgement in batch:
            self._outbox.discard(judgement)
        self._quarantine.accepted(batch)
        self._in_doubt.acknowledged(batch)
        self.delivered_count += len(batch)
        self._delivered(batch).addErrback(self._log_unmarked)

    def _log_unmarked(self, failure: Failure) -> None:
        failure.trap(StoreUnusable)
        self._log.warn(
            "HSM's acknowledgement could not be stored; after a restart the update will be sent"
            " again: {error}",
            error=failure.getErrorMessage(),
        )

    def _note_culprits(self, culprits: Sequence[Culprit]) -> None:
        """Log and count the components that have been set aside."""
        self.rejected_count += len(culprits)
        for judgement, said in culprits:
            self._log.error(
                "HSM rejects the update of {component} to {state}/{flag}; the component is set"
                " aside and retried alone: {said!r}",
                component=judgement.component,
                state=judgement.transition.state,
                flag=judgement.transition.flag,
                said=said,
            )

    async def _failed(self, error: HSMUnavailable) -> None:
        """Pause before the next retry of a failed update.

        After `sm_retries` retries, suspend sending instead.
        """
        self.failed_count += 1
        if self._backoff.failures >= self._params.current.sm_retries:
            self._suspend(str(error))
            return
        delay = self._backoff.next()
        self._log.debug(
            "An update to HSM failed and is retried in {delay:.2f} s: {error}",
            error=str(error),
            delay=delay,
        )
        await self._pause(delay)

    def _suspend(self, reason: str) -> None:
        """Send no updates until a probe finds HSM ready; `reason` is for the log and `health`."""
        self._backoff.reset()
        self._readiness.mark_unready()
        self._outage.fail(reason)

    def _recovered(self) -> None:
        """Note that HSM works; log this the first time, and at the end of an outage."""
        if not self._seen_ready and self._outage.reason is None:
            self._log.info("HSM at {url} is ready.", url=self._params.current.sm_url)
        self._seen_ready = True
        self._outage.recover()

    def _log_outage(self, reason: str) -> None:
        self._log.warn(
            "HSM at {url} accepts no updates; they wait until it does: {reason}",
            url=self._params.current.sm_url,
            reason=reason,
        )

    def _log_recovery(self) -> None:
        self._log.info("HSM at {url} accepts updates again.", url=self._params.current.sm_url)

    def _hsm_became_ready(self) -> None:
        if not self._outbox:
            self._recovered()  # otherwise the next update shows whether HSM has recovered
        self._backoff.reset()
        self._reconsider()

    def _reconsider(self) -> None:
        self._reconsidered_at = self._clock.seconds()
        self._quarantine.reconsider()
        self._wakeup.notify()

    def _look_back(self) -> None:
        """Send again what an abandoned update may have undone, and what HSM rejected long ago."""
        now = self._clock.seconds()
        for judgement in self._in_doubt.settled(now):
            self._outbox.put_back(judgement)
        if now - self._reconsidered_at >= _RECONSIDER:
            self._reconsider()
        self._wakeup.notify()

    def _params_changed(self, old: Params, new: Params) -> None:
        if new.sm_url != old.sm_url:
            # The update in flight to the old HSM must be sent to the new one.
            self._batch_sizes = {each: BatchSize() for each in Transition}
            self._seen_ready = False
            self._outage.reset()
            self._abandon_call()
        self._wakeup.interrupt()
