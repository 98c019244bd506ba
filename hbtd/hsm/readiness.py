"""The readiness probe, which asks HSM every 5 seconds whether it is ready."""

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.hsm.client import HSMClient, HSMUnavailable
from hbtd.runtime.periodic import PeriodicService

INTERVAL = 5.0
"""Seconds between two probes of HSM."""


class Readiness(Service):
    """Probes HSM every 5 seconds, and remembers whether HSM is ready.

    After a change of `sm_url`, HSM counts as not ready until a probe has found the new HSM ready.
    While `nosm` is set, HSM is not probed and counts as not ready.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: HSMClient,
        params: LiveParams,
        found_ready: Callable[[bool], None],
        not_ready: Callable[[str], None],
    ) -> None:
        """Make a probe that is not started yet.

        `found_ready` is called after each probe that finds HSM ready; its argument says whether HSM
        counted as ready before. `not_ready` is called, with the reason, after each probe that finds
        HSM not ready.
        """
        self._client = client
        self._params = params
        self._found_ready = found_ready
        self._not_ready = not_ready
        self._probe = PeriodicService(clock, INTERVAL, self._ask, "the readiness probe of HSM")
        self._question: Deferred[None] | None = None
        self._ready = False
        params.on_change(self._params_changed)

    @property
    def ready(self) -> bool:
        """Whether the last probe found HSM ready, and `mark_unready` was not called since."""
        return self._ready

    def mark_unready(self) -> None:
        """Count HSM as not ready until a probe finds it ready."""
        self._ready = False

    def startService(self) -> None:
        """Start to probe HSM, at once and then every 5 seconds.

        No probe is sent while `nosm` is set.
        """
        super().startService()
        self._start_probe()

    def stopService(self) -> Deferred[None]:
        """Stop probing HSM and cancel a probe in progress; the Deferred fires when that is done."""
        super().stopService()
        return self._stop_probe()

    def _start_probe(self) -> None:
        if self._params.current.nosm:
            self._log.info("No updates are sent to HSM: nosm is set.")
        else:
            self._probe.startService()

    def _stop_probe(self) -> Deferred[None]:
        stopped = self._probe.stopService()
        question, self._question = self._question, None
        if question is not None:
            question.cancel()
        return stopped

    async def _ask(self) -> None:
        reason: str | None = None
        self._question = question = self._client.ready()
        try:
            await question
        except HSMUnavailable as error:
            reason = str(error)
        if question is not self._question:
            return  # The probe was cancelled, which says nothing about HSM.
        self._question = None
        if reason is not None:
            self._ready = False
            self._not_ready(reason)
        else:
            before, self._ready = self._ready, True
            self._found_ready(before)

    def _params_changed(self, old: Params, new: Params) -> None:
        if self.running and (new.nosm, new.sm_url) != (old.nosm, old.sm_url):
            self._ready = False
            self._stop_probe()
            self._start_probe()
