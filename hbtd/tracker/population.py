"""The population: all tracked components, with the data that the tracker has on each."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from math import inf

from hbtd.tracker.cohorts import ORDINARY, Cohort, Deadlines, Limits
from hbtd.tracker.components import Component, identity_of
from hbtd.tracker.records import Identity
from hbtd.tracker.transitions import Phase


class Population:
    """The tracked components: those that are healthy, warned about, or dead.

    The living ones are in cohorts (`hbtd.tracker.cohorts`), nearly all of them in the ordinary one.
    No method of this class changes the phase of a component; the subclass `Tracker` adds the
    methods that do.
    """

    def __init__(self) -> None:
        self._ordinary = Cohort(ORDINARY)
        # The queues of the ordinary cohort: most components are found there at once.
        self._healthy = self._ordinary.healthy
        self._warned = self._ordinary.warned
        # All other cohorts that have components, and the living components that are in these.
        self._others: dict[object, Cohort] = {}
        self._cohort_of: dict[str, Cohort] = {}
        self._dead: dict[str, Component] = {}
        # The components whose host names and NIDs are to be stored.
        self._renamed: set[str] = set()
        self.population = 0
        """A counter that is increased whenever components begin or cease to be tracked."""

    def component(self, xname: str) -> Component | None:
        """Return the data of a tracked component, living or dead; `None` if it is not tracked."""
        return self._cohort(xname).get(xname) or self._dead.get(xname)

    def phase(self, xname: str) -> Phase:
        """Return the current phase of a component, which is `UNKNOWN` if it is not tracked."""
        cohort = self._cohort(xname)
        if xname in cohort.healthy:
            return Phase.HEALTHY
        if xname in cohort.warned:
            return Phase.WARNED
        return Phase.DEAD if xname in self._dead else Phase.UNKNOWN

    def __contains__(self, xname: str) -> bool:
        return (
            xname in self._healthy
            or xname in self._warned
            or xname in self._dead
            or xname in self._cohort_of
        )

    def __len__(self) -> int:
        return len(self._ordinary) + len(self._cohort_of) + len(self._dead)

    @property
    def healthy(self) -> int:
        """The number of healthy components: tracked, not warned about and not dead."""
        return sum(len(cohort.healthy) for cohort in self._cohorts())

    @property
    def warned(self) -> int:
        """The number of components warned about that have neither been heard nor died since."""
        return sum(len(cohort.warned) for cohort in self._cohorts())

    @property
    def dead(self) -> int:
        """The number of components that have died and have not been heard from since."""
        return len(self._dead)

    def tracked(self) -> list[str]:
        """Return the xnames of all tracked components, in no particular order."""
        # An OrderedDict looks up each key as it goes, which takes ten times as long.
        ordinary = dict.keys(self._healthy), dict.keys(self._warned)
        return [*ordinary[0], *ordinary[1], *self._cohort_of, *self._dead]

    def living(self) -> Iterator[str]:
        """Yield the xnames of all living components, including those warned about."""
        for cohort in self._cohorts():
            yield from cohort.healthy
            yield from cohort.warned

    def judged(self) -> list[tuple[Limits | Deadlines, list[Component]]]:
        """Return the living components whose silence is judged, by the rule that they have.

        The components of each rule are in no particular order.
        """
        found: list[tuple[Limits | Deadlines, list[Component]]] = []
        for cohort in self._cohorts():
            if cohort.rule is not None:
                # As in `tracked`: a tenth of the time.
                members = [*dict.values(cohort.healthy), *dict.values(cohort.warned)]
                found.append((cohort.rule, members))
        return found

    def dead_components(self) -> Iterator[str]:
        """Yield the xnames of all components that have died and have not been heard from since."""
        yield from self._dead

    def queues(self) -> tuple[list[str], list[str], list[str]]:
        """Return three lists of xnames: of the healthy, the warned and the dead components.

        Of the components of each cohort, those that were heard least recently come first. Unless
        hbtd has a bug, the xname of each tracked component is in exactly one of the lists, once.
        """
        cohorts = self._cohorts()
        healthy = [xname for cohort in cohorts for xname in cohort.healthy]
        return healthy, [xname for cohort in cohorts for xname in cohort.warned], list(self._dead)

    def silent_components(self) -> list[str]:
        """Return the xnames of all warned and dead components, in no particular order."""
        return [*(xname for cohort in self._cohorts() for xname in cohort.warned), *self._dead]

    def silence_flags(self, xnames: Sequence[str]) -> tuple[bytes, bytes]:
        """Return two byte strings, which say which of the components `xnames` are silent.

        Both have one byte for each name, in the order of `xnames`. In the first string, the byte is
        1 if the component is warned about, otherwise 0; in the second, 1 if it is dead, otherwise
        0.
        """
        warned = bytearray(map(self._warned.__contains__, xnames))
        if self._cohort_of:
            for number, xname in enumerate(xnames):
                if xname in self._cohort_of:
                    warned[number] = xname in self._cohort_of[xname].warned
        return bytes(warned), bytes(map(self._dead.__contains__, xnames))

    def silent(self, xnames: Sequence[str]) -> list[Component]:
        """Return the data of the components among `xnames` that are warned about or dead."""
        found = [*map(self._warned.get, xnames), *map(self._dead.get, xnames)]
        if self._cohort_of:
            others = [xname for xname in xnames if xname in self._cohort_of]
            found += [self._cohort_of[xname].warned.get(xname) for xname in others]
        return [component for component in found if component is not None]

    def components(self, xnames: Sequence[str]) -> list[Component]:
        """Return the data of the components among `xnames` that are tracked, in any order."""
        queues = (self._healthy, self._warned, self._dead)
        found = list(chain.from_iterable(map(queue.get, xnames) for queue in queues))
        if self._cohort_of:
            others = [xname for xname in xnames if xname in self._cohort_of]
            found += [self._cohort_of[xname].get(xname) for xname in others]
        return [component for component in found if component is not None]

    def note_judged(self, xname: str, phase: Phase, at: float, heard: float | None) -> None:
        """Set `Component.since` to the Unix time `at`, at which a component entered `phase`.

        The caller has read `phase` and `at` from the log of transitions. `heard` is the observed
        time of the component's last heartbeat before `at`, or `None` if this time is not known;
        `heard` is used only for a dead component whose `last_heard` is not known. If the component
        is not in `phase`, or not tracked, nothing changes.
        """
        component = self.component(xname)
        if component is None or self.phase(xname) is not phase:
            return
        component.since = at
        if component.told < at:
            component.told = 0.0
        if phase is Phase.DEAD and component.last_heard == -inf and heard is not None:
            component.last_heard = heard

    def note_told(self, xname: str, phase: Phase, at: float) -> None:
        """Record that HSM acknowledged, at the Unix time `at`, that a component is in `phase`.

        If the component is no longer in that phase, or not tracked, nothing changes.
        """
        component = self.component(xname)
        if component is not None and self.phase(xname) is phase:
            component.told = at

    def identity(self, xname: str) -> Identity | None:
        """Return the host name and NID of a component; `None` if they are not known."""
        component = self.component(xname)
        if component is None or not component.identity:
            return None
        return Identity(xname, component.hostname, component.nid)

    def apply_identity(self, identity: Identity) -> None:
        """Set a component's host name and NID to `identity`, which was read from the store.

        If the component is not tracked, or if it has since sent another host name or NID that has
        yet to be stored, nothing changes.
        """
        component = self.component(identity.component)
        if component is not None and identity.component not in self._renamed:
            component.identity = identity_of(identity.hostname, identity.nid)

    def mark_all_renamed(self) -> None:
        """Mark all known host names and NIDs as yet to be stored, even unchanged ones."""
        self._renamed = {xname for xname in self.tracked() if self.identity(xname) is not None}

    @property
    def renamed(self) -> int:
        """The number of components whose host names and NIDs have yet to be stored."""
        return len(self._renamed)

    def take_renamed(self, most: int) -> list[Identity]:
        """Return identities that have yet to be stored, at most `most`; mark them as stored.

        An identity is a host name and NID. The caller must store the identities, and call
        `put_back_renamed` with them if that fails.
        """
        names = [self._renamed.pop() for _ in range(min(most, len(self._renamed)))]
        found = map(self.identity, names)
        return [identity for identity in found if identity is not None]

    def put_back_renamed(self, identities: Iterable[Identity]) -> None:
        """Mark identities again as yet to be stored, because storing them has failed.

        `identities` are those that `take_renamed` returned.
        """
        self._renamed.update(each.component for each in identities if each.component in self)

    def share_texts(self) -> Callable[[str, str], tuple[str, str]]:
        """Return a function that takes an xname and a timestamp, and returns equal texts.

        The function saves memory when hbtd starts and reads up to a million judgements from the
        store. It is called with the xname and the timestamp of each judgement. For each of the two
        texts, it returns the equal text that the living component with this xname has in memory, or
        its own argument if there is none. After a component has changed, it must not be called.
        """
        names: dict[str, str] = {}

        def share(xname: str, timestamp: str) -> tuple[str, str]:
            if not names:
                names.update((each, each) for each in self.living())
            component = self._living(xname)
            if component is None:
                return xname, timestamp
            known = component.timestamp
            return names.get(xname, xname), known if known == timestamp else timestamp

        return share

    def sort_queues(self) -> None:
        """Sort the queues of healthy and warned components by the times of the last heartbeats.

        Call this after stored records have been applied in another order.
        """
        for cohort in self._cohorts():
            cohort.sort()

    def _cohorts(self) -> list[Cohort]:
        """Return all cohorts that may have components, the ordinary one first."""
        return [self._ordinary, *self._others.values()]

    def _queues(self) -> "list[OrderedDict[str, Component]]":
        """Return the queues of living components of all cohorts."""
        return [queue for each in self._cohorts() for queue in (each.healthy, each.warned)]

    def _cohort(self, xname: str) -> Cohort:
        """Return the cohort of a living component; that of others is the ordinary one."""
        return self._cohort_of.get(xname, self._ordinary)

    def _end_if_empty(self, cohort: Cohort) -> None:
        """Forget a cohort if it has no components, unless it is the ordinary one."""
        if not cohort and cohort is not self._ordinary:
            self._others.pop(cohort.rule, None)

    def _living(self, xname: str) -> Component | None:
        """Return the data of a living component; `None` if it is dead or not tracked."""
        return self._cohort(xname).get(xname)

    def _pop(self, xname: str) -> Component | None:
        """Remove a healthy, warned or dead component, and return it; `None` if it is untracked."""
        cohort = self._cohort(xname)
        component = cohort.pop(xname)
        if self._cohort_of.pop(xname, None) is not None:
            self._end_if_empty(cohort)
        return self._dead.pop(xname, None) if component is None else component
