"""The notifier: decides what to tell HSM, and when."""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from twisted.application.internet import backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.hsm.chunks import ChunkSize
from hbtd.hsm.client import HSMClient, HSMRefused, HSMUnavailable
from hbtd.hsm.outbox import Outbox
from hbtd.hsm.readiness import Readiness
from hbtd.params import LiveParams, Params
from hbtd.tracker.transitions import Judgement, Transition

_REFUSALS_IN_A_ROW = 32
"""Halving a chunk to find one culprit never takes so many refusals without a success in between;
an HSM that goes on refusing does not object to names."""


class Notifier(Service):
    """Tells HSM the latest judgement on each component, as often as it takes.

    One loop, one PATCH in flight, so that nothing older can arrive after something newer. While
    HSM isn't ready, or `nosm` is set, what there is to say waits; of a component only the latest.
    A chunk that fails for reasons of HSM's own is tried again up to `sm_retries` times, with
    growing pauses, and then waits for HSM to be ready. A chunk that HSM refuses is halved until
    the culprits stand alone. These are set aside and hold up nobody; they are tried again, each
    alone, whenever there is news of them or HSM has come back.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: HSMClient,
        params: LiveParams,
        delivered: Callable[[Sequence[Judgement]], Deferred[None]],
        jitter: Callable[[], float],
    ) -> None:
        """`delivered` is called with what HSM has acknowledged; `jitter` gives 0 to 1."""
        self._clock = clock
        self._client = client
        self._params = params
        self._delivered = delivered
        self._retry_delay = backoffPolicy(0.25, 10.0, 2.0, jitter)
        self._readiness = Readiness(clock, client, params, self._hsm_became_ready)
        self._outbox = Outbox()
        self._suspects: deque[list[Judgement]] = deque()
        self._set_aside: dict[str, Judgement] = {}
        self._chunk_sizes = {kind: ChunkSize() for kind in Transition}
        self._failures = 0
        self._refusals = 0
        # What the loop waits for: an answer of HSM's, or to be woken.
        self._call: Deferred[None] | None = None
        self._sleeping: Deferred[None] | None = None
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
        return len(self._set_aside)

    @property
    def hsm_ready(self) -> bool:
        """Whether HSM was ready when last heard of."""
        return self._readiness.ready

    def health(self) -> str:
        """Tell people how HSM is."""
        return "Ready" if self._readiness.ready else "Not ready"

    def tell(self, judgements: Sequence[Judgement]) -> None:
        """Have HSM told of these as soon as it can be; each replaces what was to be said before."""
        for judgement in judgements:
            self._outbox.put(judgement)
        self._nudge()

    def withdraw(self, xname: str) -> None:
        """Raise no alarm about this component, if it has not been raised yet."""
        self._outbox.withdraw_alarm(xname)
        self._set_aside.pop(xname, None)
        self._nudge()

    def startService(self) -> None:
        """Begin to ask whether HSM is ready and to tell it what there is."""
        super().startService()
        self._readiness.startService()
        Deferred.fromCoroutine(self._work()).addErrback(
            lambda failure: self._log.failure("The notifier has failed.", failure)
        )

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
        super().stopService()
        if self._call is not None:
            self._call.cancel()
        self._wake()

    def stopService(self) -> Deferred[None]:
        """Do as `stop`."""
        return Deferred.fromCoroutine(self.stop())

    async def _work(self) -> None:
        """Send chunk after chunk for as long as the service runs."""
        while self.running:
            chunk = self._next_chunk()
            if chunk:
                await self._send(chunk)
            else:
                if not self._outbox and self._emptied is not None:
                    emptied, self._emptied = self._emptied, None
                    emptied.callback(None)
                await self._sleep(None)

    def _next_chunk(self) -> list[Judgement]:
        """Choose what to send now: suspects first, then by kind; nothing if it has to wait."""
        if not self._readiness.ready or self._params.current.nosm:
            return []
        while self._suspects or self._outbox:
            if not self._suspects:
                self._suspects.extend(self._portion())
            chunk = [
                judgement for judgement in self._suspects.popleft() if judgement in self._outbox
            ]
            if chunk:
                return chunk
        return []

    def _portion(self) -> list[list[Judgement]]:
        """Take judgements of one kind out: a chunk, and those that were refused before alone."""
        waiting = iter(self._outbox.next_kind())
        first = next(waiting)
        size = self._chunk_sizes[first.transition].size
        chunk, alone = [], []
        for judgement in (first, *islice(waiting, size - 1)):
            if judgement.component in self._set_aside:
                alone.append([judgement])
            else:
                chunk.append(judgement)
        return [chunk, *alone]

    async def _send(self, chunk: list[Judgement]) -> None:
        """Send a chunk and draw the conclusions."""
        transition = chunk[0].transition
        chunk_size = self._chunk_sizes[transition]
        began = self._clock.seconds()
        self._call = self._client.update(transition, [j.component for j in chunk])
        try:
            await self._call
        except HSMRefused as refused:
            self._refused(chunk, str(refused))
        except HSMUnavailable as error:
            if error.timed_out:
                chunk_size.timed_out(len(chunk))
            await self._failed(chunk, error)
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

    def _acknowledged(self, chunk: list[Judgement]) -> None:
        self._failures = self._refusals = 0
        for judgement in chunk:
            self._outbox.discard(judgement)
            self._set_aside.pop(judgement.component, None)
        self.delivered_count += len(chunk)
        self._delivered(chunk).addErrback(
            lambda failure: self._log.failure("What HSM has heard could not be noted.", failure)
        )

    def _refused(self, chunk: list[Judgement], said: str) -> None:
        """Halve a refused chunk, or set a lone culprit aside."""
        self._refusals += 1
        if self._refusals > _REFUSALS_IN_A_ROW:
            self._refusals = 0
            self._suspects.clear()
            self._readiness.doubt(f"it refuses whatever it is sent: {said}")
        elif len(chunk) > 1:
            half = len(chunk) // 2
            self._suspects.extendleft((chunk[half:], chunk[:half]))
        else:
            (culprit,) = chunk
            self._outbox.discard(culprit)
            if culprit.component not in self._set_aside:
                self.refused_count += 1
                self._log.error(
                    "HSM refuses to hear that {component} is {state}/{flag}; it is set aside until"
                    " there is news of it: {said!r}",
                    component=culprit.component,
                    state=culprit.transition.state,
                    flag=culprit.transition.flag,
                    said=said,
                )
            self._set_aside[culprit.component] = culprit

    async def _failed(self, chunk: list[Judgement], error: HSMUnavailable) -> None:
        """Try again: soon, or when HSM is ready. The chunk is in the outbox still."""
        self.failed_count += 1
        self._failures += 1
        if self._failures > self._params.current.sm_retries:
            self._failures = 0
            self._readiness.doubt(str(error))
            return
        delay = self._retry_delay(self._failures)
        self._log.debug("{error}; trying again in {delay:.2f} s.", error=str(error), delay=delay)
        await self._sleep(delay)

    async def _sleep(self, seconds: float | None) -> None:
        """Wait to be woken, for at most so many seconds."""
        if not self.running:
            return
        self._sleeping = Deferred()
        alarm = None if seconds is None else self._clock.callLater(seconds, self._wake)
        await self._sleeping
        if alarm is not None and alarm.active():
            alarm.cancel()

    def _nudge(self) -> None:
        """Wake the loop unless it sleeps off a failure."""
        if self._failures == 0:
            self._wake()

    def _wake(self) -> None:
        sleeping, self._sleeping = self._sleeping, None
        if sleeping is not None:
            sleeping.callback(None)

    def _hsm_became_ready(self) -> None:
        self._failures = self._refusals = 0
        for judgement in self._set_aside.values():
            self._outbox.put_back(judgement)
        self._wake()

    def _params_changed(self, old: Params, new: Params) -> None:
        if new.sm_url != old.sm_url:
            # Another HSM: what the old one is being told now has to be told to the new one.
            self._chunk_sizes = {kind: ChunkSize() for kind in Transition}
            if self._call is not None:
                self._call.cancel()
        self._wake()
