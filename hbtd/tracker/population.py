"""The population: all tracked components, with the data that the tracker has on each."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from math import inf

from hbtd.tracker.components import Component, identity_of, sort_queue
from hbtd.tracker.records import Identity
from hbtd.tracker.transitions import Phase


class Population:
    """The tracked components: those that are healthy, warned about, or dead.

    Healthy components are in one queue and warned ones in another, each in the order of the last
    heartbeats. No method of this class changes the phase of a component; the subclass `Tracker`
    adds the methods that do.
    """

    def __init__(self) -> None:
        self._healthy: OrderedDict[str, Component] = OrderedDict()
        self._warned: OrderedDict[str, Component] = OrderedDict()
        self._dead: dict[str, Component] = {}
        # The components whose host names and NIDs are to be stored.
        self._renamed: set[str] = set()
        self.population = 0
        """A counter that is increased whenever components begin or cease to be tracked."""

    def component(self, xname: str) -> Component | None:
        """Return the data of a tracked component, living or dead; `None` if it is not tracked."""
        return self._healthy.get(xname) or self._warned.get(xname) or self._dead.get(xname)

    def phase(self, xname: str) -> Phase:
        """Return the current phase of a component, which is `UNKNOWN` if it is not tracked."""
        if xname in self._healthy:
            return Phase.HEALTHY
        if xname in self._warned:
            return Phase.WARNED
        return Phase.DEAD if xname in self._dead else Phase.UNKNOWN

    def __contains__(self, xname: str) -> bool:
        return xname in self._healthy or xname in self._warned or xname in self._dead

    def __len__(self) -> int:
        return len(self._healthy) + len(self._warned) + len(self._dead)

    @property
    def healthy(self) -> int:
        """The number of healthy components: tracked, not warned about and not dead."""
        return len(self._healthy)

    @property
    def warned(self) -> int:
        """The number of components warned about that have neither been heard nor died since."""
        return len(self._warned)

    @property
    def dead(self) -> int:
        """The number of components that have died and have not been heard from since."""
        return len(self._dead)

    def tracked(self) -> list[str]:
        """Return the xnames of all tracked components, in no particular order."""
        # An OrderedDict looks up each key as it goes, which takes ten times as long.
        return [*dict.keys(self._healthy), *dict.keys(self._warned), *self._dead]

    def living(self) -> Iterator[str]:
        """Yield the xnames of all living components, including those warned about."""
        yield from self._healthy
        yield from self._warned

    def dead_components(self) -> Iterator[str]:
        """Yield the xnames of all components that have died and have not been heard from since."""
        yield from self._dead

    def queues(self) -> tuple[list[str], list[str], list[str]]:
        """Return three lists of xnames: of the healthy, the warned and the dead components.

        The first two lists are in the order of the last heartbeats, the earliest first. Unless hbtd
        has a bug, the xname of each tracked component is in exactly one of the lists.
        """
        return list(self._healthy), list(self._warned), list(self._dead)

    def silent_components(self) -> list[str]:
        """Return the xnames of all warned and dead components, in no particular order."""
        return [*self._warned, *self._dead]

    def silence_flags(self, xnames: Sequence[str]) -> tuple[bytes, bytes]:
        """Return two byte strings, which say which of the components `xnames` are silent.

        Both have one byte for each name, in the order of `xnames`. In the first string, the byte is
        1 if the component is warned about, otherwise 0; in the second, 1 if it is dead, otherwise
        0.
        """
        warned = map(self._warned.__contains__, xnames)
        return bytes(warned), bytes(map(self._dead.__contains__, xnames))

    def silent(self, xnames: Sequence[str]) -> list[Component]:
        """Return the data of the components among `xnames` that are warned about or dead."""
        found = [*map(self._warned.get, xnames), *map(self._dead.get, xnames)]
        return [component for component in found if component is not None]

    def components(self, xnames: Sequence[str]) -> list[Component]:
        """Return the data of the components among `xnames` that are tracked, in any order."""
        queues = (self._healthy, self._warned, self._dead)
        found = chain.from_iterable(map(queue.get, xnames) for queue in queues)
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
        healthy = self._healthy

        def share(xname: str, timestamp: str) -> tuple[str, str]:
            if not names:
                names.update((each, each) for each in self.living())
            component = healthy.get(xname) or self._warned.get(xname)
            if component is None:
                return xname, timestamp
            known = component.timestamp
            return names.get(xname, xname), known if known == timestamp else timestamp

        return share

    def sort_queues(self) -> None:
        """Sort the queues of healthy and warned components by the times of the last heartbeats.

        Call this after stored records have been applied in another order.
        """
        sort_queue(self._healthy)
        sort_queue(self._warned)

    def _pop(self, xname: str) -> Component | None:
        """Remove a healthy, warned or dead component, and return it; `None` if it is untracked."""
        for queue in (self._healthy, self._warned, self._dead):
            component = queue.pop(xname, None)
            if component is not None:
                return component
        return None
