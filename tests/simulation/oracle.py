"""The oracle: what may be said of a component, and what must, by what truly happened alone.

It shares no code with hbtd. It knows when heartbeats were answered, when nodes died, and when hbtd
and HSM could work; not what hbtd has read, thought or written.
"""

from bisect import bisect_right
from enum import Enum
from itertools import pairwise

from tests.simulation.rules import Rule, Rules

STORED = 1.5
"""Seconds within which a heartbeat is stored, so that not even a kill of hbtd loses it."""


class Promise(Enum):
    """What hbtd promises, in the words of `docs/guarantees.md`."""

    NO_FALSE_WORD = "Nobody who beats is told dead, or warned about"
    HEARD = "Nobody is told of who was never heard"
    NO_FALSE_RETURN = "Nobody who is dead is told back"
    EVERY_DEATH = "Every death is told in time"
    ORDER = "The words about a component are in order"
    ONE_JUDGE = "One replica at a time tells HSM"
    REST = "At rest HSM knows the truth"
    TABLE = "What others write in HSM's table is put right"
    PUBLISHED_TRUTH = "Kafka is told nothing that is not so"
    PUBLISHED_ORDER = "Kafka is told about a component in order"
    PUBLISHED = "Kafka is told of each change"
    BOUNDED = "Nothing grows without bound"
    NO_BUG = "Nothing fails unexpectedly"


SLACK = 0.5
"""Seconds by which a silence may seem longer to hbtd: a message on its way, a tick of its clock."""

CALM = 20.0
"""Seconds after which nothing that was sent before is on its way."""

DOUBT = 30.0
"""Seconds for which hbtd doubts what has become of an update: three times `Sm_timeout`."""

CONTESTED = 3
"""How often others may write a row of HSM's table until it is left to them."""

AGAIN = 7
"""How often the same is told of a component again: three tellings a day, and doubts of HSM's."""

_JUST = 1.0
"""Seconds from the start of a process within which it tells HSM what waits."""

RESUMED = 5.0
"""Seconds in which hbtd reads what comes late, and tells HSM of that."""

LATE = 12.0
"""Seconds, besides those of the rules, within which HSM must be told: commits, probes, retries."""

_LONG_ANSWER = 0.25
"""Seconds that an answer may take without being taken for a late one."""

_FIRST_RETRY = 5.0
"""Seconds until hbtd tries again first what it has set aside."""

_ROUNDING = 1e-6
"""Seconds by which sums of times may be wrong."""

_ALARMS = ("ready/warning", "standby/alert")
_WORDS = ("ready/ok", *_ALARMS)


class Timeline:
    """When something was the case, and how long in all."""

    def __init__(self) -> None:
        self._times = [0.0]
        self._values = [False]
        self._sums = [0.0]

    def set(self, now: float, value: bool) -> None:
        """Note that from now on it is the case, or not."""
        if value == self._values[-1]:
            return
        self._sums.append(self.until(now))
        self._times.append(now)
        self._values.append(value)

    def until(self, time: float) -> float:
        """Return for how many seconds it was the case, up to a time; none before the beginning."""
        i = max(bisect_right(self._times, time) - 1, 0)
        return self._sums[i] + (time - self._times[i] if self._values[i] else 0.0)

    def within(self, begin: float, end: float) -> float:
        """Return for how many seconds it was the case between two times."""
        return self.until(end) - self.until(begin)

    def throughout(self, begin: float, end: float) -> bool:
        """Return whether it was the case all the time between two times."""
        return self.within(begin, end) >= end - max(begin, 0.0) - _ROUNDING

    def begun(self, begin: float, end: float) -> int:
        """Return how often it began to be the case between two times."""
        return sum(
            value and begin < time <= end
            for time, value in zip(self._times, self._values, strict=True)
        )


class Violation(AssertionError):
    """A promise was broken."""

    def __init__(self, promise: Promise, text: str) -> None:
        super().__init__(text)
        self.promise = promise


