"""Outages, each of which is reported once when it begins and once when it is over."""

from collections.abc import Callable


class Outage:
    """The state of a service or store that may fail: whether it is out of use, and why.

    `began` is called at the first failure and `ended` at the first success after it, however many
    failures there are in between. So the log has one line for the beginning and one for the end.
    """

    def __init__(self, began: Callable[[str], None], ended: Callable[[], None]) -> None:
        """Begin without an outage; `began` gets the reason as its argument, `ended` gets none."""
        self._began = began
        self._ended = ended
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """The reason of the last failure; `None` while there is no outage."""
        return self._reason

    def fail(self, reason: str) -> None:
        """Note a failure; call `began` with its reason unless there is an outage already."""
        before, self._reason = self._reason, reason
        if before is None:
            self._began(reason)

    def recover(self) -> None:
        """Note a success; call `ended` if there was an outage."""
        before, self._reason = self._reason, None
        if before is not None:
            self._ended()

    def reset(self) -> None:
        """End an outage without calling `ended`. Call this when another server is used now."""
        self._reason = None
