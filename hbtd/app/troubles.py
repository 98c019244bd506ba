"""Collects why parts of hbtd do not work, and since when, for the answer to `GET /health`."""

from collections.abc import Callable, Mapping
from datetime import datetime, timezone

from twisted.internet.interfaces import IReactorTime

from hbtd.runtime.periodic import PeriodicService

_PERIOD = 1.0
"""Seconds between two checks of the parts, and so the precision of "since"."""


class Troubles(PeriodicService):
    """Checks every second which parts of hbtd do not work; remembers since when each has failed."""

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        reasons: Mapping[str, Callable[[], str | None]],
    ) -> None:
        """Make a service that calls the functions in `reasons`, whose keys name parts of hbtd.

        Each function returns why its part does not work, and `None` while it works. `wall_clock`
        returns the seconds since the epoch.
        """
        super().__init__(clock, _PERIOD, self._look, "the look at what does not work")
        self._wall_clock = wall_clock
        self._reasons = reasons
        self._since: dict[str, float] = {}

    def texts(self) -> dict[str, str]:
        """Return, by the name of each part that does not work, a text that says why and since when.

        Parts that work are left out.
        """
        return {
            name: f"since {_moment(self._since[name])}: {reason}"
            for name, reason in self._present().items()
        }

    def _look(self) -> None:
        self._present()

    def _present(self) -> dict[str, str]:
        """Return why parts do not work at present, by part; remember since when that is so."""
        found = {name: reason() for name, reason in self._reasons.items()}
        present = {name: reason for name, reason in found.items() if reason is not None}
        now = self._wall_clock()
        self._since = {name: self._since.get(name, now) for name in present}
        return present


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
