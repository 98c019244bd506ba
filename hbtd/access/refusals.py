"""The exceptions by which requests are refused, and how refusals are counted and logged."""

from collections import Counter
from collections.abc import Iterable

from twisted.application.service import MultiService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.runtime.periodic import PeriodicService

_QUIET = 60.0
"""Seconds between two log lines about one peer."""

_PERIOD = 5.0
"""Seconds between two checks of whether log lines are due."""

_MOST_PEERS = 200
"""The most peers whose refusals are logged separately; those of all others share a line."""

_OTHERS = "other addresses"

REQUEST = "request or connection"
CHANGE = "change"
"""The word in log lines for a request to change parameters or to forget a component."""

_PLURALS = {REQUEST: "requests or connections", CHANGE: "changes"}


class Refused(Exception):
    """Raised when a request is refused; the message tells the sender why."""

    reason = ""
    """The word under which the refusal is counted: a label value of the metric `hbtd_refused`."""


class Unauthenticated(Refused):
    """Raised when a request lacks valid credentials; the answer, status 401, asks for them."""

    reason = "unauthenticated"

    def __init__(self, detail: str, challenges: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.challenges = challenges
        """Values for `WWW-Authenticate` (RFC 9110 11.6.1), one for each accepted scheme."""


class Forbidden(Refused):
    """Raised when the sender of a request has no right to make it; answered with status 403."""

    reason = "forbidden"


class KeysUnavailable(Refused):
    """Raised when a request's token can't be verified yet, because no keys have been fetched.

    The request is answered with status 503.
    """

    reason = "no_keys"


class NoRoom(Refused):
    """Raised when an untracked component sends a heartbeat, and no more components can be tracked.

    The maximum number of components is the parameter `max_components`. The heartbeat is answered
    with status 503.
    """

    reason = "full"


class TooSoon(Refused):
    """Raised when a request comes too soon after an earlier request to do the same.

    The request is answered with status 429.
    """

    reason = "too_soon"

    def __init__(self, detail: str, seconds: float) -> None:
        super().__init__(detail)
        self.seconds = seconds
        """How many seconds the sender has to wait before it may repeat the request."""


REASONS = tuple(
    each.reason for each in (Unauthenticated, Forbidden, KeysUnavailable, NoRoom, TooSoon)
)
"""The words under which refusals are counted: the `reason` of each exception in this module."""


class _PeerRefusals:
    """The refusals to one peer that have not been logged yet."""

    def __init__(self, logged_at: float) -> None:
        self.logged_at = logged_at
        self.reasons: Counter[str] = Counter()


class Refusals(MultiService):
    """Counts and logs the requests and connections that are refused.

    The first refusal to a peer is logged at once. Later refusals to the same peer are logged once a
    minute, in a summary.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, reasons: Iterable[str]) -> None:
        """Begin with a count of zero for each of `reasons`.

        `clock` is used to find out when a log line is due.
        """
        super().__init__()
        self._clock = clock
        self._peers: dict[tuple[str, str], _PeerRefusals] = {}
        self.counts = Counter(dict.fromkeys(reasons, 0))
        """The number of refusals since hbtd started, by reason."""
        self.addService(
            PeriodicService(clock, _PERIOD, self._report, "the report of refusals", now=False)
        )

    def note(self, host: str, reason: str, detail: str, what: str = REQUEST) -> None:
        """Count the refusal of a peer's request, and log it: at once, or later in a summary.

        `host` names the peer, and `reason` is the word under which the refusal is counted. `detail`
        is a sentence about the reason. `what` says what was refused, `CHANGE` or `REQUEST`. The
        peer's first refusal of each kind is logged at once, with `detail`; later refusals are
        counted in a summary.
        """
        self.counts[reason] += 1
        peer = self._peers.get((host, what))
        if peer is None:
            if len(self._peers) < _MOST_PEERS:
                self._peers[host, what] = _PeerRefusals(self._clock.seconds())
                self._log.warn(
                    "Refused a {what} from {host}: {detail}",
                    what=what,
                    host=host,
                    detail=detail,
                )
                return
            # A client that comes from many addresses must not be able to fill the log.
            peer = self._peers.setdefault((_OTHERS, what), _PeerRefusals(self._clock.seconds()))
        peer.reasons[reason] += 1

    def _report(self) -> None:
        """Log a summary of the refusals to each peer whose last log line is a minute old.

        The summary counts the refusals since that line. If there are none, log nothing, and forget
        the peer: the next refusal to it is logged at once.
        """
        now = self._clock.seconds()
        for (host, what), peer in list(self._peers.items()):
            if now - peer.logged_at < _QUIET:
                continue
            if not peer.reasons:
                del self._peers[host, what]
                continue
            self._log.warn(
                "Refused {count} more {what} from {host}: {reasons}",
                count=peer.reasons.total(),
                what=_PLURALS[what],
                host=host,
                reasons=", ".join(f"{n} {reason}" for reason, n in peer.reasons.items()),
            )
            peer.logged_at = now
            peer.reasons.clear()
