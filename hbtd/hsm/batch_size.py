"""The batch size: the number of components that one update to HSM names."""

_FIRST = 100
"""The batch size before HSM's speed is known."""

_MOST = 5000
"""The largest batch size."""

_SLOW = 50
"""The smallest batch size that slow responses lead to; only failures lead to smaller ones.

An HSM that is slow even with such small batches would be slow at any size.
"""


_PATIENCE = 4.0
"""How many times as long HSM may take for suspects as it took for the last batch."""

_LEAST_PATIENCE = 1.0
"""Seconds that are added to the time that HSM may take for suspects."""

_ENOUGH = 60.0
"""Seconds for which an accepted size is not exceeded after a larger batch has failed."""

_FEW = 10
"""The smallest size to which `_ENOUGH` applies: if fewer fail, one of them is probably at fault."""


class BatchSize:
    """The number of components to put into a batch, learned from HSM's response times.

    The size follows HSM's speed, not the number of components in the outbox, so that updates don't
    time out. HSM completes an update even when its client has timed out, and then does the same
    work again for the retry.

    Updates may also fail because of their size: a proxy in front of HSM may limit the size of
    bodies, or packets of full length may be lost. So the size is halved after each failure, of
    whatever kind, until updates are accepted. If an update fails again as soon as the size has
    grown beyond an accepted size, the size does not exceed the accepted one for a minute.
    """

    def __init__(self) -> None:
        self.size = _FIRST
        """The maximum number of components in the next batch."""
        self._took: tuple[float, int] | None = None
        # The size of the last full batch, if that was accepted.
        self._accepted = 0
        # The size beyond which updates have failed, and until when it is not exceeded.
        self._enough = _MOST
        self._enough_until = 0.0

    def answered(self, count: int, took: float, target: float, now: float) -> None:
        """Adapt the size after HSM accepted a batch of `count` components in `took` seconds.

        `target` is the number of seconds that a batch should take. If the batch was full and took
        less time, the size grows by at most half. If the batch took more time, the size is reduced,
        but not to fewer than 50 components; only `failed` reduces it further. `now` is the current
        time in seconds of a clock; calls of `failed` must use the same clock.
        """
        self._took = took, count
        fitting = int(count * target / took) if took > 0 else _MOST
        if took > target:
            self.size = min(self.size, max(fitting, _SLOW))
        elif count >= self.size:
            self._accepted = count
            most = self._enough if now < self._enough_until else _MOST
            self.size = max(self.size, min(self.size * 3 // 2 + 1, fitting, most))

    def patience(self, count: int) -> float | None:
        """Return the number of seconds after which to abandon an update with `count` suspects.

        Suspects are the components of failed updates. The result is one second more than four times
        the time that HSM took to accept the last batch; if `count` is larger than that batch, the
        time is increased in proportion. So suspects that make HSM hang are found soon. Return
        `None` if HSM has not accepted a batch yet.
        """
        if self._took is None:
            return None
        took, lately = self._took
        return _LEAST_PATIENCE + _PATIENCE * took * max(1.0, count / lately)

    def failed(self, count: int, now: float, *, timed_out: bool) -> None:
        """Reduce the size after a batch of `count` components has failed at the time `now`.

        The new size is half of the old size, or half of `count` if that is less. `timed_out` says
        whether the batch failed because HSM did not answer within the time limit. If it is false,
        and the batch was not full, the size stays the same. `now` is in seconds of the clock that
        calls of `answered` use.

        If HSM accepted the previous full batch, of at least 10 components, and the failed batch is
        larger than that one by half at most, the size does not exceed that of the accepted batch
        for a minute from `now`.
        """
        if count < self.size and not timed_out:
            return
        before, self._accepted = self._accepted, 0
        if _FEW <= before < count <= before * 3 // 2 + 1:
            self._enough, self._enough_until = before, now + _ENOUGH
        self.size = max(1, min(self.size, count) // 2)

    def acquit(self) -> None:
        """Lift the limit that `failed` has set, so that the size can grow beyond the limit again.

        Call this when it is known that a component, not the size of the batch, caused the failure.
        """
        self._enough_until = 0.0
