"""The rules of the guard once more, as plainly as possible: everybody is looked at each time.

`Reference` keeps no numbers and no times at which something is due: each decision begins with all
components, and each domain is found by going through all their names.
"""

from math import inf
from typing import NamedTuple

from hbtd.guard.disruptions import EndReason, GuardMode, GuardSettings
from hbtd.guard.domains import DomainKind

KINDS = [*DomainKind]


class Fallen:
    """A disruption."""

    def __init__(self, domain: str, began: float, start: float, latest: float, until: float):
        self.domain, self.began, self.until = domain, began, until
        self.start, self.latest, self.slack = start, latest, 0.0
        self.last, self.vague_last, self.vague_until = start, inf, -inf
        self.tell_at = began
        self.told = self.unsure = False
        self.includes: tuple[str, ...] = ()
        self.absorbed: list[Fallen] = []
        self.ended: float | None = None


class Quiet:
    """A silence."""

    def __init__(self, since: float, limit: float) -> None:
        self.since = self.began = since
        self.limit = limit
        self.by: Fallen | None = None
        self.first: Fallen | None = None
        self.dead = False
        self.new = True


class Said(NamedTuple):
    """What is decided, in an order that does not matter."""

    disrupted: list[tuple[str, float, float, float, int, int, tuple[str, ...]]]
    ended: list[tuple[str, float, EndReason, int]]
    held: dict[str, float]


