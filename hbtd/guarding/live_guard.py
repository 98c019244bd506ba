"""The guard of a running hbtd: says before each sweep whose deaths wait, and makes statements."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.guard.disruptions import Decisions, GuardMode, GuardSettings
from hbtd.guard.domains import DomainKind, Domains
from hbtd.guard.groups import Groups
from hbtd.guard.rules import Guard
from hbtd.guarding.sharing import Sharing
from hbtd.guarding.statements import Statement
from hbtd.guarding.turns import Steps, Turns
from hbtd.guarding.watching import Watcher
from hbtd.tracker.cohorts import Deadlines, Limits
from hbtd.tracker.components import Unheard
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase

LONG_GAP: Final = 2.0
"""The length of a gap of the observed clock, in seconds, after which nodes may have to connect."""

_LOOK_AGAIN: Final = 1.0
"""Observed seconds after which a long sweep has to look again at who is silent."""

_SHARE_EVERY: Final = 10.0
"""Seconds after which the state is written again while anything is disrupted."""

_PORTION: Final = 200

_NOBODY: Final[Mapping[str, Deadlines]] = {}


class LiveGuard:
    """Applies the guard to the tracker before each sweep of the leader.

    Other replicas know from the store what is disrupted (`sharing`), and hold nothing.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        observed: ObservedClock,
        tracker: Tracker,
        params: LiveParams,
        sharing: Sharing,
        groups: Groups,
        late: float = 0.0,
    ) -> None:
        """Make a guard of a replica that does not lead; `wall` returns the Unix time in seconds.

        `groups` are the operator's own failure domains. `late` is how many seconds late a heartbeat
        may be known here that another replica takes.
        """
        self._clock = clock
        self._wall = wall
        self._observed = observed
        self._tracker = tracker
        self._params = params
        self._sharing = sharing
        self._groups = groups
        self.late = late
        """How many seconds late a heartbeat may be known here that another replica takes."""
        self.domains = Domains(groups)
        """The failure domains; the leader counts the living components in each."""
        self.rules = Guard(self.domains)
        """The rules, and what they know; nothing unless this replica leads."""
        self._watcher = Watcher(clock, tracker, self.rules, late)
        self._counting: Deferred[None] | None = None
        self._began = 0.0
        self._looked_at: float | None = None
        self._shared_at = 0.0
        self._shared: object = None
        self._releasing: list[str] = []
        self._steps: Steps[Decisions] | None = None
        self._watching = False
        # Whether it is to be compared who is held here, and who is held by the rules.
        self._unsettled = False
        self.leading = False
        """Whether this replica leads, so that its rules apply."""
        self.stated: Counter[tuple[DomainKind, bool]] = Counter()
        """How many statements this replica has made as the leader, by kind and whether it ended."""
        sharing.on_statement(self._say)

    def begin(self) -> None:
        """Note that hbtd hears components from now on, and that older statements are known."""
        self._began = self._observed.now()
        self._sharing.begin()

    def lead(self) -> None:
        """Continue the disruptions that the previous leader or process has stored.

        Call this when this replica begins to lead, once its tracker has all components.
        """
        self._renew()
        self.leading = self._unsettled = True
        self._sharing.lead()
        disruptions, age = list(self._sharing.state.disruptions), self._sharing.age
        self._shared = None
        now, then = self._observed.now(), self._observed.shown(age)
        self.rules.restore(disruptions, now, self._began, age, then)
        if settings_of(self._params.current).mode is not GuardMode.OFF:
            self._watch()

    def follow(self) -> None:
        """Forget what the rules know, because another replica leads."""
        self.leading = False
        self._sharing.follow()
        self._renew()

    def _renew(self) -> None:
        self._watcher.end()
        self.domains = Domains(self._groups)
        self.rules = Guard(self.domains)
        self._watcher = Watcher(self._clock, self._tracker, self.rules, self.late)
        self._watching, self._counting, self._looked_at = False, None, None
        self._releasing, self._steps = [], None

    def _watch(self) -> None:
        """Begin to count the living; that takes a second or two for a million, in portions."""
        self._watching = True
        self._watcher.begin()
        counting = self._counting = Deferred.fromCoroutine(self._watcher.note_living())
        counting.addErrback(self._not_counted)
        counting.addCallback(lambda _: self._counted(counting))

    def _counted(self, counting: Deferred[None]) -> None:
        if self._counting is counting:
            self._counting = None

    def _not_counted(self, failure: Failure) -> None:
        self._log.failure(
            "The guard could not count the components because of a bug in hbtd.", failure
        )

    @property
    def group_count(self) -> int:
        """The number of the operator's own failure domains."""
        return len(self._groups)

    @property
    def steady_since(self) -> float:
        """The observed time since which hbtd has heard components without a long gap."""
        for gap in reversed(self._observed.gaps()):
            if gap.seconds >= LONG_GAP:
                return max(gap.observed, self._began)
        return self._began

    # Before a sweep

    async def prepare(
        self, at: float, unheard: Unheard, *, again: bool = False
    ) -> Mapping[str, Deadlines]:
        """Return the deadlines of components whose deaths wait, for a sweep at the observed time.

        `unheard` are the components that may have been heard without hbtd knowing. If a death is
        due, look first at who is silent; that takes turns of the reactor. Otherwise little is done.
        `again` says whether this is a further part of the same sweep: then a look of less than a
        second ago is enough.
        """
        if not self.leading:
            return _NOBODY
        params, rules, watcher = self._params.current, self.rules, self._watcher
        settings = settings_of(params)
        off = settings.mode is GuardMode.OFF
        if off and not self._watching and not rules.disruptions():
            return _NOBODY
        due = self._tracker.death_due(at, (params.warntime, params.errtime))
        if not off and not self._watching:
            self._watch()
        if self._counting is not None:
            if not due:
                return _NOBODY
            await _fired(self._counting)
        await watcher.note_living()
        await watcher.note_heard()
        look = self._look_due(at, due=due, again=again) and not off
        if look:
            self._looked_at = at
            await watcher.note_silent(at, params.warntime, params.errtime, unheard)
        if rules is not self.rules:
            return _NOBODY  # another replica leads now
        something = look or rules.silences() or rules.disruptions()
        if not (something or self._releasing or self._sharing.stale):
            return _NOBODY
        steps = self._steps = Steps(rules.deciding(at, settings, self.steady_since, self._began))
        decisions = await steps.run(Turns(self._clock))
        if rules is not self.rules:
            return _NOBODY
        if self._steps is steps:
            self._steps = None
            self._act(decisions, at)
        await self._release(at)
        if off and rules is self.rules:
            self._renew()
        return Held(rules.held, self._tracker, at, params.warntime)

    def _look_due(self, at: float, *, due: bool, again: bool) -> bool:
        """Return whether to look at who is silent; `due` says whether a death is due."""
        if self._unsettled or self.rules.unsure:
            return True
        lately = self._looked_at is not None and at - self._looked_at < _LOOK_AGAIN
        return due and not (again and lately)

    async def _release(self, at: float) -> None:
        """Have the tracker hold those no longer that the rules do not hold any more."""
        tracker, turns = self._tracker, Turns(self._clock)
        if self._unsettled:
            # Some may be held here from a time when this replica led before.
            self._unsettled = False
            for rule, components in tracker.judged():
                if isinstance(rule, Deadlines) and rule.held:
                    self._releasing += [
                        each.xname for each in components if each.xname not in self.rules.held
                    ]
        releasing, self._releasing = self._releasing, []
        async for portion in turns.over(releasing, _PORTION):
            tracker.release(portion, at)

    # What follows

    def release(self, domain: str | None) -> tuple[Sequence[str], int]:
        """End the disruptions of a domain, or all if `domain` is `None`; their deaths wait no more.

        Return the names of their domains, and how many components were held; HSM is told of those
        that are still silent with the next sweep. If the domain is not disrupted, or was released
        before, the result is empty. Call this only on the leader.
        """
        at, steps = self._observed.now(), self._steps
        if steps is not None:
            # What is being decided is stated first: one that is released must have begun.
            self._steps = None
            self._act(steps.finish(), at)
        decisions = self.rules.release(domain, at)
        self._act(decisions, at)
        return [each.domain for each in decisions.ended], len(decisions.released)

    def _act(self, decisions: Decisions, at: float) -> None:
        """Make statements of what was decided, and share what is disrupted now."""
        self._releasing += decisions.released
        statements, number = [], self._sharing.number
        hold = settings_of(self._params.current).mode is GuardMode.HOLD
        for found in decisions.disrupted:
            number += 1
            statements.append(
                Statement(
                    number,
                    self._wall(),
                    found.domain,
                    found.kind,
                    self.unix(found.began),
                    found.away,
                    found.living,
                    self.unix(found.start),
                    self.unix(found.until) if hold else None,
                    tuple(found.includes),
                )
            )
        for ended in decisions.ended:
            number += 1
            statements.append(
                Statement(
                    number,
                    self._wall(),
                    ended.domain,
                    ended.kind,
                    self.unix(ended.began),
                    ended.away,
                    ended=ended.reason,
                )
            )
        self._share(statements, at)

    def _share(self, statements: Sequence[Statement], at: float) -> None:
        """Write statements and disruptions if they have changed, or are to be written again."""
        disruptions = self.rules.disruptions()
        current = [(each.domain, each.began, each.until) for each in disruptions]
        now = self._clock.seconds()
        again = bool(disruptions) and now - self._shared_at >= _SHARE_EVERY
        if self._shared is None and not current and not self._sharing.state.disruptions:
            self._shared = current
        if not (statements or again or self._sharing.stale or current != self._shared):
            return
        self._shared, self._shared_at = current, now
        counts = {each.domain: (each.away, each.living) for each in disruptions}
        self._sharing.write(statements, self.rules.snapshot(at), counts)

    def _say(self, statement: Statement) -> None:
        if not self.leading:
            return  # the leader says it
        self.stated[statement.kind, statement.ended is not None] += 1
        level = self._log.warn if statement.ended is None else self._log.info
        level("{words}.", words=_capitalised(statement.in_words()) + _waiting(statement))

    def unix(self, observed: float) -> float:
        """Return the Unix time at which the observed time was or will be `observed`."""
        now = self._observed.now()
        if observed >= now:
            return self._wall() + (observed - now)
        return self._wall() - self._observed.seconds_ago(observed)


