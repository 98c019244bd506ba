"""Limits how often the same component can be forgotten, that is, removed from tracking."""

from collections import OrderedDict


class ForgottenLately(Exception):
    """Raised when a component is to be forgotten again too soon after it was forgotten."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"It can be forgotten in {seconds} s.")
        self.seconds = seconds
        """The time until the component can be forgotten again, in seconds; more than 0."""


class Forgotten:
    """The components that were forgotten lately, each with the time at which it was forgotten.

    The methods take the current time, `at`, and the time for which a component counts as forgotten
    lately, `period`, both in seconds of the same clock. `at` must not decrease from one call to the
    next. `period` is more than 0, and may differ from call to call.
    """

    def __init__(self) -> None:
        # In the order of the times.
        self._times: OrderedDict[str, float] = OrderedDict()

    def check(self, xname: str, at: float, period: float) -> None:
        """Raise `ForgottenLately` if a component was forgotten less than `period` seconds ago."""
        since = self._times.get(xname)
        if since is not None and at - since < period:
            raise ForgottenLately(since + period - at)

    def note(self, xname: str, at: float, period: float) -> None:
        """Record that a component is forgotten at the time `at`.

        Records of components that were forgotten `period` or more seconds ago are deleted.
        """
        self._times[xname] = at
        self._times.move_to_end(xname)
        while at - next(iter(self._times.values())) >= period:
            self._times.popitem(last=False)

    def drop(self, xname: str) -> None:
        """Delete the record of a component, which was not forgotten after all."""
        self._times.pop(xname, None)

    def __len__(self) -> int:
        return len(self._times)
