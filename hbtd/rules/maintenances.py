"""Sets, changes and ends maintenances in the store, and keeps them there as they are."""

from collections.abc import Callable, Collection, Mapping
from itertools import count
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.formats.counts import counted
from hbtd.formats.nodesets import fold
from hbtd.rules.gathered_writes import GatheredWrites
from hbtd.rules.in_force import Entry, Notice
from hbtd.rules.maintaining import Maintaining, Observed, components
from hbtd.rules.maintenance import (
    AWAY,
    LONGEST,
    LONGEST_NODESET,
    LONGEST_NODESETS,
    LONGEST_SHORTENED,
    MAINTENANCE,
    MOST,
    MOST_NAMES_IN_ALL,
    UNDER_WAY,
    End,
    Maintenance,
    MaintenanceRefused,
    key_of,
    parse,
    read_end,
    read_seconds,
    read_text,
)
from hbtd.runtime.backoff import Backoff
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.store.settings import Replacement, Setting
from hbtd.tracker.forgotten import Forgotten
from hbtd.tracker.tracker import Tracker

_GATHER: Final = 1.0
"""Seconds in which the returns of components are gathered before they are written."""

_SPARINGLY: Final = 10.0
"""How many times as long as writing them took the next returns are gathered, at least."""

_RETRY: Final = (1.0, 30.0)
"""The shortest and the longest pause, in seconds, before a failed write is tried again."""

_REMOVED_AT_ONCE: Final = 500

_ATTEMPTS: Final = 5
"""How often a change is tried again that others have been faster with."""

_LETTERS: Final = "23456789bcdfghjkmnpqrstvwxyz"
"""The letters of identifiers: without vowels, and what looks alike."""


class NoSuchMaintenance(LookupError):
    """Raised if there is no maintenance with an identifier: it is over, or never was."""


class NoRoomForMaintenance(Exception):
    """Raised if there are too many maintenances already, or components in them."""


