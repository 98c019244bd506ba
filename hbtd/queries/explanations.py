"""Explains why a component is in its state, in words."""

from collections.abc import Awaitable, Callable, Sequence
from math import inf

from hbtd.formats.times import clock_time, format_time
from hbtd.formats.xnames import type_of_valid
from hbtd.hsm.second_signal import Expected, SecondSignal
from hbtd.monitor import Monitor
from hbtd.queries.components import Facts
from hbtd.queries.flapping import FlapWatch
from hbtd.queries.hindrances import during, not_judged, show, why_unread
from hbtd.store.past import LogEntry
from hbtd.tracker.cohorts import Deadlines
from hbtd.tracker.components import Component
from hbtd.tracker.hindrances import Hindrance
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase

_NOTABLE = 0.5
"""Seconds that don't count as silence from which on it is worth a sentence."""


class Explainer:
    """Explains why a component is in its state, and lists its latest transitions."""

    def __init__(
        self,
        tracker: Tracker,
        monitor: Monitor,
        facts: Facts,
        recent: Callable[[str, int], Awaitable[Sequence[LogEntry]]],
        hindrances: Callable[[], Sequence[Hindrance]],
        second_signal: SecondSignal,
        wall: Callable[[], float],
        marks: FlapWatch,
        threshold: Callable[[str], str | None] = lambda _: None,
        maintenance: Callable[[str], str] = lambda _: "",
        guard: Callable[[str], str] = lambda _: "",
    ) -> None:
        """Make an object that explains the states of the components in `tracker`.

        `recent(xname, most)` returns the latest entries about `xname` in the log of transitions,
        newest first: at most `most` entries. `hindrances` returns what has hindered hbtd, in
        the order of `Hindrances.all`, and `wall` the Unix time in seconds. `second_signal` knows
        what HSM's table says. `marks` says which components are flapping. `threshold(xname)`
        returns what the threshold that applies to `xname` matches, or `None` if none applies.
        `maintenance(xname)` returns a sentence about the maintenance that a component is in, an
        empty text if it is in none. `guard(xname)` returns one on the disruption that explains the
        silence of `xname`, an empty text if there is none.
        """
        self._tracker = tracker
        self._monitor = monitor
        self._facts = facts
        self._recent = recent
        self._hindrances = hindrances
        self._second_signal = second_signal
        self._wall = wall
        self._marks = marks
        self._threshold = threshold
        self._maintenance = maintenance
        self._guard = guard

    async def explain(self, xname: str, most: int) -> dict[str, object] | None:
        """Return a description of a component, the reason for its state, and its last transitions.

        There are at most `most` transitions. Return `None` if the component is not tracked, the log
        has nothing about it, and it is no node that is expected because of HSM's table.
        """
        entries = await self._recent(xname, most)
        found = self._facts.describe(xname)
        component = self._tracker.component(xname)
        if found is None and not entries and self._second_signal.expected(xname) is None:
            return None
        if found is None or component is None:
            found = {"XName": xname, "Type": type_of_valid(xname), "State": Phase.UNKNOWN.value}
        return {
            **found,
            "Why": self._why(xname, component),
            "Transitions": [show_entry(entry) for entry in entries],
        }

    def _why(self, xname: str, component: Component | None) -> dict[str, object]:
        limits = self._monitor.limits
        warntime, errtime = self._limits(xname)
        met = self._hindrances_met(xname, component)
        sentences = (self._sentence(xname, component), self._maintenance(xname))
        why: dict[str, object] = {
            "Text": " ".join(filter(None, sentences))
            + self._uncounted(component, met)
            + self._off(xname, component)
            + self._guard(xname),
            "Warntime": warntime,
            "Errtime": errtime,
            "MeanPeriod": None,
            "Deviation": None,
            "LongestGap": None,
            "Delay": None,
            "Hindrances": [show(each) for each in met],
        }
        if component is not None and component.mean > 0:
            why["MeanPeriod"] = round(component.mean, 3)
            why["Deviation"] = round(component.deviation, 3)
            why["LongestGap"] = round(component.longest, 3)
        if component is not None and self._monitor.judged_later(xname, component):
            delay = (
                "Heartbeats of this component may have arrived and not been read yet, so it is"
                f" judged Errtime ({limits.errtime} s) later."
            )
            unread = why_unread(self._hindrances(), self._wall())
            why["Delay"] = f"{delay} {unread}".rstrip()
        threshold = self._threshold(xname)
        if threshold is not None:
            why["Threshold"] = threshold
        if component is not None:
            self._add_starting(why, xname, component)
            self._add_flapping(why, xname)
        return why

    def _add_starting(self, why: dict[str, object], xname: str, component: Component) -> None:
        """Add to `why`, of a dead component, after how many heartbeats it is started.

        Nothing is added if its next heartbeat starts it.
        """
        progress = self._tracker.starting(xname, self._monitor.now())
        if progress is None:
            return
        counted, needed = progress
        why["Starting"] = {"Heartbeats": counted, "Needed": needed}
        if not counted:
            why["Text"] = (
                f"{why['Text']} It is started after {needed} heartbeats in time (Start_beats)."
            )
            return
        why["Text"] = (
            f"Dead, and heard {self._monitor.silence(component):.1f} s ago: it is started after"
            f" {needed} heartbeats in time (Start_beats), and has sent {counted}; the next one"
            f" counts if it comes within Warntime ({why['Warntime']} s) of the last."
        )

    def _add_flapping(self, why: dict[str, object], xname: str) -> None:
        """Add to `why` how often a component has changed its state; say so if it is flapping."""
        changes, most = self._marks.changes(xname), self._marks.most
        why["Changes"] = changes if most else None
        if xname in self._marks:
            why["Text"] = (
                f"{why['Text']} It is flapping: it has changed its state more than {most} times"
                f" within an hour (Flap_changes), {changes} of them within the last."
            )

    def _limits(self, xname: str) -> tuple[float, float]:
        """Return the silences after which a component is warned about, and has died."""
        limits = self._monitor.limits
        return self._tracker.own_limits(xname).over(limits.warntime, limits.errtime)

    def _hindrances_met(self, xname: str, component: Component | None) -> list[Hindrance]:
        """Return what has hindered hbtd since a component was last heard, before its death if any.

        If it is not known when the component was heard, or if `component` is `None` because the
        component is not tracked, return an empty list.
        """
        heard = 0.0 if component is None else self._facts.last_heartbeat(component)
        if component is None or not heard:
            return []
        dead = self._tracker.phase(xname) is Phase.DEAD
        return during(self._hindrances(), heard, (component.since if dead else 0.0) or inf)

    def _uncounted(self, component: Component | None, met: Sequence[Hindrance]) -> str:
        """Return a sentence on the seconds since the last heartbeat that do not count as silence.

        `met` are the hindrances since then. Return an empty text if there are no such seconds, or
        hardly any, if the last heartbeat is not known, or if the component is not tracked: then
        `component` is `None`.
        """
        age = None if component is None else self._facts.age(component)
        if component is None or age is None:
            return ""
        seconds = age - self._monitor.silence(component)
        if seconds < _NOTABLE:
            return ""
        text = f" Another {seconds:.1f} s do not count, as hbtd could not hear then."
        return f"{text} {not_judged(met, self._wall())}".rstrip()

    def _off(self, xname: str, component: Component | None) -> str:
        """Return a sentence that says since when HSM has a silent component as `Off`.

        Return an empty text if HSM does not, or if the component is healthy or not tracked.
        """
        if component is None or self._monitor.silence(component) < self._limits(xname)[0]:
            return ""
        since = self._second_signal.off_since(xname)
        if since is None:
            return ""
        return f" HSM says Off since the look at {clock_time(since, self._wall())}."

    def _expected(self, expected: Expected) -> str:
        """Return a sentence about a node that is not tracked, and that HSM's table has as up."""
        since = clock_time(self._facts.at(expected.since), self._wall())
        boot_time = f"Boot_time ({self._monitor.limits.boot_time} s)"
        silent = max(self._monitor.now() - expected.since, 0.0)
        text = (
            f"HSM's table has it enabled and {expected.state}, and it has not been heard here in"
            f" the {silent:.0f} s since {since}"
        )
        if expected.absent:
            return f"Absent: {text}, longer than {boot_time}."
        return f"Expected: {text}; after {boot_time} it counts as absent."

    def _sentence(self, xname: str, component: Component | None) -> str:
        """Return, in a sentence, why a component is in its state.

        `component` is `None` if the component is not tracked.
        """
        phase = self._tracker.phase(xname)
        if component is None:
            expected = self._second_signal.expected(xname)
            if expected is not None:
                return self._expected(expected)
            return "Not tracked: it was forgotten, or its records were lost."
        warntime, errtime = self._limits(xname)
        own = self._tracker.own_limits(xname)
        by = f" by the threshold {self._threshold(xname)}"
        warned = f"{warntime:.10g} s{by * (own.warntime is not None)}"
        dead = f"{errtime:.10g} s{by * (own.errtime is not None)}"
        silent = self._monitor.silence(component)
        if phase is Phase.DEAD and silent == inf:
            return (
                f"Dead: it was silent for Errtime ({dead}); its last heartbeat is not known here."
            )
        if phase is Phase.DEAD and silent < errtime:
            return (
                f"Dead: judged earlier, or by another replica; as far as is known here it was"
                f" heard {silent:.1f} s ago."
            )
        if phase is Phase.DEAD:
            return f"Dead: silent for {silent:.1f} s; the limit, Errtime, is {dead}."
        rule = self._tracker.rule(xname)
        if rule is None:
            before = "Warned about before, and silent" if phase is Phase.WARNED else "Silent"
            known = f"{before} for {silent:.1f} s, which is not judged."
            return known if silent >= warntime else f"Healthy: silent for {silent:.1f} s."
        if isinstance(rule, Deadlines):
            return self._until(rule, phase, silent)
        if phase is Phase.WARNED:
            return (
                f"Warned about: silent for {silent:.1f} s. From Warntime ({warned}) on a component"
                f" is warned about, from Errtime ({dead}) on it is dead."
            )
        if silent >= warntime:
            return (
                f"Still healthy: silent for {silent:.1f} s; the limit, Warntime, is {warned}, but"
                f" it is not judged yet: hbtd looks every {self._monitor.limits.interval} s."
            )
        return f"Healthy: silent for {silent:.1f} s, which is less than Warntime ({warned})."

    def _until(self, rule: Deadlines, phase: Phase, silent: float) -> str:
        """Return, in a sentence, what becomes of a living component that has deadlines.

        `silent` is its silence in observed seconds.
        """
        now = self._monitor.now()
        dead = f"declared dead in {max(rule.die_at - now, 0.0):.1f} s"
        if phase is Phase.HEALTHY and rule.warn_at < rule.die_at:
            dead = f"warned about in {max(rule.warn_at - now, 0.0):.1f} s, and {dead}"
        state = "Healthy" if phase is Phase.HEALTHY else "Warned about"
        why = rule.remark or "; its times have begun anew meanwhile"
        if rule.held:
            why = "; its death is held back by the guard"
        return f"{state}: silent for {silent:.1f} s{why}; unless it is heard it is {dead}."


def show_entry(entry: LogEntry) -> dict[str, object]:
    """Return an entry of the log of transitions as the API shows it."""
    judgement = entry.judgement
    return {
        "Number": entry.number,
        "XName": judgement.component,
        "From": judgement.before.value,
        "To": judgement.transition.after.value,
        "Transition": judgement.transition.name.lower(),
        "At": format_time(judgement.at),
        "Why": judgement.why,
        "Judge": entry.judge,
    }