class Component:
    """What truly happened to a component, and what HSM was told of it."""

    def __init__(self) -> None:
        self.answered: list[float] = []
        """When heartbeats were answered, since HSM was told of the last change before."""
        self.seen = False
        """Whether any heartbeat was answered, and not all was lost since."""
        self.known = False
        """Whether hbtd knows of it: it has stored a heartbeat, or what it has told HSM."""
        self.lost: float | None = None
        """When the last heartbeat was answered that may be lost, with all that were before it."""
        self.died: float | None = None
        self.silent_from = 0.0
        """When it was heard last, if it has died."""
        self.told = ""
        self.history: list[float] = []
        """All times at which heartbeats were answered, as far as they are not lost."""
        self.sent: dict[float, float] = {}
        """When heartbeats were sent whose answers took long, by when these came."""
        self.original_at: float | None = None
        """When an original hbtd has judged it last, or told HSM of it."""
        self.original_words = 0
        """How often an original has told HSM of it since hbtd has told something new."""
        self.outdated = False
        """Whether the last word was sent so long ago that hbtd doubts no more what came of it."""
        self.known_dead: float | None = None
        """When HSM was told of a death that had truly been one, for as long as the rules ask."""
        self.retried_within = 0.0
        """Seconds within which hbtd tries again what HSM has refused of it for some time."""
        self.came_late = float("-inf")
        """When HSM was told last what had been sent at another time, and was lost on its way."""
        self.may_return_until = 0.0
        """Until when a heartbeat may be read that was sent before the death."""

    def note_sent(self, answered: float, sent: float) -> None:
        """Note when a heartbeat was sent, if its answer took long."""
        if answered - sent > _LONG_ANSWER:
            self.sent[answered] = sent


def _limit(rule: Rule, word: str) -> int:
    """Return the silence, in seconds, for which a rule asks before HSM is told an alarm."""
    return rule.warntime if word == "ready/warning" else rule.errtime