class Held(Mapping[str, Deadlines]):
    """The deadlines of those whose deaths wait, made when they are asked for."""

    def __init__(
        self, until: Mapping[str, float], tracker: Tracker, at: float, warntime: float
    ) -> None:
        """Make the deadlines at the observed time `at`; `until` says who is held, and until when.

        `warntime` is the parameter.
        """
        self._until = until
        self._tracker = tracker
        self._at = at
        self._warntime = warntime

    def __getitem__(self, xname: str) -> Deadlines:
        until = self._until[xname]
        if self._tracker.phase(xname) is Phase.WARNED:
            return Deadlines(until, until, held=True)
        # Only deaths are held: the warning is due as ever. Whole seconds make few cohorts.
        component, rule = self._tracker.component(xname), self._tracker.rule(xname)
        warntime = self._warntime
        if isinstance(rule, Limits) and rule.warntime is not None:
            warntime = rule.warntime
        since = self._at if component is None else component.last_heard
        return Deadlines(max(self._at, float(ceil(since + warntime))), until, held=True)

    def __iter__(self) -> Iterator[str]:
        return iter(self._until)

    def __len__(self) -> int:
        return len(self._until)


def settings_of(params: Params) -> GuardSettings:
    """Return the settings of the guard that the parameters say."""
    return GuardSettings(
        GuardMode(params.guard),
        params.guard_share,
        params.guard_seconds,
        params.warntime,
        params.errtime,
    )


def _fired(deferred: Deferred[None]) -> Deferred[None]:
    """Return a Deferred that fires when another one has fired, which may have other waiters."""
    waiter: Deferred[None] = Deferred()

    def fire(result: None) -> None:
        waiter.callback(None)
        return result

    deferred.addBoth(fire)
    return waiter


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _waiting(statement: Statement) -> str:
    if statement.until is None:
        return ""
    seconds = statement.until - statement.at
    return f". Their deaths wait for at most {seconds:.0f} s more (--guard=hold)"
