"""The guard: finds disrupted failure domains, and says whose deaths wait; see `hbtd.guard`."""

from collections import defaultdict
from collections.abc import Generator, Iterable
from functools import partial
from math import inf

from hbtd.guard.detection import AT_ONCE, Found, find_disrupted
from hbtd.guard.disruptions import (
    MISSED,
    Decisions,
    Disrupted,
    Disruption,
    Ended,
    EndReason,
    GuardMode,
    GuardSettings,
    SilentMember,
)
from hbtd.guard.domains import Domains, Size
from hbtd.guard.saved import load, save
from hbtd.guard.silences import Silences


class _Deciding:
    """What has been decided so far in one call."""

    def __init__(self) -> None:
        self.disrupted: list[Disrupted] = []
        self.ended: list[Ended] = []
        self.released: list[str] = []


class Guard(Silences):
    """Finds disrupted domains, and says whose deaths wait.

    After a start, or when a replica begins to lead, the caller calls `recount`, then `restore`.
    From then on it notes what becomes of components: `note_living`, `note_heard`, `note_dead`,
    `note_gone`. Before each sweep it notes the silent ones (`note_silent`) and calls `decide`; the
    sweep then judges nobody dead who is in `held`.

    Notes take O(1), and so does `decide` if nothing has been noted and nothing is due; otherwise it
    takes time for the silent components, some milliseconds for ten thousand.
    """

    def __init__(self, domains: Domains) -> None:
        """Make a guard that knows of nobody; `domains` counts the living for it."""
        super().__init__(domains)
        self._settings = GuardSettings(GuardMode.OFF)
        self._steady_since = self._known_since = -inf
        self._next = inf

    # Decisions

    def decide(
        self,
        now: float,
        settings: GuardSettings,
        steady_since: float,
        known_since: float = -inf,
    ) -> Decisions:
        """Return what has changed until `now`, and whose deaths wait.

        `steady_since` is the time since which hbtd has heard without a gap: the end of the latest
        gap of the observed clock, or the start. What was heard before `known_since`, the start, is
        known only roughly. `settings` may have changed since the last call.
        """
        steps = self.deciding(now, settings, steady_since, known_since)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                decisions: Decisions = end.value
                return decisions

    def deciding(
        self,
        now: float,
        settings: GuardSettings,
        steady_since: float,
        known_since: float = -inf,
    ) -> Generator[None, None, Decisions]:
        """Return what `decide` returns, in portions: this is a generator.

        It yields between portions of some milliseconds. Nothing else may be called until it has
        ended.
        """
        same = settings == self._settings and steady_since == self._steady_since
        if same and not self._stale and now < self._next:
            return Decisions(held=self.held)
        deciding = _Deciding()
        self._steady_since, self._known_since = steady_since, known_since
        if settings != self._settings:
            self._change_settings(settings, now, deciding)
        if settings.mode is GuardMode.OFF:
            self._release(self._active(), now, deciding)
            self._stale, self._next = False, inf
            return self._decisions(deciding)
        settled = steady_since + settings.patience
        self._end_due(now, deciding)
        yield from self._join(now)
        if now >= settled:
            for disruption in self._disruptions:
                disruption.unsure = False
            self._end_due(now, deciding)
        joined = yield from self._declare(now, settled)
        self._tell(now, deciding)
        self._expire(now, deciding)
        # Who did not count before, and is explained now, may make a larger domain disrupted.
        self._stale, self._next = joined, self._next_due(settled, now)
        return self._decisions(deciding)

    def release(self, domain: str | None, now: float) -> Decisions:
        """End the disruptions of a domain, or all if `domain` is `None`; hold its members no more.

        Only the domain of this name is released, not what is in it. If it is not disrupted, or
        released already, the decisions are empty but for who is held elsewhere.
        """
        deciding = _Deciding()
        found = [each for each in self._active() if domain is None or each.domain == domain]
        self._release(found, now, deciding)
        return self._decisions(deciding)

    def holds(self, xname: str, now: float) -> bool:
        """Return whether the death of a component waits at the time `now`."""
        return now < self._held.get(xname, -inf)

    # For the next process or leader

    def snapshot(self, now: float) -> list[dict[str, object]]:
        """Return the disruptions as a value for JSON, to be stored and given to `restore`.

        It has a few numbers for each disruption, and nothing for each component. Store it after
        each call that decides something, and once in a while: what passes between the snapshot and
        the end of this process is taken from no hold unless `restore` is told.
        """
        return [save(each, now) for each in self._disruptions]

    def restore(
        self,
        saved: object,
        now: float,
        known_since: float,
        elapsed: float = 0.0,
        then: float | None = None,
    ) -> None:
        """Continue the disruptions of a snapshot, in place of those of this guard.

        `elapsed` are the seconds that have passed since the snapshot, as far as they are known.
        `then` is the observed time at which it was made, if the observed clock has stood still
        since then; that makes no hold longer. What was heard before `known_since`, the start, is
        known only roughly. What is not valid in the snapshot is left out.

        Note who is silent before `decide` is called with a time one `warntime` after its
        `steady_since`, or later: whoever is not silent by then is taken to be back.
        """
        items = saved if isinstance(saved, list) else []
        counted = now - max(elapsed, 0.0)
        then = counted if then is None else then
        loaded = [load(each, then, known_since, counted) for each in items]
        self._disruptions = dict.fromkeys(each for each in loaded if each is not None)
        self._members = {x: member for x, member in self._members.items() if not member.dead}
        for member in self._members.values():
            member.disruption = member.first = None
        self._held.clear()
        # What was saved under other settings must not be held longer than these allow.
        self._settings = GuardSettings(GuardMode.OFF)
        self._stale = True

    # How it is decided

    def _decisions(self, deciding: _Deciding) -> Decisions:
        return Decisions(
            tuple(deciding.disrupted), tuple(deciding.ended), self.held, tuple(deciding.released)
        )

    def _change_settings(self, settings: GuardSettings, now: float, deciding: _Deciding) -> None:
        """Apply other settings; a hold that has begun may become shorter, but never longer."""
        self._settings = settings
        known = set(self._disruptions)
        known.update(each.first for each in self._members.values() if each.first is not None)
        known.update(part for each in [*known] for part in each.absorbed)
        for each in known:
            each.until = min(each.until, each.began + settings.hold)
        before = [*self._held]
        self._held.clear()
        for disruption in self._active():
            self._hold(disruption.away.values(), now)
        for member in self._members.values():
            member.new = True
        deciding.released += [xname for xname in before if xname not in self._held]

    def _hold(self, members: Iterable[SilentMember], now: float) -> None:
        """Have the deaths of members of a disruption that has not ended wait, if they may."""
        if self._settings.mode is GuardMode.HOLD:
            self._held.update(
                (member.xname, member.first.until)
                for member in members
                if not member.dead and member.first is not None and now < member.first.until
            )

    def _release(self, found: Iterable[Disruption], now: float, deciding: _Deciding) -> None:
        for disruption in found:
            self._end(disruption, EndReason.RELEASED, now, deciding)

    def _end_due(self, now: float, deciding: _Deciding) -> None:
        """End the disruptions whose members are back, or that have lasted as long as they may."""
        for disruption in self._active():
            if now >= disruption.until:
                self._end(disruption, EndReason.OVER, now, deciding)
            elif not disruption.away and not disruption.unsure:
                self._end(disruption, EndReason.BACK, now, deciding)
        # Whose silence began so long ago is dead or back, and will not be noted: twice, since the
        # tracker gives those who may not have been heard as long again.
        kept = 2 * self._settings.errtime
        self._disruptions = dict.fromkeys(
            each
            for each in self._disruptions
            if each.active or now <= max(each.latest, each.ended) + kept
        )

    def _end(
        self, disruption: Disruption, reason: EndReason, now: float, deciding: _Deciding
    ) -> None:
        """End a disruption, and tell of it first if that has not been done."""
        if not disruption.told:
            disruption.told = True
            deciding.disrupted.append(self._describe(disruption))
        kind, away = self._domains.kind(disruption.domain), len(disruption.away)
        deciding.ended.append(Ended(disruption.domain, kind, disruption.began, reason, away))
        for xname, member in disruption.away.items():
            if self._held.pop(xname, None) is not None:
                deciding.released.append(xname)
            if member.dead:
                del self._members[xname]
        if reason is EndReason.BACK:
            del self._disruptions[disruption]
        else:
            disruption.ended = now

    def _join(self, now: float) -> Generator[None, None, bool]:
        """Make unexplained silences those of disruptions that are known already.

        Return whether one of them has yet to be looked at.
        """
        joined = False
        if not self._disruptions:
            return joined
        known: dict[str, list[Disruption]] = defaultdict(list)
        for disruption in self._disruptions:
            known[disruption.domain].append(disruption)
        for number, member in enumerate(self._members.values(), 1):
            if number % AT_ONCE == 0:
                yield
            if member.disruption is None:
                found = [
                    each
                    for domain in member.domains
                    for each in known.get(domain, ())
                    if each.explains(member)
                ]
                if found:
                    disruption = min(found, key=partial(self._precedence, member))
                    disruption.take(member)
                    self._hold([member] if disruption.active else (), now)
                    joined = joined or member.new
        return joined

    def _precedence(self, member: SilentMember, each: Disruption) -> tuple[bool, Size]:
        """Return what the disruptions that explain a silence are compared by."""
        return member.since < each.start, self._domains.size(each.domain)

    def _declare(self, now: float, settled: float) -> Generator[None, None, bool]:
        """Find what is disrupted by the silences that are unexplained so far.

        Return what the last `_join` returns.
        """
        counted = [
            member
            for member in self._members.values()
            if not member.dead
            and (member.disruption is not None or now >= settled or now >= self._certain_at(member))
        ]
        settings, found = self._settings, True
        # What has been found may leave fewer components among whom others count.
        while found and any(member.disruption is None for member in counted):
            disrupted = yield from find_disrupted(
                counted, self._fewer, self._domains, settings.share, settings.errtime
            )
            for each in disrupted:
                yield from self._begin(each, now)
            found = bool(disrupted)
        for member in counted:
            member.new = False
        self._fewer.clear()
        yield
        return (yield from self._join(now))

    def _certain_at(self, member: SilentMember) -> float:
        """Return when a silence counts, before nodes have had the time to connect again.

        It counts at once if it has nothing to do with the last gap, or with the start. Otherwise it
        counts one period before its death is due: with a short `errtime` that may be before the
        time is over, and all that fell silent with it are counted then. Who had been warned about
        before the start dies one `warntime` after it, also if a gap follows that ends later.
        """
        due = member.since + self._settings.errtime
        if member.since < self._known_since:
            return due
        if self._steady_since - member.limit < member.since <= self._steady_since:
            return due - member.limit / MISSED
        return -inf

    def _begin(self, found: Found, now: float) -> Generator[None, None, None]:
        """Begin a disruption, which takes members from smaller ones."""
        settings = self._settings
        start = min(member.began for member in found.members)
        disruption = Disruption(
            found.domain,
            began=now,
            start=start,
            latest=start + settings.errtime,
            until=now + settings.hold,
        )
        period = max(member.limit for member in found.members) / MISSED
        disruption.tell_at = min(now + period, disruption.latest)
        taken_from = {member.disruption for member in found.members}
        smaller = [each for each in self._disruptions if each in taken_from]
        for each in smaller:
            disruption.absorbed += (each, *each.absorbed)
        for first in range(0, len(found.members), AT_ONCE):
            members = found.members[first : first + AT_ONCE]
            for member in members:
                disruption.take(member)
            self._hold(members, now)
            yield
        for each in smaller:
            self._absorb(each, disruption)
        self._disruptions[disruption] = None

    def _absorb(self, smaller: Disruption, larger: Disruption) -> None:
        """Make a disruption part of a larger one, if all its members that live are part of it."""
        if any(not member.dead for member in smaller.away.values()):
            return
        for member in [*smaller.away.values()]:
            larger.take(member)
        larger.includes += (*smaller.includes, *((smaller.domain,) if smaller.told else ()))
        del self._disruptions[smaller]

    def _tell(self, now: float, deciding: _Deciding) -> None:
        for disruption in self._active():
            if not disruption.told and not disruption.unsure and now >= disruption.tell_at:
                disruption.told = True
                deciding.disrupted.append(self._describe(disruption))

    def _expire(self, now: float, deciding: _Deciding) -> None:
        """Hold nobody longer than allowed whose disruption has become part of a later one."""
        over = [xname for xname, until in self._held.items() if until <= now]
        for xname in over:
            del self._held[xname]
        deciding.released += over

    def _next_due(self, settled: float, now: float) -> float:
        """Return the time at which something is due even if nothing is noted."""
        due = [*self._held.values()]
        for disruption in self._active():
            due.append(disruption.until)
            if not disruption.told:
                due.append(disruption.tell_at)
        if now < settled and (self._members or self._disruptions):
            due.append(settled)
            due += [at for at in map(self._certain_at, self._members.values()) if at > now]
        return min(due, default=inf)
