"""Whether HSM is ready to be told anything."""

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from hbtd.config.params import LiveParams, Params
from hbtd.hsm.client import HSMClient, HSMUnavailable
from hbtd.runtime.periodic import periodic

INTERVAL = 5.0
"""Seconds between two questions."""


class Readiness(Service):
    """Asks HSM every few seconds whether it is ready, and remembers the answer.

    Follows the parameters: another `sm_url` is another HSM, of which nothing is known until it has
    answered, and with `nosm` nobody is asked.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: HSMClient,
        params: LiveParams,
        became_ready: Callable[[], None],
        not_ready: Callable[[str], None],
    ) -> None:
        """Make a probe that reports.

        `became_ready` is called when HSM turns out to be ready and was not before, `not_ready`,
        with a reason, whenever it turns out not to be.
        """
        self._clock = clock
        self._client = client
        self._params = params
        self._became_ready = became_ready
        self._not_ready = not_ready
        self._probe: LoopingCall | None = None
        self.ready = False
        """Whether HSM was ready when last heard of.

        Who finds that it is not may say so here, until it is asked again.
        """
        params.on_change(self._params_changed)

    def startService(self) -> None:
        """Begin to ask."""
        super().startService()
        self._start_probe()

    def stopService(self) -> None:
        """Ask no more."""
        super().stopService()
        self._stop_probe()

    def _start_probe(self) -> None:
        if self._params.current.nosm:
            self._log.info("HSM is told nothing: nosm is set.")
            return
        # Each probe its own loop: one that is stopped may still wait for its last answer.
        self._probe = probe = periodic(self._clock, lambda: self._ask(probe))
        probe.start(INTERVAL)

    def _stop_probe(self) -> None:
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.stop()

    async def _ask(self, probe: LoopingCall) -> None:
        unready: str | None = None
        try:
            await self._client.ready()
        except HSMUnavailable as error:
            unready = str(error)
        if probe is not self._probe:
            return  # That was another HSM.
        if unready is not None:
            self.ready = False
            self._not_ready(unready)
        elif not self.ready:
            self.ready = True
            self._became_ready()

    def _params_changed(self, old: Params, new: Params) -> None:
        if self.running and (new.nosm, new.sm_url) != (old.nosm, old.sm_url):
            self.ready = False
            self._stop_probe()
            self._start_probe()