class Oracle:
    """Checks each thing that HSM is told, and that it is told of each death."""

    slack = SLACK

    def __init__(self, warntime: int, errtime: int, interval: int) -> None:
        self.rules = Rules(Rule(warntime, errtime, interval))
        """The rules that hbtd may go by."""
        self._components: dict[str, Component] = {}
        self.compared = False
        """Whether HSM's table is compared."""
        self.hears = Timeline()
        """When hbtd ran."""
        self.works = Timeline()
        """When hbtd ran, and HSM answered it."""
        self.stores = Timeline()
        """When hbtd ran, and its store could be written."""

    def _get(self, name: str) -> Component:
        return self._components.setdefault(name, Component())

    def answered(self, name: str, now: float, sent: float | None = None) -> None:
        """Note that a heartbeat was answered, which was sent at another time, if that is given."""
        component = self._get(name)
        component.note_sent(now, now if sent is None else sent)
        component.seen = component.known = True
        component.answered.append(now)
        component.history.append(now)
        component.died = None

    def refused(self, name: str, seconds: float) -> None:
        """Note that HSM has refused each update of a component for some time, and does no more.

        hbtd sets it aside, and tries again after 5 s, and then after pauses that double: the next
        one is at most 5 s longer than all before it.
        """
        self._get(name).retried_within = seconds + _FIRST_RETRY

    def lost(self, now: float, seconds: float = STORED) -> None:
        """Note that hbtd is killed, and so loses what it has heard and not stored.

        Nothing is stored in less than some seconds in which hbtd ran and its store could be
        written.
        """

        def stored(time: float) -> bool:
            return self.stores.within(time, now) >= seconds

        for component in self._components.values():
            kept = list(filter(stored, component.answered))
            if component.answered and not kept:
                component.lost = component.answered[-1]
            component.answered = kept
            # What was told was stored before that.
            component.known = bool(kept or component.told)
            component.history = list(filter(stored, component.history))

    def lost_all(self) -> None:
        """Note that all that hbtd knew of components is lost, in memory and in the store."""
        for component in self._components.values():
            component.answered = []
            component.seen = component.known = False

    def died(self, name: str, now: float) -> None:
        """Note that a node has lost its power, or its agent was killed."""
        component = self._get(name)
        if component.seen:
            component.died = now
            component.silent_from = self._heard_last(component, now)

    def booted(self, name: str) -> None:
        """Note that a node begins to beat."""
        component = self._get(name)
        component.died, component.known_dead = None, None

    def resumed(self, now: float, paused_at: float) -> None:
        """Note that hbtd goes on; what was sent to it while it was stopped is read now."""
        for component in self._components.values():
            if component.died is not None and component.died >= paused_at:
                component.may_return_until = now + RESUMED

    def late(self, name: str, now: float) -> None:
        """Note that hbtd gets what was lost of a node's heartbeats: its host has sent it again."""
        component = self._get(name)
        if component.died is not None:
            # For hbtd it has died only now.
            component.died = component.silent_from = now
            component.may_return_until = now + RESUMED

    def told(self, name: str, state: str, flag: str, now: float, sent: float | None = None) -> None:
        """HSM was sent news of a component; raise `Violation` if that was not true then.

        It may have been sent at another time before, and have been lost then.
        """
        component = self._get(name)
        word = f"{state}/{flag}".lower()
        sent = now if sent is None else sent
        if word not in _WORDS:
            raise Violation(Promise.NO_FALSE_WORD, f"{name} is said to be {word}")
        if not component.seen:
            raise Violation(
                Promise.HEARD, f"{name} is said to be {word}, but no heartbeat of it was answered"
            )
        if word in _ALARMS and not self._on_its_way(component, word, now):
            self._check_alarm(name, component, word, (now, sent))
        self._check_order(name, component, word, min(now, sent))
        component.told, component.lost, component.known = word, None, True
        component.retried_within = 0.0
        if now - sent > SLACK:
            component.came_late = now
        component.outdated = now - sent > DOUBT and not self.compared
        before = [time for time in component.answered if time <= now]
        component.answered = component.answered[max(len(before) - 1, 0) :]

    def _check_alarm(
        self, name: str, component: Component, word: str, times: tuple[float, float]
    ) -> None:
        """Raise `Violation` if an alarm was not true at either of some times."""
        self._check_reasons(name, word, [(component.answered, at) for at in times])

    def _check_reasons(self, name: str, word: str, heard: list[tuple[list[float], float]]) -> None:
        reasons = [self._best_reason(name, answered, word, at) for answered, at in heard]
        silence, limit = max(reasons, key=lambda reason: reason[0] - reason[1])
        if silence < limit - self.slack:
            raise Violation(
                Promise.NO_FALSE_WORD,
                f"{name} is said to be {word}, but in the time in which hbtd could hear it was"
                f" silent for {silence:.3f} s at most, of {limit:g} s",
            )

    def _heard_last(self, component: Component, now: float) -> float:
        """Return when a component was heard last that dies now."""
        return component.history[-1] if component.history else now

    def _check_order(self, name: str, component: Component, word: str, now: float) -> None:
        if word == "standby/alert":
            died, since = component.died, component.silent_from
            lasts = (
                died is not None and died < now and now - since >= self._most("errtime", since, now)
            )
            component.known_dead = now if lasts else None
        elif word == "ready/ok" and component.known_dead is not None and component.told != word:
            if now < max(component.known_dead, component.may_return_until):
                return  # it was sent before, and HSM has taken long over it, or see `resumed`
            raise Violation(
                Promise.NO_FALSE_RETURN,
                f"{name} is said to be back, but it died at {component.died:.1f}, HSM knew, and it"
                " has not beaten since",
            )
        elif word == "ready/warning" and component.told == "standby/alert" and self.calm(now):
            if now - component.came_late <= DOUBT:
                return  # what HSM knows may be older than what it was told before
            raise Violation(
                Promise.ORDER, f"{name} is warned about after its death, without a return between"
            )

    def was_heard(self, name: str) -> bool:
        """Return whether heartbeats of a component were answered, and are not forgotten."""
        return self._get(name).known

    def silence_since(self, name: str, begin: float, end: float) -> float:
        """Return the longest silence of a component between two times.

        A heartbeat that was sent at the first of them was heard then, though it may not have been
        answered. Answers to earlier ones may come after it, so the first silence may not be the one
        that followed it.
        """
        sent = self._get(name).sent
        heard = (time for time in self._get(name).history if begin < time <= end)
        return max(self.hears.within(sent.get(a, a), b) for a, b in pairwise([begin, *heard, end]))

    def deaf(self, begin: float, end: float) -> float:
        """Return for how many seconds between two times silence does not count."""
        return max(end - begin - self.hears.within(begin, end), 0.0)

    def calm(self, now: float) -> bool:
        """Return whether nothing that was sent before can be on its way."""
        return self.works.throughout(now - CALM, now)

    def _best_reason(
        self, name: str, answered: list[float], word: str, now: float
    ) -> tuple[float, int]:
        """Return the silence that comes closest to a rule that asks for it, and what that asks.

        A silence that is over counts only while news of it may still be on its way. A heartbeat
        whose answer took long may have been heard at any time before that, from when it was sent.
        """
        sent = self._get(name).sent
        # A heartbeat may have been heard whose answer is still on its way, never the reverse.
        times = [*(time for time in answered if time <= now), now]
        gaps = [
            (begin, end)
            for begin, end in pairwise(times)
            if end == now or self.works.within(end, now) <= LATE
        ] or [(float("-inf"), now)]
        reasons = [
            (
                self.hears.within(sent.get(begin, begin), min(end, period.end))
                if len(times) > 1
                else float("inf"),
                limit,
            )
            for begin, end in gaps
            for period in self.rules.between(begin, end)
            for limit in [_limit(period.rule, word)]
        ]
        return max(reasons, key=lambda reason: reason[0] - reason[1])

    def _on_its_way(self, component: Component, word: str, now: float) -> bool:
        """Return whether HSM is told of a former silence, and the component is just back.

        Who does not know whether HSM has been told, as a store that could not be written did not
        keep it, tells it again. So does who has lost what was heard before a silence, but not the
        judgement. Such words may be on their way when the first heartbeat comes.
        """
        first = min((time for time in component.answered if time <= now), default=now)
        judged = False
        if component.lost is not None:
            periods = self.rules.between(component.lost, now)
            least = min(_limit(period.rule, word) for period in periods)
            judged = self.hears.within(component.lost, first) >= least - self.slack
        return (component.told == word or judged) and first > now - self.slack

    def _most(self, name: str, begin: float, end: float) -> int:
        """Return the most that a rule has asked for which was in force between two times."""
        return max(int(getattr(period.rule, name)) for period in self.rules.between(begin, end))

    def check_deaths(self, now: float) -> None:
        """Raise `Violation` if HSM should have been told of a death by now, and was not."""
        for name, component in self._components.items():
            if component.died is None or component.told == "standby/alert":
                continue
            if not component.known:
                continue
            worked = self.works.within(component.died, now)
            bound = self._bound(component.died, now) + self._settling(component.died, now)
            bound += self._misled(component) + component.retried_within
            if worked > bound:
                raise Violation(
                    Promise.EVERY_DEATH,
                    f"{name} died at {component.died:.1f}; HSM knows {component.told or 'nothing'}"
                    f" after {worked:.1f} s in which all worked ({bound:g} s are allowed)",
                )

    def _bound(self, begin: float, end: float) -> float:
        # A change of the rules begins the interval anew.
        sweeps = 1 + sum(period.begin > begin for period in self.rules.between(begin, end))
        most = self._most
        return most("errtime", begin, end) + sweeps * most("interval", begin, end) + LATE

    def _misled(self, component: Component) -> float:
        # Nobody else judges here.
        return 0.0

    def _settling(self, begin: float, end: float) -> float:
        # After each pause of its own hbtd waits for its nodes, Warntime at most.
        patience = self._most("warntime", begin, end)
        return patience * self.hears.begun(begin - patience, end)

    def check_size(self, what: str, size: int, most: int) -> None:
        """Raise `Violation` if there is too much of something when all is at rest."""
        if size > most:
            raise Violation(Promise.BOUNDED, f"{size} {what} at rest, of {most} at most")

    def check_rest(self, alive: dict[str, bool]) -> None:
        """Raise `Violation` unless HSM's last words are the truth."""
        for name, lives in alive.items():
            component = self._get(name)
            if not component.known or component.outdated:
                continue
            wanted = "ready/ok" if lives else "standby/alert"
            if component.told != wanted:
                raise Violation(
                    Promise.REST,
                    f"{name} at rest is {component.told or 'unknown'} in HSM, not {wanted}",
                )

    def check_rules(self, followed: dict[str, Rule]) -> None:
        """Raise `Violation` unless every hbtd goes by the same rule at rest, and may do so.

        `followed` has the rule of each by name. Of several changes at once one may have made one
        value, and one another.
        """
        possible = self.rules.possible
        fits = all(
            value in values
            for rule in followed.values()
            for value, values in zip(rule, zip(*possible, strict=True), strict=True)
        )
        if not fits or len(set(followed.values())) > 1:
            said = ", ".join(f"{name} goes by {rule}" for name, rule in followed.items())
            wanted = " or ".join(map(str, possible))
            raise Violation(Promise.NO_FALSE_WORD, f"{said} at rest; in force is {wanted}")

    def word(self, name: str) -> str:
        """Return what HSM was told of a component last, in small letters."""
        return self._get(name).told

    def may_repeat(self, name: str, now: float) -> bool:
        """Return whether the same may be told of a component again for another reason than others.

        An hbtd that has just begun tells what the one before was not sure of. And a component that
        was silent for Warntime has returned, though a warning may not have reached HSM.
        """
        component = self._get(name)
        silence, warntime = self._best_reason(name, component.answered, "ready/warning", now)
        # Who is silent, and has not been heard since that was told, is no news.
        returned = component.told == "ready/ok" or len(component.answered) > 1
        news = returned and silence >= warntime - SLACK
        return news or self.hears.begun(now - _JUST, now) > 0

    def check_again(self, name: str, times: int) -> None:
        """Raise `Violation` if HSM was told the same of a component again and again."""
        if times > AGAIN:
            raise Violation(
                Promise.TABLE,
                f"HSM was told {times} times again that {name} is {self.word(name)}",
            )

    def check_row(self, name: str, said: str, lives: bool) -> None:
        """Raise `Violation` unless what HSM's table says of a component at rest is the truth."""
        component = self._get(name)
        if not component.known or component.outdated:
            return
        right = ("ready/ok",) if lives else ("standby/alert", "off/ok")
        if said.lower() not in right:
            raise Violation(
                Promise.TABLE, f"{name} at rest is {said} in HSM's table, not {right[0]}"
            )
