"""Outages of services: reports of when each begins, when its cause changes, and when it ends."""

from collections.abc import Callable

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""The shortest and longest time, in seconds, between two reports of the causes of one outage."""


class Outage:
    """The state of a service or store that may fail: whether there is an outage, and why.

    `began` is called at the first failure, and `ended` at the first success after an outage,
    however many failures there were. So the log has one line for the beginning and one for the end.

    If the cause changes during an outage, `changed` is called with the new reason. Otherwise the
    log might say only "connection refused" of a server that has since come back with an invalid
    certificate. The same cause is not reported twice in succession, nor twice within ten minutes.
    At first, at least five seconds pass between two reports; this time doubles with each report, up
    to ten minutes. So causes that alternate, or that all differ, don't fill the log.
    """

    def __init__(
        self,
        began: Callable[[str], None],
        ended: Callable[[], None],
        now: Callable[[], float],
        changed: Callable[[str], None] | None = None,
    ) -> None:
        """Make the state of a service that has not failed.

        `began` and `changed` are called with the reason of a failure, `ended` without arguments.
        If `changed` is `None`, `began` is called in its place. `now` returns the seconds of a
        monotonic clock.
        """
        self._began = began
        self._ended = ended
        self._now = now
        self._changed = began if changed is None else changed
        self._reason: str | None = None
        # The causes that were reported, each with the time, the last one at the end.
        self._reported: dict[str, float] = {}
        self._pause = FIRST_PAUSE

    @property
    def reason(self) -> str | None:
        """The reason of the last failure; `None` while there is no outage."""
        return self._reason

    def fail(self, reason: str, cause: str | None = None) -> None:
        """Record a failure; report it if it begins an outage, or if it has a new cause.

        `reason` is a text about the failure. `cause` identifies the cause if `reason` contains
        figures that vary; by default, it is `reason`.
        """
        before, self._reason = self._reason, reason
        cause = reason if cause is None else cause
        if before is None:
            self._reported = {}
            self._pause = FIRST_PAUSE
            self._note(cause)
            self._began(reason)
        elif self._is_due(cause):
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._note(cause)
            self._changed(reason)

    def recover(self) -> None:
        """Record a success; if there was an outage, end it, and call `ended`."""
        before, self._reason = self._reason, None
        if before is not None:
            self._ended()

    def reset(self) -> None:
        """End an outage without calling `ended`. Call this when a different server is used."""
        self._reason = None

    def _is_due(self, cause: str) -> bool:
        """Return whether to report a cause now, in an outage that has been reported already."""
        last, at = next(reversed(self._reported.items()))
        now = self._now()
        if cause == last or now - at < self._pause:
            return False
        return cause not in self._reported or now - self._reported[cause] >= LONGEST_PAUSE

    def _note(self, cause: str) -> None:
        now = self._now()
        self._reported = {
            each: at
            for each, at in self._reported.items()
            if each != cause and now - at < LONGEST_PAUSE
        }
        self._reported[cause] = now
