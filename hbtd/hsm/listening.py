"""For how long a replica has led and heard components, without a gap."""

from typing import Final

_GAP: Final = 1.0
"""Seconds within `errtime` in which a replica may be deaf, or not judge, without a gap."""


class ListeningTime:
    """For how long a replica has led and heard components, without a gap.

    The replica was deaf while the observed clock fell behind the reactor's clock: hbtd was stopped
    or suspended, or could not hear components for another reason.
    """

    def __init__(self) -> None:
        """Make an object for a replica that does not lead."""
        # In seconds of the observed clock; `None` on a follower.
        self._since: float | None = None
        # A time of the reactor's clock, and how far the observed clock was behind it then.
        self._then = self._behind = 0.0

    def lacks(
        self,
        clock: float,
        observed: float,
        leading: bool,
        errtime: float,
        needed: float | None = None,
    ) -> float:
        """Return the seconds left until the replica will have listened for `needed` seconds.

        If `needed` is `None`, it is `errtime`, the parameter. The method is to be called often: at
        least each second. `clock` and `observed` are the times of the reactor's clock and of the
        observed clock, in seconds; `leading` says whether the replica leads now.
        """
        behind = clock - observed
        if needed is None:
            needed = errtime
        if not leading:
            self._since = None
            return needed
        if self._since is None or behind - self._behind > _GAP:
            self._since = observed
            self._then, self._behind = clock, behind
        elif clock - self._then > errtime:
            self._then, self._behind = clock, behind
        return max(0.0, needed - (observed - self._since))
