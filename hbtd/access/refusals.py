"""What is said of those who were turned away: little, however often they come back."""

from collections import Counter

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.runtime.periodic import periodic

_QUIET = 60.0
"""Seconds between two lines about one peer."""

_PERIOD = 5.0
"""Seconds between two looks at what is to be said."""

_MOST_PEERS = 200
"""Peers that are told apart; the others are counted together."""

_OTHERS = "others"


class _Gathered:
    """What is to be said of one peer."""

    def __init__(self, said_at: float) -> None:
        self.said_at = said_at
        self.reasons: Counter[str] = Counter()


class Refusals(Service):
    """Counts refusals, and logs them: of each peer the first at once, then a line a minute."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, reasons: tuple[str, ...]) -> None:
        self._clock = clock
        self._peers: dict[str, _Gathered] = {}
        self._loop = periodic(clock, self._say)
        self.counts = Counter(dict.fromkeys(reasons, 0))
        """How often somebody was refused, by reason."""

    def note(self, host: str, reason: str, detail: str) -> None:
        """Take note that something was refused to this host, for a reason that is counted."""
        self.counts[reason] += 1
        gathered = self._peers.get(host)
        if gathered is None:
            if len(self._peers) < _MOST_PEERS:
                self._peers[host] = _Gathered(self._clock.seconds())
                self._log.warn("Refused {host}: {detail}", host=host, detail=detail)
                return
            # Said in its time; whoever comes with many addresses is not to fill the log.
            gathered = self._peers.setdefault(_OTHERS, _Gathered(self._clock.seconds()))
        gathered.reasons[reason] += 1

    def startService(self) -> None:
        """Begin to say what was gathered."""
        super().startService()
        self._loop.start(_PERIOD, now=False)

    def stopService(self) -> None:
        """Say no more."""
        if self._loop.running:
            self._loop.stop()
        super().stopService()

    def _say(self) -> None:
        now = self._clock.seconds()
        for host, gathered in list(self._peers.items()):
            if now - gathered.said_at < _QUIET:
                continue
            if not gathered.reasons:
                del self._peers[host]
                continue
            self._log.warn(
                "Refused {host} {count} times more: {reasons}",
                count=gathered.reasons.total(),
                host=host,
                reasons=", ".join(f"{n} {reason}" for reason, n in gathered.reasons.items()),
            )
            gathered.said_at = now
            gathered.reasons.clear()