class Maintenances:
    """The maintenances, which every replica may set, change and end.

    The leader removes what is over from the store, and the components that are back.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        elapsed: Callable[[], float],
        wall: Callable[[], float],
        observed: Observed,
        tracker: Tracker,
        store: IStore,
        params: LiveParams,
        leading: Callable[[], bool],
        random: Callable[[], float],
    ) -> None:
        """Apply the settings of `store` from now on; see `Maintaining` for the arguments.

        `random` returns a random number from 0 to 1.
        """
        self._clock = clock
        self._elapsed = elapsed
        self._wall = wall
        self._tracker = tracker
        self._store = store
        self._params = params
        self._leading = leading
        self._random = random
        self._writes = GatheredWrites(store)
        self._lately = Forgotten()
        self._backoff = Backoff(*_RETRY, random)
        self._timer: IDelayedCall | None = None
        self._tidying = False
        self._tidied: Deferred[None] = succeed(None)
        self._stopped = False
        self._maintaining = Maintaining(
            clock, elapsed, wall, observed, tracker, store.settings, params, leading, self._soon
        )
        store.settings.on_change(AWAY, self._note_away)
        self.in_force = self._maintaining.in_force
        """The maintenances that are in force on this replica, and who is in them."""

    def on_notice(self, notice: Notice) -> None:
        """Have a function told what becomes of maintenances on this replica from now on."""
        self._maintaining.notice = notice

    def find(self, id: str) -> Entry:
        """Return a maintenance that is in force. Raise `NoSuchMaintenance` if there is none."""
        entry = self._maintaining.find(id)
        if entry is None:
            raise NoSuchMaintenance(id)
        return entry

    def until(self, entry: Entry) -> float:
        """Return the Unix time at which a maintenance ends at the latest."""
        return self._maintaining.until(entry)

    def show(self, entry: Entry) -> dict[str, object]:
        """Return the fields that the API shows of a maintenance wherever it appears."""
        return entry.maintenance.show(self.until(entry))

    # Changes

    def read_end(self, fields: Mapping[str, Any]) -> End:
        """Return the end that a request gives; see `hbtd.rules.maintenance.read_end`."""
        return read_end(fields, self._wall(), self._params.current.maintenance_seconds)

    def check_room(self, number: int, characters: int) -> None:
        """Raise an exception unless there is room for another maintenance of so many components.

        `characters` is the length of its nodeset. Raise `MaintenanceRefused` if the nodeset is too
        long by itself, and `NoRoomForMaintenance` if there are too many maintenances already.
        """
        if characters > LONGEST_NODESET:
            raise MaintenanceRefused(
                f"The components take {characters:,} characters as one nodeset, and not"
                f" {LONGEST_NODESET:,} at most; set several maintenances"
            )
        others = [entry for entry in self.in_force.entries.values() if not entry.maintenance.away]
        if len(others) >= MOST:
            raise NoRoomForMaintenance(
                f"There are {MOST:,} maintenances already; end some of them first"
            )
        if number + sum(entry.number for entry in others) > MOST_NAMES_IN_ALL:
            raise NoRoomForMaintenance(
                f"All maintenances together may have {MOST_NAMES_IN_ALL:,} components at most; end"
                " some of them first"
            )
        length = sum(len(entry.maintenance.nodeset) for entry in others)
        if characters + length > LONGEST_NODESETS:
            raise NoRoomForMaintenance(
                f"The nodesets of all maintenances together may have {LONGEST_NODESETS:,}"
                " characters at most; end some of them first"
            )

    async def set(self, nodeset: str, end: End, reason: str, by: str) -> Maintenance:
        """Set a maintenance for the components of a nodeset, of xnames in normal form.

        Return once it is stored, and in force on this replica. Raise `StoreUnusable` if it can't be
        stored.
        """
        wanted = Maintenance(
            MAINTENANCE, self._new_name(), nodeset, end.at, end.until, end.back, reason, by
        )
        await self._write(wanted)
        return wanted

    async def change(self, entry: Entry, fields: Mapping[str, Any]) -> Maintenance:
        """Change the end of a maintenance, or its texts, as a request says; return what it is now.

        `For` and `Until` are read as when it is set. It goes on to end with the returns of
        components if it did. Raise `MaintenanceRefused` if the request can't be granted,
        `NoSuchMaintenance` if it has been ended meanwhile, and `StoreUnusable` if the change can't
        be stored.
        """
        for _ in range(_ATTEMPTS):
            changed, before = self._changed(entry.maintenance, fields), entry.maintenance
            setting = Setting(changed.kind, changed.name, changed.text())
            text, done = self._text_of(before), False
            if text is not None:
                (done,) = await self._store.replace_settings([(setting, text)])
            await self._maintaining.applied()
            # etcd may have written it although its first answer was lost.
            if done or self._text_of(changed) is not None:
                return changed
            entry = self.find(changed.id)
        raise StoreUnusable("others are changing it")

    def _changed(self, before: Maintenance, fields: Mapping[str, Any]) -> Maintenance:
        """Return a maintenance as a request changes it; raise `MaintenanceRefused` as `change`."""
        changed = before
        if all(fields.get(field) is None for field in ("For", "Until", "Reason", "By")):
            raise MaintenanceRefused("Nothing is to be changed: give For, Until, Reason or By")
        if fields.get("For") is not None or fields.get("Until") is not None:
            end = self.read_end(fields)
            until = end.until
            if before.away:
                until = end.at + self._granted(before.name, until - end.at)
            changed = changed._replace(at=end.at, until=until, back=end.back or before.back)
        if fields.get("Reason") is not None:
            changed = changed._replace(reason=read_text(fields, "Reason"))
        if fields.get("By") is not None:
            changed = changed._replace(by=read_text(fields, "By"))
        return changed

    def _text_of(self, wanted: Maintenance) -> str | None:
        """Return the text of a maintenance in the store; `None` if it is another one by now."""
        text = self._store.settings.text(wanted.kind, wanted.name)
        known = None if text is None else parse(wanted.kind, wanted.name, text)
        return text if known == wanted else None

    async def end(self, entry: Entry) -> None:
        """End a maintenance now. Raise `StoreUnusable` if that can't be stored."""
        kind, name = key_of(entry.maintenance.id)
        await self._writes.write(Setting(kind, name, None))
        await self._maintaining.applied()

    def check_away(self, xname: str, fields: Mapping[str, Any]) -> tuple[float, str]:
        """Return for how long, in seconds, a component says it will be away, and why.

        Raise `MaintenanceRefused` if the request can't be granted, and `ForgottenLately` if the
        component has said so less than `errtime` seconds ago: it must not be able to cause any
        number of transitions, updates of HSM and writes to the store.
        """
        seconds = read_seconds(fields, self._params.current.maintenance_seconds)
        reason = read_text(fields, "Reason")
        self._lately.check(xname, self._clock.seconds(), self._params.current.errtime)
        return seconds, reason

    def _note_away(self, xnames: Collection[str], anew: bool) -> None:
        """Note who has said, perhaps to another replica, that it will be away."""
        for xname in xnames:
            if not anew and self._store.settings.text(AWAY, xname) is not None:
                self._lately.note(xname, self._clock.seconds(), self._params.current.errtime)

    async def away(self, xname: str, seconds: float, reason: str) -> bool:
        """Note that a component will be away; return whether it was living.

        If it was not, there is nothing to note. Raise `StoreUnusable` if that can't be stored.
        """
        if not self._tracker.phase(xname).living:
            return False
        self._lately.note(xname, self._clock.seconds(), self._params.current.errtime)
        now = self._wall()
        until = now + self._granted(xname, seconds)
        wanted = Maintenance(AWAY, xname, xname, now, until, True, reason, xname)
        try:
            await self._write(wanted)
        except StoreUnusable:
            self._lately.drop(xname)  # it may say so again
            raise
        return True

    def _granted(self, xname: str, seconds: float) -> float:
        """Return for how long a component is waited for that will be away for so many seconds.

        Nobody is declared dead who has been silent for less than its errtime, and its last
        heartbeat may have been under way when it said so.
        """
        params = self._params.current
        _, errtime = self._tracker.own_limits(xname).over(params.warntime, params.errtime)
        return min(max(seconds, errtime + UNDER_WAY), LONGEST)

    async def _write(self, wanted: Maintenance) -> None:
        await self._writes.write(Setting(wanted.kind, wanted.name, wanted.text()))
        await self._maintaining.applied()

    def _new_name(self) -> str:
        """Return a name that no other maintenance has, short enough to be typed."""
        letters = [_LETTERS[int(self._random() * len(_LETTERS)) % len(_LETTERS)] for _ in range(6)]
        name = "".join(letters)
        for number in count(2):
            if self._store.settings.text(MAINTENANCE, name) is None:
                break
            name = f"{''.join(letters)}{number}"
        return name

    def counts(self) -> tuple[int, int]:
        """Return how many maintenances operators have set, and how many components are away."""
        away = sum(entry.maintenance.away for entry in self.in_force.entries.values())
        return len(self.in_force.entries) - away, away

    # What the leader does

    async def stop(self) -> None:
        """Write what is known of returns and ends, if this replica leads; look for no more."""
        self._stopped = True
        self._maintaining.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        await self._tidied
        if self._leading() and self._untidy:
            await self._tidy_up()

    @property
    def _untidy(self) -> bool:
        return bool(self._maintaining.over or self._maintaining.with_returns)

    def _soon(self) -> None:
        if self._timer is None and not self._tidying and not self._stopped:
            self._timer = self._clock.callLater(_GATHER, self._tidy)

    def _tidy(self) -> None:
        self._timer = None
        if not self._leading():
            # Another replica leads, and writes it; or this one does, soon.
            self._again(_GATHER)
            return
        self._tidying = True
        self._tidied = Deferred.fromCoroutine(self._tidy_up()).addCallback(self._end_tidying)

    def _end_tidying(self, pause: float) -> None:
        self._tidying = False
        self._again(pause)

    def _again(self, pause: float) -> None:
        if self._untidy and not self._stopped:
            self._timer = self._clock.callLater(pause, self._tidy)

    async def _tidy_up(self) -> float:
        """Have the store agree with what is over, and who is back; return the pause before more."""
        began = self._elapsed()
        try:
            await self._remove()
            for entry in list(self._maintaining.with_returns.values()):
                await self._save(entry)
        except StoreUnusable:
            return self._backoff.next()  # that it is, is logged elsewhere
        except Exception:  # noqa: BLE001  # no caller could handle it, and there is a next time
            self._log.failure(
                "The end of a maintenance could not be stored because of a bug in hbtd."
            )
            return _RETRY[1]
        self._backoff.reset()
        return max(_GATHER, _SPARINGLY * (self._elapsed() - began))

    async def _remove(self) -> None:
        """Remove the settings of maintenances that are over."""
        over = self._maintaining.over
        removed: list[Replacement] = []
        for (kind, name), given in list(over.items()):
            text = self._store.settings.text(kind, name)
            wanted = None if text is None else parse(kind, name, text)
            if wanted is None or wanted.given != given:
                over.pop((kind, name), None)  # it was removed, or has another end
            else:
                removed.append((Setting(kind, name, None), text))
        for start in range(0, len(removed), _REMOVED_AT_ONCE):
            some = removed[start : start + _REMOVED_AT_ONCE]
            # One whose end somebody has put off in the same moment goes on.
            replaced = await self._store.replace_settings(some)
            for ((kind, name, _), _), done in zip(some, replaced, strict=True):
                if done:
                    over.pop((kind, name), None)

    async def _save(self, entry: Entry) -> None:
        """Write a maintenance without the components that are back; without any, remove it."""
        wanted, back = entry.maintenance, len(entry.left)
        before = self._text_of(wanted)
        if entry.tried == back:
            self._maintaining.with_returns.pop(wanted.id, None)
            return
        folded: list[str] = []
        async for some in components(wanted, lambda: deferLater(self._clock, 0)):
            folded.append(fold(xname for xname in some if xname not in entry.left))
        nodeset = ",".join(filter(None, folded))
        found = self._maintaining.find(wanted.id)
        if entry is not found or entry.maintenance is not wanted or before is None:
            return  # it was changed meanwhile, and is looked at again
        if len(nodeset) > LONGEST_SHORTENED:
            entry.tried = back
            return
        if back != entry.said:
            self._log.info(
                "Maintenance {id} has ended for {components}, which are back; {number} are still"
                " in it.",
                id=wanted.id,
                components=counted(back - entry.said, "component"),
                number=entry.number,
            )
            entry.said = back
        text = wanted._replace(nodeset=nodeset).text() if nodeset else None
        # Who has ended it in the same moment, or has moved its end, must not be overruled.
        await self._store.replace_settings([(Setting(wanted.kind, wanted.name, text), before)])
