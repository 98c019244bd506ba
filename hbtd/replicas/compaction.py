"""Compaction: the leader deletes etcd's old revisions, so that its database does not fill up."""

from collections import deque
from collections.abc import Callable, Iterable

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import Compacted, EtcdRefused, EtcdUnavailable
from hbtd.formats.counts import counted
from hbtd.runtime.outage import Outage
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.etcd_format import HEALTH, LIFE, LOCK, PARAMS, RECORDS

HISTORY = 60.0
"""Seconds for which etcd keeps old revisions, from which a replica's broken watch can resume."""

INTERVAL = 30.0
"""Seconds between two compactions."""

_EARLY = 1.0
"""Seconds by which a compaction may be early: otherwise it may have to wait for the next one."""

_END = b"\0"
"""As the end of a range, this stands for the end of all keys."""


def _after(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])


OURS = (
    *((start, end) for start, end in RECORDS if start not in (b"x0", b"all")),
    (b"x0", b"x:"),
    (b"all", b"all\0"),
    (PARAMS, PARAMS + b"\0"),
    (HEALTH[0], HEALTH[0] + b"\0"),
    (b"hbtd/", _after(b"hbtd/")),
    (LIFE, _after(LIFE)),
    (LOCK, _after(LOCK)),
)
"""The ranges of all keys in etcd that this hbtd, or an original hbtd, may write."""


def gaps(ranges: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return ranges that together cover all keys outside of `ranges`.

    A range is a pair of its first key and its end, as in etcd. `ranges` must not overlap.
    """
    found: list[tuple[bytes, bytes]] = []
    start = b"\0"
    for first, end in sorted(ranges):
        if start < first:
            found.append((start, first))
        start = end
    return [*found, (start, _END)]


class History:
    """The latest revisions of etcd, with the times at which etcd reached them.

    etcd is compacted up to one of these revisions.
    """

    def __init__(self) -> None:
        self._noted: deque[tuple[float, int]] = deque()

    def note(self, revision: int, now: float) -> None:
        """Record that etcd is at `revision` at the time `now`, in seconds of a monotonic clock."""
        if self._noted and revision < self._noted[-1][1]:
            self._noted.clear()  # etcd has lost its data, and counts from the beginning again
        self._noted.append((now, revision))

    def outdated(self, now: float) -> int | None:
        """Return the latest revision that was recorded about `HISTORY` seconds ago, or earlier.

        Forget that revision and all earlier ones. Return `None` if no recorded revision is that
        old. `now` is the current time of the clock that is used for `note`.
        """
        found: int | None = None
        while self._noted and now - self._noted[0][0] >= HISTORY - _EARLY:
            _, found = self._noted.popleft()
        return found


class Compaction(Service):
    """Compacts etcd every `INTERVAL` seconds while this replica leads, if `kv_compact` allows it.

    etcd keeps all values that were overwritten or deleted until it is compacted. hbtd needs only
    those of the last `HISTORY` seconds; other programs may need more, so by default etcd is not
    compacted if it has keys of other programs. etcd is also compacted when its database is full.
    But the database shrinks, and accepts writes again, only after operators have defragmented it
    and disarmed etcd's alarm.
    """

    _log = Logger()

    def __init__(
        self,
        client: EtcdClient,
        clock: IReactorTime,
        elapsed: Callable[[], float],
        params: LiveParams,
        revision: Callable[[], int],
        leading: Callable[[], bool],
    ) -> None:
        """Make a service that has yet to be started.

        `elapsed` returns the seconds of a clock that also advances while the process does not run.
        `revision` returns the revision of etcd up to which this replica has applied changes, or 0
        while it has to read all of etcd. `leading` returns whether this replica leads.
        """
        self._client = client
        self._elapsed = elapsed
        self._params = params
        self._revision = revision
        self._leading = leading
        self._history = History()
        self._outage = Outage(self._refrains, self._resumes, clock.seconds)
        self._working = PeriodicService(clock, INTERVAL, self._work, "the compaction of etcd")

    def startService(self) -> None:
        """Begin to record the revisions that etcd reaches, and to compact etcd."""
        super().startService()
        self._working.startService()

    def stopService(self) -> Deferred[None]:
        """Stop; return a Deferred that fires when a compaction in progress is done."""
        super().stopService()
        return self._working.stopService()

    async def _work(self) -> None:
        now, revision = self._elapsed(), self._revision()
        if revision:
            self._history.note(revision, now)
        outdated = self._history.outdated(now)
        if outdated is None or not self._leading() or self._params.current.kv_compact == "no":
            return
        try:
            if self._params.current.kv_compact == "auto":
                others = await self._client.count(gaps(OURS))
                if others:
                    self._outage.fail(
                        f"it has {counted(others, 'key')} of other programs", "others"
                    )
                    return
            await self._client.compact(outdated)
        except Compacted:
            pass  # etcd, or somebody else, has done it
        except EtcdUnavailable as error:
            self._log.debug("etcd could not be compacted: {error}", error=str(error))
            return
        except EtcdRefused as error:
            self._outage.fail(str(error))
            return
        self._outage.recover()

    def _refrains(self, reason: str) -> None:
        self._log.warn(
            "hbtd refrains from compacting etcd: {error}. Let etcd compact itself"
            " (--auto-compaction-retention), or set hbtd's --kv_compact=yes; otherwise etcd's"
            " database fills up.",
            error=reason,
        )

    def _resumes(self) -> None:
        self._log.info("hbtd compacts etcd from now on.")
