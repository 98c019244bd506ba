"""The data of the guard: silent components, disruptions, and what is decided about them."""

from collections.abc import Mapping, Sequence
from enum import Enum
from math import inf
from typing import Final, NamedTuple

from hbtd.guard.domains import DomainKind

MISSED: Final = 2
"""The number of its own mean periods for which a component is silent before it counts as silent."""


class GuardMode(Enum):
    """The values of `--guard`."""

    OFF = "off"
    """Nothing is disrupted."""
    REPORT = "report"
    """Disruptions are reported, and change nothing."""
    HOLD = "hold"
    """Disruptions are reported, and the deaths of their members wait."""


class GuardSettings(NamedTuple):
    """The parameters of hbtd that the guard goes by; durations are in observed seconds."""

    mode: GuardMode = GuardMode.REPORT
    share: float = 55
    """The part of a domain's living components, in percent, from which on it is disrupted."""
    hold: float = 90.0
    """How long deaths wait at most, from the beginning of the disruption."""
    warntime: float = 10.0
    errtime: float = 30.0

    @property
    def patience(self) -> float:
        """How long nodes have to connect again before their silence counts, after a gap or start.

        That is `warntime`, or `errtime` if it is shorter: deaths are due from then on.
        """
        return min(self.warntime, self.errtime)


def silence_limit(mean: float, warntime: float, errtime: float) -> float:
    """Return the observed seconds of silence after which a component counts as silent here.

    `mean` is its mean period (`Component.mean`), 0 or less if not known. The limit is twice the
    mean period, so that the component has missed a heartbeat beyond doubt, or `warntime` if the
    period is not known; but `errtime` at most, since it is dead then.
    """
    return min(MISSED * mean if mean > 0.0 else warntime, errtime)


class SilentMember:
    """A silent component, as the guard sees it."""

    __slots__ = (
        "began",
        "dead",
        "disruption",
        "domains",
        "first",
        "limit",
        "new",
        "since",
        "xname",
    )

    def __init__(
        self, xname: str, since: float, limit: float, domains: tuple[str, ...] = ()
    ) -> None:
        self.xname = xname
        self.since = since
        """The observed time of the component's last heartbeat."""
        self.began = since
        """When this silence began, as far as that is known: `since`, or earlier.

        A process that starts takes everybody to have been heard lately, but it may know by which
        disruption somebody has been silent before.
        """
        self.limit = limit
        """The seconds of silence after which the component counted as silent."""
        self.domains = domains
        """The names of the failure domains that the component is in."""
        self.disruption: Disruption | None = None
        """The disruption that explains this silence, ended or not; `None` if there is none."""
        self.first: Disruption | None = None
        """The first disruption that explained this silence: it is held no longer than by that."""
        self.dead = False
        """Whether the component has been declared dead since it became silent."""
        self.new = True
        """Whether this silence has yet to be looked at for the first time."""


class Disruption:
    """The silence of much of a failure domain, all of which began within one `errtime`.

    Times are in observed seconds.
    """

    __slots__ = (
        "absorbed",
        "away",
        "began",
        "domain",
        "ended",
        "includes",
        "last",
        "latest",
        "slack",
        "start",
        "tell_at",
        "told",
        "unsure",
        "until",
        "vague_last",
        "vague_until",
    )

    def __init__(
        self, domain: str, *, began: float, start: float, latest: float, until: float
    ) -> None:
        self.domain = domain
        self.began = began
        """When it was found that the domain is disrupted."""
        self.start = start
        """When its first member was heard last. Who was heard last before that is no member."""
        self.slack = 0.0
        """By how many seconds members may seem to have been heard earlier, as another process has
        told `start`.
        """
        self.latest = latest
        """When its last member may have been heard last: one `errtime` after `start`.

        After hbtd has started, it may be later: of those who were silent before, it is not known
        when they were heard last.
        """
        self.last = start
        """When the last of its members so far was heard last."""
        self.vague_until = -inf
        """Silences that seem to have begun up to then may have begun earlier: hbtd has started."""
        self.vague_last = inf
        """When the last of them has begun at the latest: `last` as the process before has left it.
        """
        self.until = until
        """When it ends at the latest, and until when the deaths of its members may wait."""
        self.away: dict[str, SilentMember] = {}
        """The members that have not been heard since, dead or not, by xname."""
        self.told = False
        """Whether `Disrupted` was returned for it."""
        self.tell_at = began
        """When `Disrupted` is due: an outage is told as a whole, and not for each part first."""
        self.includes: tuple[str, ...] = ()
        """The domains that were told to be disrupted before they became parts of this one."""
        self.absorbed: list[Disruption] = []
        """Disruptions of smaller domains whose members, or some of them, this one has taken."""
        self.ended = inf
        """When it ended, if not because all were back; `inf` if it has not."""
        self.unsure = False
        """Whether it is of another process, and who is silent is not known here yet."""

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.ended == inf

    def explains(self, member: SilentMember) -> bool:
        """Return whether a silence is one of this disruption, by its place and its beginning."""
        in_time = self.start - self.slack <= member.since <= self.latest
        return in_time and self.domain in member.domains

    def take(self, member: SilentMember) -> None:
        """Make a silence one of this disruption; it leaves the one that it is of so far."""
        if member.disruption is not None:
            member.disruption.away.pop(member.xname, None)
        if member.first is None:
            parts = [each for each in self.absorbed if each.explains(member)]
            member.first = min((self, *parts), key=_until) if parts else self
        if member.since <= self.vague_until:
            member.began = min(member.began, self.vague_last)
        else:
            self.last = max(self.last, member.began)
        member.disruption = self
        self.away[member.xname] = member


def _until(disruption: Disruption) -> float:
    return disruption.until


class EndReason(Enum):
    """Why a disruption has ended."""

    BACK = "back"
    """All members have been heard again; or those who have not are forgotten or in maintenance."""
    OVER = "over"
    """Members are still silent, and their deaths have waited for as long as they may."""
    RELEASED = "released"
    """An operator has released the domain, or switched the guard off."""


class Disrupted(NamedTuple):
    """The statement that a failure domain is disrupted. Times are in observed seconds."""

    domain: str
    """The name of the domain: an xname, or the name of a group."""
    kind: DomainKind
    began: float
    """When it was found that the domain is disrupted."""
    start: float
    """When the first of its silent members was heard last."""
    until: float
    """When it ends at the latest; in the mode `hold`, deaths wait until then."""
    away: int
    """The number of its members that have not been heard since, dead or not."""
    living: int
    """The number of all living components in the domain, silent or not."""
    includes: tuple[str, ...] = ()
    """The domains of earlier such statements whose disruptions are part of this one now."""


class Ended(NamedTuple):
    """The statement that a disruption, for which `Disrupted` was returned, has ended."""

    domain: str
    kind: DomainKind
    began: float
    """When it was found that the domain is disrupted, in observed seconds."""
    reason: EndReason
    away: int
    """The number of its members that have not been heard since, dead or not."""


class Decisions(NamedTuple):
    """What the guard has decided."""

    disrupted: Sequence[Disrupted] = ()
    """The domains that have become disrupted: each disruption is in one `Decisions` only."""
    ended: Sequence[Ended] = ()
    """The disruptions that have ended."""
    held: Mapping[str, float] = {}
    """The components whose deaths wait, and until when (observed seconds); not a copy.

    It is empty unless the mode is `hold`.
    """
    released: Sequence[str] = ()
    """The components that were in `held` before, are silent still, and may die now."""
