"""Outages: trouble that is reported once when it begins, and once when it is over."""

from collections.abc import Callable


class Outage:
    """Whether something can be used, and since when not.

    However often it fails in between, `began` and `ended` are called in turn: whoever reads the
    log learns that there is trouble and that it is over, and no more.
    """

    def __init__(self, began: Callable[[str], None], ended: Callable[[], None]) -> None:
        """Report to `began`, with the reason, and to `ended`."""
        self._began = began
        self._ended = ended
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """What failed last, `None` while nothing does."""
        return self._reason

    def fail(self, reason: str) -> None:
        """Note a failure; the first one is reported."""
        before, self._reason = self._reason, reason
        if before is None:
            self._began(reason)

    def recover(self) -> None:
        """Note that it works; that is reported if it had failed."""
        before, self._reason = self._reason, None
        if before is not None:
            self._ended()

    def reset(self) -> None:
        """Forget what was: there is another one now, of which nothing is known."""
        self._reason = None
