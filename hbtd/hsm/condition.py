"""Whether HSM accepts updates and, if not, why; for `/health` and the log."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.formats.counts import counted
from hbtd.hsm.quarantine import Culprit, Quarantine
from hbtd.runtime.outage import Outage


class Condition:
    """The state of HSM as hbtd sees it: whether it accepts updates and, if not, why and since when.

    The beginning of an outage of HSM, changes of the outage's cause, and its end are logged. A
    component is logged when it is set aside (see `Quarantine`), and when HSM accepts its updates
    again.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, params: LiveParams, wall: Callable[[], float] = time.time
    ) -> None:
        """Make a condition without an outage, as before the first request to HSM.

        `wall` returns the Unix time in seconds, from which the dates in texts are computed.
        """
        self._clock = clock
        self._params = params
        self._wall = wall
        self._outage = Outage(
            self._note_outage, self._log_recovery, clock.seconds, self._log_outage
        )
        self._outage_began = 0.0
        self._seen_ready = False

    @property
    def in_outage(self) -> bool:
        """Whether a request to HSM has failed, and none has succeeded since."""
        return self._outage.reason is not None

    def failed(self, reason: str) -> None:
        """Record that HSM can't be used, so that an outage begins or continues.

        `reason` is logged if it is new, and is part of the results of `trouble` and
        `why_not_ready`.
        """
        self._outage.fail(reason)

    def works(self) -> None:
        """Record that HSM works, which ends an outage.

        Log the end of an outage. Without an outage, log the first time that HSM works.
        """
        if not self._seen_ready and not self.in_outage:
            self._log.info("HSM at {url} is ready.", url=self._params.current.sm_url)
        self._seen_ready = True
        self._outage.recover()

    def reset(self) -> None:
        """Forget all that is known about HSM, because another HSM is used now."""
        self._seen_ready = False
        self._outage.reset()

    def set_aside(self, culprit: Culprit) -> None:
        """Log that a component has been set aside, because HSM does not accept updates of it."""
        self._log.error(
            "HSM does not accept the update of {component} to {state}/{flag}, and says {said!r};"
            " the component is set aside, and tried again alone, first after 5 s.",
            component=culprit.judgement.component,
            state=culprit.judgement.transition.state,
            flag=culprit.judgement.transition.flag,
            said=culprit.said,
        )

    def back(self, culprits: Sequence[Culprit]) -> None:
        """Log that HSM again accepts updates of components that had been set aside."""
        for culprit in culprits:
            self._log.info(
                "HSM accepts updates of {component} again.", component=culprit.judgement.component
            )

    def health(self, ready: bool, quarantine: Quarantine) -> str:
        """Return a text about the state of HSM (docs/protocol.md, "Probes and health").

        `ready` says whether HSM counts as ready. During an outage, the caller passes false.
        """
        if not ready:
            return "Not ready"
        if count := len(quarantine.set_aside):
            return f"Ready, but does not accept updates of {counted(count, 'component')}"
        return "Ready"

    def why_not_ready(self) -> str:
        """Return a phrase that says why HSM counts as not ready and, if known, since when."""
        if self.in_outage:
            return f"HSM fails since {self._utc(self._outage_began)}: {self._outage.reason}"
        return "HSM has not yet answered whether it is ready"

    def trouble(self, ready: bool, quarantine: Quarantine) -> str | None:
        """Return why HSM can't be told of all judgements and, if known, since when.

        Return `None` if HSM can be told of all judgements. `ready` says whether HSM counts as
        ready.
        """
        if self._params.current.nosm:
            return "nosm is set"
        if self.in_outage:
            return f"since {self._utc(self._outage_began)}: {self._outage.reason}"
        if not ready:
            return "HSM has not yet answered whether it is ready"
        culprit = quarantine.longest_aside()
        if culprit is None:
            return None
        components = counted(len(quarantine.set_aside), "component")
        return (
            f"since {self._utc(culprit.since)}: {components} set aside,"
            f" first {culprit.judgement.component}: {culprit.said}"
        )

    def _utc(self, when: float) -> str:
        """Return the date and time, in UTC, at which `clock` showed `when` seconds."""
        ago = self._clock.seconds() - when
        moment = datetime.fromtimestamp(self._wall() - ago, timezone.utc)
        return moment.isoformat(timespec="seconds")

    def _note_outage(self, reason: str) -> None:
        self._outage_began = self._clock.seconds()
        self._log_outage(reason)

    def _log_outage(self, reason: str) -> None:
        self._log.warn(
            "HSM at {url} accepts no updates; hbtd keeps them and tries again: {reason}",
            url=self._params.current.sm_url,
            reason=reason,
        )

    def _log_recovery(self) -> None:
        self._log.info("HSM at {url} accepts updates again.", url=self._params.current.sm_url)
