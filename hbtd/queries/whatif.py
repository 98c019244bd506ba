"""Answers how many alarms there would have been with other limits of silence."""

from collections.abc import Callable, Collection, Sequence
from itertools import islice
from math import inf, isfinite
from typing import Any, NamedTuple

from hbtd.formats.nodesets import fold
from hbtd.formats.times import format_time
from hbtd.queries.machine import Turn, sort_names
from hbtd.store.interface import IStore
from hbtd.store.past import Noticed
from hbtd.store.silences import SilenceKeeper
from hbtd.tracker.components import Component
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.silences import Alarms, Limits, LongSilence, Tally
from hbtd.tracker.tracker import Tracker

MOST_NAMED = 1000
"""The largest number of components that are named with each number of alarms."""

_PORTION = 1000
"""The most silences, or components, that are looked at before others have their turns."""

_SIZE_OF_EACH = 24
"""The bytes that an answer takes for each tracked component while it is made."""

_SIZE_OF_ALARM = 400
"""The bytes that an answer takes for each silence that would have caused alarms, measured."""


class _Open(NamedTuple):
    """A silence that lasts."""

    seconds: float
    """Its length so far, in observed seconds; `inf` if not known."""
    heard: float
    """The Unix time of the last heartbeat; `inf` if not known, when its end would not be kept."""
    warned_at: float
    """The Unix time at which it was as long as the limit for warnings."""
    died_at: float
    """The Unix time at which it was as long as the limit for deaths."""


class WhatIf:
    """Answers how many alarms there would have been with other limits of silence.

    The answer counts the long silences that have ended, which are in the store's table or on the
    way there, and the silences that last.
    """

    def __init__(
        self,
        tracker: Tracker,
        observed: ObservedClock,
        wall: Callable[[], float],
        store: IStore,
        keeper: SilenceKeeper,
    ) -> None:
        """Make the object; `wall` returns the Unix time in seconds."""
        self._tracker = tracker
        self._observed = observed
        self._wall = wall
        self._store = store
        self._keeper = keeper

    async def answer(
        self,
        warntime: float,
        errtime: float,
        since: float | None,
        turn: Turn,
        reserve: Callable[[int], None],
    ) -> dict[str, object]:
        """Return the answer to `GET /whatif`: how many alarms there would have been, and of whom.

        `warntime` and `errtime` are the limits, in observed seconds. Alarms that would have been
        due at the Unix time `since` or later count; if it is `None`, all since which no long
        silence is missing in the table. `turn` is awaited between portions of the work; `reserve`
        is called with the bytes of memory that the answer takes, and may raise an exception. Raise
        `StoreUnusable` if the table can't be read.
        """
        at = self._wall()
        first = await self._store.silences(most=1)
        if since is None:
            since = self._keeper.whole_since(first.whole_since)
        limits = Limits(warntime, errtime, since)
        reserve(_SIZE_OF_EACH * len(self._tracker))
        # In this order: whoever is heard in between is in the table, too, or waits to be.
        lasting, unsure, floor = await self._look(limits, turn, reserve)
        tally = Tally(limits)

        def add(ended: Collection[LongSilence]) -> None:
            reserve(_SIZE_OF_ALARM * len(ended))
            tally.add_ended(ended)
            for silence in ended:
                known = lasting.get(silence.component)
                if known is not None and silence.ended > known.heard + limits.least / 2:
                    del lasting[silence.component]

        after: int | None = 0
        while after is not None:
            page = await self._store.silences(since, limits.least, after, _PORTION)
            after = page.after
            if after is None:
                waiting = iter(self._keeper.waiting())
            add(page.silences)
            await turn()
        while some := list(islice(waiting, _PORTION)):
            add([each for each in self._keeper.dated(some) if each.seconds >= limits.least])
            await turn()
        for number, (xname, each) in enumerate(lasting.items(), start=1):
            tally.add_open(xname, each.seconds, each.warned_at, each.died_at)
            if number % _PORTION == 0:
                await turn()
        whole_since = self._keeper.whole_since(page.whole_since)
        return {
            "At": format_time(at),
            "Since": format_time(since),
            "Warntime": warntime,
            "Errtime": errtime,
            "Warnings": await _alarms(tally.warnings, turn),
            "Deaths": await _alarms(tally.deaths, turn),
            "WholeSince": format_time(whole_since),
            "Complete": since >= whole_since,
            "Floor": {
                "Seconds": round(max(floor, self._missed_since(since, page.noticed)), 3),
                "Components": len(unsure),
                "XNames": await _nodeset(unsure, turn),
            },
        }

    async def _look(
        self, limits: Limits, turn: Turn, reserve: Callable[[int], None]
    ) -> tuple[dict[str, _Open], list[str], float]:
        """Return the silences that last and would have caused alarms, by component.

        Also return the components with periods that were not kept and may have been as long as the
        shorter limit, and the longest period of a tracked component that was not kept, in seconds.
        """
        lasting: dict[str, _Open] = {}
        unsure: list[str] = []
        floor = 0.0
        names, spared = iter(self._tracker.tracked()), self._tracker.is_spared
        while portion := list(islice(names, _PORTION)):
            now, least, before = self._observed.now(), limits.least, len(lasting)
            for component in self._tracker.components(portion):
                if component.floor > floor:
                    floor = component.floor
                if component.floor >= least:
                    unsure.append(component.xname)
                if now - component.last_heard >= least and not spared(component.xname):
                    lasting[component.xname] = self._open(component, now, limits)
            reserve(_SIZE_OF_ALARM * (len(lasting) - before))
            await turn()
        return lasting, unsure, floor

    def _open(self, component: Component, now: float, limits: Limits) -> _Open:
        heard = component.last_heard
        if not isfinite(heard):
            # It is dead, and if the log does not say since when, it was long ago.
            since = component.since or -inf
            return _Open(inf, inf, since, since)
        wall, ago = self._wall(), self._observed.seconds_ago
        return _Open(
            now - heard,
            wall - ago(heard),
            wall - ago(heard + limits.warntime),
            wall - ago(heard + limits.errtime),
        )

    def _missed_since(self, since: float, noticed: Sequence[Noticed]) -> float:
        """Return the longest period that ended since and was not kept, in observed seconds.

        Those that are in the floors of tracked components are left out. `noticed` is what this
        process, and those before it, have said of the silences that they noticed.
        """
        began = self._observed.shown(max(self._wall() - since, 0.0))
        longest = self._tracker.silences.missed_since(began)
        ended = self._keeper.since
        for each in reversed(noticed):
            if each.since < ended and ended >= since:  # one that ended when the next began
                longest = max(longest, each.missed)
            ended = min(each.since, ended)
        return longest


async def _alarms(alarms: Alarms, turn: Turn) -> dict[str, Any]:
    return {
        "Number": alarms.number,
        "Returned": alarms.back,
        "Components": len(alarms.components),
        "XNames": await _nodeset(alarms.components, turn),
    }


async def _nodeset(names: Collection[str], turn: Turn) -> str:
    """Return the first of `names`, in natural order, as a nodeset; at most `MOST_NAMED`."""
    first = (await sort_names(names, turn))[:MOST_NAMED]
    await turn()
    folded = fold(first)
    await turn()
    return folded
