"""The notifier: decides what to tell HSM, and when."""

from collections.abc import Callable, Container, Sequence

from twisted.application.internet import backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.config.params import LiveParams, Params
from hbtd.hsm.batch_size import BatchSize
from hbtd.hsm.client import HSMClient, HSMRefused, HSMUnavailable
from hbtd.hsm.in_doubt import InDoubt
from hbtd.hsm.outbox import Outbox
from hbtd.hsm.quarantine import Culprit, Quarantine
from hbtd.hsm.readiness import Readiness
from hbtd.runtime.periodic import periodic
from hbtd.store.interface import StoreUnusable
from hbtd.tracker.transitions import Judgement, Transition

_DOUBT = 3
"""How many times `sm_timeout` HSM may go on with an update that nobody waits for any more."""

_LOOK_BACK = 5.0
"""Seconds between two looks at what was abandoned or set aside."""

_RECONSIDER = 300.0
"""Seconds after which what HSM refuses is tried again, whether there is news or not."""


class Notifier(Service):
    """Tells HSM the latest judgement on each component, as often as it takes.

    One loop, one PATCH in flight, so that nothing older is sent after something newer. While HSM
    isn't ready, or `nosm` is set, what there is to say waits; of a component only the latest.
    A chunk that fails for reasons of HSM's own is tried again up to `sm_retries` times, with
    growing pauses, and then waits for HSM to be ready. Who in a chunk is to blame when HSM refuses
    it, `Quarantine` finds out; what is set aside holds up nobody, and is tried again when there is
    news of it, when HSM has come back, and now and then.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: HSMClient,
        params: LiveParams,
        delivered: Callable[[Sequence[Judgement]], Deferred[None]],
        jitter: Callable[[], float],
        may_tell: Callable[[], bool] = lambda: True,
    ) -> None:
        """Make a notifier that is not told anything yet.

        `delivered` is called with what HSM has acknowledged; `jitter` gives 0 to 1; `may_tell` says
        whether it is for us, and not for another replica, to tell HSM anything.
        """
        self._clock = clock
        self._client = client
        self._params = params
        self._delivered = delivered
        self._may_tell = may_tell
        self._retry_delay = backoffPolicy(0.25, 10.0, 2.0, jitter)
        self._readiness = Readiness(clock, client, params, self._hsm_became_ready, self._trouble)
        self._outbox = Outbox()
        self._quarantine = Quarantine(self._outbox)
        self._chunk_sizes = {kind: BatchSize() for kind in Transition}
        self._failures = 0
        self._trouble_is: str | None = None
        self._met = False
        self._in_doubt = InDoubt()
        self._looking_back = periodic(clock, self._look_back)
        self._reconsidered = clock.seconds()
        # What the loop waits for: an answer of HSM's, or to be woken.
        self._call: Deferred[None] | None = None
        # Whether it was us who ended the call: then it says nothing about HSM.
        self._given_up = False
        self._sleeping: Deferred[None] | None = None
        self._backing_off = False
        self._emptied: Deferred[None] | None = None
        self.delivered_count = 0
        """How many judgements HSM has acknowledged."""
        self.refused_count = 0
        """How many times a component was set aside because HSM would not hear of it."""
        self.failed_count = 0
        """How many PATCHes failed for reasons of HSM's own."""
        params.on_change(self._params_changed)

    @property
    def pending_count(self) -> int:
        """How many components HSM has yet to be told about."""
        return len(self._outbox)

    @property
    def set_aside_count(self) -> int:
        """How many components HSM refuses to hear about."""
        return len(self._quarantine.set_aside)

    @property
    def hsm_ready(self) -> bool:
        """Whether HSM was ready when last heard of."""
        return self._readiness.ready

    def health(self) -> str:
        """Tell people how HSM is."""
        if not self._readiness.ready:
            return "Not ready"
        return (
            f"Ready, but can't be told of changes: {self._trouble_is}"
            if self._trouble_is
            else "Ready"
        )

    def tell(self, judgements: Sequence[Judgement]) -> None:
        """Have HSM told of these as soon as it can be; each replaces what was to be said before."""
        for judgement in judgements:
            self._outbox.put(judgement)
        self._nudge()

    def resume(self, judgements: Sequence[Judgement], back: Container[str] = ()) -> None:
        """Have HSM told of these, which somebody before us may be in the middle of telling it.

        But not of who is `back` since then: there is something better to tell soon.
        """
        self._in_doubt.abandoned(judgements, self._patience())
        self.tell([judgement for judgement in judgements if judgement.component not in back])

    def drop_all(self) -> None:
        """Have nothing to say any more, and give up on what is being said."""
        self._outbox = Outbox()
        self._quarantine = Quarantine(self._outbox)
        self._in_doubt = InDoubt()
        self._give_up()

    def withdraw(self, xname: str) -> None:
        """Raise no alarm about this component, if it has not been raised yet."""
        self._outbox.withdraw_alarm(xname)
        self._quarantine.forget(xname)
        self._nudge()

    def startService(self) -> None:
        """Begin to ask whether HSM is ready and to tell it what there is."""
        super().startService()
        self._readiness.startService()
        self._looking_back.start(_LOOK_BACK, now=False)
        Deferred.fromCoroutine(self._work())

    async def stop(self) -> None:
        """Tell HSM what waits, for at most `sm_timeout` seconds, and stop."""
        if self._outbox and not self._params.current.nosm:
            timeout = self._params.current.sm_timeout
            self._log.info(
                "Waiting up to {timeout} s for HSM to be told of {count} components.",
                timeout=timeout,
                count=len(self._outbox),
            )
            self._emptied = Deferred()
            self._emptied.addTimeout(timeout, self._clock).addErrback(lambda _: None)
            await self._emptied
            if self._outbox:
                self._log.warn("HSM was not told of {count} components.", count=len(self._outbox))
        self._readiness.stopService()
        if self._looking_back.running:
            self._looking_back.stop()
        super().stopService()
        self._give_up()
        self._wake()

    def stopService(self) -> Deferred[None]:
        """Do as `stop`."""
        return Deferred.fromCoroutine(self.stop())

    async def _work(self) -> None:
        """Send chunk after chunk for as long as the service runs."""
        while self.running:
            try:
                chunk = self._next_chunk()
                await (self._send(chunk) if chunk else self._rest())
            except Exception:  # noqa: BLE001  # whatever it is, there will be more to say
                self._log.failure("Telling HSM failed in a way that is a fault of hbtd's.")
                await self._back_off(1.0)

    async def _rest(self) -> None:
        """Wait until there may be something to send."""
        if not self._outbox and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)
        self._failures = 0
        await self._sleep()

    def _next_chunk(self) -> list[Judgement]:
        """Choose what to send now; nothing if it has to wait."""
        if not self._readiness.ready or self._params.current.nosm or not self._may_tell():
            return []
        chunk = self._quarantine.next_chunk(self._chunk_sizes)
        if not chunk:
            self._blame(self._quarantine.nobody_else())
        return chunk

    async def _send(self, chunk: list[Judgement]) -> None:
        """Send a chunk and draw the conclusions."""
        transition = chunk[0].transition
        chunk_size = self._chunk_sizes[transition]
        began = self._clock.seconds()
        self._given_up = False
        self._call = self._client.update(transition, [j.component for j in chunk])
        try:
            await self._call
        except HSMRefused as refused:
            self._failures = 0
            self._blame(self._quarantine.refused(chunk, str(refused)))
            if self._quarantine.refusing_everything:
                self._quarantine.acquit()
                self._trouble(f"it refuses whatever it is told: {refused}")
        except HSMUnavailable as error:
            if error.timed_out:
                chunk_size.timed_out(len(chunk))
            if error.in_doubt:
                self._in_doubt.abandoned(chunk, self._patience())
            if not self._given_up:
                await self._failed(error)
        else:
            took = self._clock.seconds() - began
            chunk_size.answered(len(chunk), took, self._params.current.sm_timeout / 4)
            self._acknowledged(chunk)
            self._log.debug(
                "HSM took {count} components as {state}/{flag} in {took:.3f} s.",
                count=len(chunk),
                state=transition.state,
                flag=transition.flag,
                took=took,
            )
        finally:
            self._call = None

    def _give_up(self) -> None:
        """End what is being told to HSM, if anything is."""
        if self._call is not None:
            self._given_up = True
            self._call.cancel()

    def _patience(self) -> float:
        """Give until when HSM may go on with an update that nobody waits for."""
        return self._clock.seconds() + _DOUBT * self._params.current.sm_timeout

    def _acknowledged(self, chunk: list[Judgement]) -> None:
        self._failures = 0
        self._trouble_over()
        for judgement in chunk:
            self._outbox.discard(judgement)
        self._quarantine.accepted(chunk)
        self._in_doubt.acknowledged(chunk)
        self.delivered_count += len(chunk)
        self._delivered(chunk).addErrback(self._not_noted)

    def _not_noted(self, failure: Failure) -> None:
        failure.trap(StoreUnusable)
        self._log.warn(
            "That HSM has heard could not be noted; after a restart it hears it again: {error}",
            error=failure.getErrorMessage(),
        )

    def _blame(self, culprits: Sequence[Culprit]) -> None:
        """Say and count what has been set aside."""
        self.refused_count += len(culprits)
        for judgement, said in culprits:
            self._log.error(
                "HSM refuses to hear that {component} is {state}/{flag}; it is set aside: {said!r}",
                component=judgement.component,
                state=judgement.transition.state,
                flag=judgement.transition.flag,
                said=said,
            )

    async def _failed(self, error: HSMUnavailable) -> None:
        """Try again, soon or when HSM is ready: what could not be told is in the outbox still."""
        self.failed_count += 1
        self._failures += 1
        if self._failures > self._params.current.sm_retries:
            self._trouble(str(error))
            return
        delay = self._retry_delay(self._failures)
        self._log.debug("{error}; trying again in {delay:.2f} s.", error=str(error), delay=delay)
        await self._back_off(delay)

    def _trouble(self, reason: str) -> None:
        """Wait for HSM to be ready; say so once, until it is known to be well."""
        self._failures = 0
        self._readiness.ready = False
        known, self._trouble_is = self._trouble_is, reason
        if known is None:
            self._log.warn(
                "HSM at {url} can't be told of changes now, they wait: {reason}",
                url=self._params.current.sm_url,
                reason=reason,
            )

    def _trouble_over(self) -> None:
        if self._trouble_is is not None:
            self._trouble_is = None
            self._log.info("HSM at {url} takes changes again.", url=self._params.current.sm_url)
        elif not self._met:
            self._log.info("HSM at {url} is ready.", url=self._params.current.sm_url)
        self._met = True

    async def _sleep(self) -> None:
        """Wait for news."""
        if self.running:
            self._sleeping = Deferred()
            await self._sleeping

    async def _back_off(self, seconds: float) -> None:
        """Wait for some time, whatever the news."""
        alarm = self._clock.callLater(seconds, self._wake)
        self._backing_off = True
        await self._sleep()
        self._backing_off = False
        if alarm.active():
            alarm.cancel()

    def _nudge(self) -> None:
        """Wake the loop if it waits for news."""
        if not self._backing_off:
            self._wake()

    def _wake(self) -> None:
        sleeping, self._sleeping = self._sleeping, None
        if sleeping is not None:
            sleeping.callback(None)

    def _hsm_became_ready(self) -> None:
        if not self._outbox:
            self._trouble_over()  # else we'll see whether it is
        self._failures = 0
        self._reconsider()

    def _reconsider(self) -> None:
        self._reconsidered = self._clock.seconds()
        self._quarantine.reconsider()
        self._nudge()

    def _look_back(self) -> None:
        """Say again what an abandoned update may have undone, and see to who was set aside."""
        now = self._clock.seconds()
        for judgement in self._in_doubt.settled(now):
            self._outbox.put_back(judgement)
        if now - self._reconsidered >= _RECONSIDER:
            self._reconsider()
        self._nudge()

    def _params_changed(self, old: Params, new: Params) -> None:
        if new.sm_url != old.sm_url:
            # Another HSM: what the old one is being told now has to be told to the new one.
            self._chunk_sizes = {kind: BatchSize() for kind in Transition}
            self._trouble_is, self._met = None, False
            self._give_up()
        self._wake()
