"""Files that may change while hbtd runs: read again when they do."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.runtime.periodic import periodic

PERIOD = 10.0
"""Seconds between two looks at files."""

_T = TypeVar("_T")

_Signature = list[tuple[int, ...] | None]


class WatchedFiles(Generic[_T]):
    """What some files hold, which is replaced as a whole, and only by something that can be used.

    Files that are being written look like files that are wrong: they are complained of only if
    they have not changed since the look before.
    """

    _log = Logger()

    def __init__(
        self,
        what: str,
        paths: Sequence[str],
        load: Callable[[], _T],
        unusable: type[Exception],
        *,
        instead: _T | None = None,
    ) -> None:
        """Load for the first time, and let what goes wrong through.

        `what` names them all at the beginning of a sentence, `unusable` is what `load` raises.
        With `instead`, that is what there is while they can't be used; otherwise the old.
        """
        self._what = what
        self._paths = paths
        self._load = load
        self._unusable = unusable
        self._instead = instead
        self._seen = self._signature()
        self.current = load()
        """What they hold, or held when they could last be used."""
        self._fault: Exception | None = None
        self._complained = False
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever they have been loaded anew."""
        self._listeners.append(listener)

    def look(self, *, force: bool = False) -> None:
        """Load them if they have changed; with `force`, whether they have or not."""
        signature = self._signature()
        if signature == self._seen and not force:
            return
        self._seen = signature
        self._complained = False
        try:
            loaded = self._load()
        except Exception as error:  # noqa: BLE001  # other files have to be looked at, too
            if not isinstance(error, self._unusable):
                self._log.failure("{what} could not be read.", what=self._what)
            self._fault = error
            if self._instead is not None:
                self.current = self._instead
            if force:
                self._complain()
            return
        self._fault = None
        self.current = loaded
        self._log.info("{what} were read again.", what=self._what)
        for listener in self._listeners:
            listener()

    def look_twice(self) -> None:
        """Do as `look`, and complain once of what was wrong already the last time."""
        fault = self._fault
        self.look()
        if fault is not None and self._fault is fault:
            self._complain()

    def _complain(self) -> None:
        if not self._complained:
            self._complained = True
            self._log.error(
                "{what} can't be used as they are now, and {so}: {error}",
                what=self._what,
                so="the old ones stay" if self._instead is None else "there are none",
                error=str(self._fault),
            )

    def _signature(self) -> _Signature:
        """Give what differs when a file has been written, replaced, or made readable."""
        return [_stat(path) for path in self._paths]


def _stat(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class FileWatcher(Service):
    """Looks at files every few seconds, and when it is told to."""

    def __init__(self, clock: IReactorTime, files: Sequence[WatchedFiles[Any]]) -> None:
        self._files = list(files)
        self._loop = periodic(clock, self._look)

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._loop.start(PERIOD, now=False)

    def stopService(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()
        super().stopService()

    def look_now(self) -> None:
        """Load all of them again, changed or not."""
        for each in self._files:
            each.look(force=True)

    def _look(self) -> None:
        for each in self._files:
            each.look_twice()