class Reference:
    """All components, all silences, all disruptions, and no shortcuts."""

    def __init__(self, groups: dict[str, set[str]]) -> None:
        self.groups = groups
        self.living: set[str] = set()
        self.quiet: dict[str, Quiet] = {}
        self.fallen: list[Fallen] = []
        self.left: set[str] = set()
        """Who has ceased to be living since the last decision."""
        self.settings = GuardSettings(GuardMode.OFF)
        self.said = Said([], [], {})

    # What domains are

    def inside(self, domain: str, xname: str) -> bool:
        """Return whether a component is in a domain; names are x1c0s0b0n0, of one digit each."""
        if domain == "s0":
            return True
        if domain in self.groups:
            return any(xname == each or xname.startswith(each) for each in self.groups[domain])
        return xname.startswith(domain)

    def all_domains(self) -> set[str]:
        """Return all domains in which anybody is."""
        parts = {x[:end] for x in self.living | {*self.quiet} for end in (2, 4, 6)}
        return {"s0", *self.groups} | parts

    def size(self, domain: str) -> tuple[int, int, str]:
        """Return what domains are compared by."""
        kind = DomainKind.GROUP
        if domain == "s0":
            kind = DomainKind.SYSTEM
        elif domain not in self.groups:
            kind = {6: DomainKind.SLOT, 4: DomainKind.CHASSIS, 2: DomainKind.CABINET}[len(domain)]
        return sum(self.inside(domain, x) for x in self.living), KINDS.index(kind), domain

    # Notes

    def heard(self, xname: str) -> None:
        """Note that a component was heard, or has left."""
        self.quiet.pop(xname, None)

    def silent(self, xname: str, since: float, limit: float) -> None:
        """Note a silence."""
        if xname not in self.quiet or self.quiet[xname].since != since:
            self.quiet[xname] = Quiet(since, limit)

    def leaves(self, xname: str) -> None:
        """Note that a component is living no more, or does not count."""
        if xname in self.living:
            self.living.remove(xname)
            if self.quiet:
                self.left.add(xname)

    def died(self, xname: str) -> None:
        """Note a death."""
        self.leaves(xname)
        quiet = self.quiet.get(xname)
        if quiet is not None:
            quiet.dead = True
            if quiet.by is None or quiet.by.ended is not None:
                del self.quiet[xname]

    # Decisions

    def active(self) -> list[Fallen]:
        """Return the disruptions that last."""
        return [each for each in self.fallen if each.ended is None]

    def away(self, fallen: Fallen) -> list[str]:
        """Return the members that are not back."""
        return [x for x, quiet in self.quiet.items() if quiet.by is fallen]

    def decide(self, now: float, settings: GuardSettings, steady_since: float) -> Said:
        """Decide everything anew."""
        self.said = Said([], [], {})
        if settings != self.settings:
            for quiet in self.quiet.values():
                quiet.new = True
        self.settings = settings
        everything = [part for each in self.fallen for part in (each, *each.absorbed)]
        everything += [quiet.first for quiet in self.quiet.values() if quiet.first is not None]
        for each in everything:
            each.until = min(each.until, each.began + settings.hold)
        if settings.mode is GuardMode.OFF:
            self.release(None, now)
            return self.said
        settled = steady_since + min(settings.warntime, settings.errtime)
        self.end(now)
        self.fallen = [
            each
            for each in self.fallen
            if each.ended is None or now <= max(each.latest, each.ended) + 2 * settings.errtime
        ]
        self.join()
        if now >= settled:
            for each in self.fallen:
                each.unsure = False
            self.end(now)
        counted = {
            x: quiet
            for x, quiet in self.quiet.items()
            if not quiet.dead
            and (
                quiet.by
                or quiet.since > steady_since
                or quiet.since + quiet.limit <= steady_since
                or now >= quiet.since + settings.errtime - quiet.limit / 2
                or now >= settled
            )
        }
        while found := self.find(counted):
            for domain, members in found:
                self.begin(domain, members, now)
        for quiet in counted.values():
            quiet.new = False
        self.left.clear()
        self.join()
        for each in self.active():
            if not each.told and not each.unsure and now >= each.tell_at:
                self.tell(each)
        self.hold(now)
        return self.said

    def hold(self, now: float) -> None:
        """Find whose deaths wait."""
        if self.settings.mode is not GuardMode.HOLD:
            return
        for xname, quiet in self.quiet.items():
            lasts = quiet.by is not None and quiet.by.ended is None and not quiet.dead
            if lasts and quiet.first and now < quiet.first.until:
                self.said.held[xname] = quiet.first.until

    def release(self, domain: str | None, now: float) -> Said:
        """Release a domain."""
        for each in self.active():
            if domain is None or each.domain == domain:
                self.stop(each, EndReason.RELEASED, now)
        self.hold(now)
        return self.said

    def tell(self, fallen: Fallen) -> None:
        """Say that a domain is disrupted."""
        fallen.told = True
        away, living = len(self.away(fallen)), self.size(fallen.domain)[0]
        times = fallen.began, fallen.start, fallen.until
        self.said.disrupted.append((fallen.domain, *times, away, living, fallen.includes))

    def stop(self, fallen: Fallen, reason: EndReason, now: float) -> None:
        """End a disruption."""
        if not fallen.told:
            self.tell(fallen)
        away = self.away(fallen)
        self.said.ended.append((fallen.domain, fallen.began, reason, len(away)))
        fallen.ended = now
        for xname in away:
            if self.quiet[xname].dead:
                del self.quiet[xname]
        if reason is EndReason.BACK:
            self.fallen.remove(fallen)

    def end(self, now: float) -> None:
        """End what is over."""
        for each in self.active():
            if now >= each.until:
                self.stop(each, EndReason.OVER, now)
            elif not self.away(each) and not each.unsure:
                self.stop(each, EndReason.BACK, now)

    def is_of(self, xname: str, quiet: Quiet, fallen: Fallen) -> bool:
        """Return whether a silence is of a disruption, by place and time."""
        earliest = fallen.start - fallen.slack
        return earliest <= quiet.since <= fallen.latest and self.inside(fallen.domain, xname)

    def join(self) -> None:
        """Make silences those of known disruptions."""
        for xname, quiet in self.quiet.items():
            found = [each for each in self.fallen if self.is_of(xname, quiet, each)]
            if quiet.by is None and found:
                smallest = min(
                    found, key=lambda each: (quiet.since < each.start, self.size(each.domain))
                )
                self.take(quiet, smallest)
                parts = [each for each in smallest.absorbed if self.is_of(xname, quiet, each)]
                quiet.first = min((smallest, *parts), key=lambda each: each.until)

    def take(self, quiet: Quiet, fallen: Fallen) -> None:
        """Make a silence one of a disruption."""
        if quiet.since <= fallen.vague_until:
            quiet.began = min(quiet.began, fallen.vague_last)
        else:
            fallen.last = max(fallen.last, quiet.began)
        quiet.by = fallen

    def meets(self, count: int, among: int) -> bool:
        """Return whether so many are a disruption."""
        return count > 2 and count * 100 >= self.settings.share * max(among, count)

    def view(self, domain: str, counted: dict[str, Quiet], taken: set[str]) -> tuple[set[str], int]:
        """Return who counts in a domain, and among how many."""
        here = {x: quiet for x, quiet in counted.items() if self.inside(domain, x)}
        usable = {
            x
            for x, quiet in here.items()
            if x not in taken
            and (
                quiet.by is None
                or (quiet.by.ended is None and self.size(quiet.by.domain) < self.size(domain))
            )
        }
        best: set[str] = set()
        for first in sorted(here[x].began for x in usable):
            within = {x for x in usable if first <= here[x].began <= first + self.settings.errtime}
            if len(within) > len(best):
                best = within
        explained = [x for x in here if (here[x].by or x in taken) and x not in best]
        return best, self.size(domain)[0] - len(explained)

    def find(self, counted: dict[str, Quiet]) -> list[tuple[str, set[str]]]:
        """Return the domains that are disrupted, the largest first, and their members."""
        found: list[tuple[str, set[str]]] = []
        taken: set[str] = set()
        domains = sorted(self.all_domains(), key=self.size, reverse=True)
        for index, domain in enumerate(domains):
            worse = self.left | {x for x, quiet in counted.items() if quiet.new}
            if not any(self.inside(domain, x) for x in worse):
                continue
            members, among = self.view(domain, counted, taken)
            if not self.meets(len(members), among) or all(counted[x].by for x in members):
                continue
            for smaller in domains[index + 1 :]:
                within = sum(self.inside(smaller, x) for x in members)
                if within < len(members) * 0.75:
                    continue
                if self.meets(len(members) - within, among - within):
                    continue
                there, others = self.view(smaller, counted, taken)
                if self.meets(len(there), others):
                    break
                if any(
                    quiet.by and quiet.by.ended is None and quiet.by.domain == smaller
                    for x, quiet in counted.items()
                    if x not in taken
                ):
                    break
            else:
                found.append((domain, members))
                taken |= members
        return found

    def begin(self, domain: str, names: set[str], now: float) -> None:
        """Begin a disruption."""
        members = [self.quiet[x] for x in names]
        start = min(quiet.began for quiet in members)
        latest = start + self.settings.errtime
        fallen = Fallen(domain, now, start, latest, now + self.settings.hold)
        fallen.tell_at = min(now + max(quiet.limit for quiet in members) / 2, latest)
        smaller = [each for each in self.fallen if any(quiet.by is each for quiet in members)]
        for each in smaller:
            fallen.absorbed += (each, *each.absorbed)
        for quiet in members:
            quiet.first = quiet.first or fallen
            self.take(quiet, fallen)
        for each in smaller:
            rest = [self.quiet[x] for x in self.away(each)]
            if all(quiet.dead for quiet in rest):
                for quiet in rest:
                    self.take(quiet, fallen)
                self.fallen.remove(each)
                told = (each.domain,) if each.told else ()
                fallen.includes += (*each.includes, *told)
        self.fallen.append(fallen)

    def reborn(self, shift: float, steady_since: float) -> None:
        """Continue in another process, whose clock shows `shift` more, and which knows nobody."""
        self.quiet.clear()
        self.left.clear()
        for each in {part for whole in self.fallen for part in (whole, *whole.absorbed)}:
            each.slack = each.latest - each.start
            each.began, each.start = each.began + shift, each.start + shift
            each.until, each.tell_at = each.until + shift, each.began
            each.latest = max(each.latest + shift, steady_since)
            each.last = each.vague_last = each.last + shift
            each.vague_until = steady_since
            each.ended = None if each.ended is None else each.ended + shift
        for each in self.active():
            each.unsure = True
