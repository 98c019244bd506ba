"""Files that are loaded again when they change while hbtd runs."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.runtime.periodic import PeriodicService

PERIOD = 10.0
"""Seconds between two checks of the files."""

_PATIENCE = 6
"""The number of checks after which an error is logged even if it differs each time."""

_MOST_REPORTED = 100
"""The most errors that are remembered, so as not to be logged again."""

_T = TypeVar("_T")

_Signature = list[tuple[int, ...] | None]


class WatchedFiles(Generic[_T]):
    """The content of some files: all of them are loaded again when one of them has changed.

    If the changed files can't be used, the content stays as it was, or becomes `instead`, if given.
    The files are then loaded again at each check until they can be used, because they may become
    usable without a change: for example, when a certificate becomes valid.

    The files may be incomplete because they are being written. So an error is logged only if the
    next check finds the same error, and is then not logged again until the files change or can be
    used. If each check finds a different error, every sixth is logged.
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
        describe: Callable[[_T], str] = lambda content: "",
    ) -> None:
        """Load the files `paths` for the first time; let any exception of `load` propagate.

        `what` names the files in log lines, in the plural and at the beginning of a sentence.
        `describe` returns a phrase for the log by which operators recognise the content. `load`
        returns the content, or raises `unusable` if the files can't be used. If `load` raises
        `unusable` later, when the files are loaded again, the content is `instead`, if given, until
        the files can be used; otherwise it stays as it was.
        """
        self._what = what
        self._paths = paths
        self._load = load
        self._unusable = unusable
        self._instead = instead
        self._describe = describe
        self._seen = self._signature()
        self.current = load()
        """The content of the files that is in use now."""
        self._unreported: Exception | None = None
        # Why the files could not be used when loaded last, and how often since the last report.
        self._refusal: str | None = None
        self._refusals = 0
        self._reported: set[str] = set()
        self._listeners: list[Callable[[], None]] = []

    @property
    def usable(self) -> bool:
        """Whether the files could be used when they were last loaded."""
        return self._refusal is None

    def on_change(self, listener: Callable[[], None]) -> None:
        """Arrange that `listener()` is called each time the files are loaded again with success."""
        self._listeners.append(listener)

    def reload(self) -> str:
        """Load the files again, even if unchanged; if they can't be used, log that at once.

        Return a phrase, for the log, that names the files, and says whether they are accepted or
        refused.
        """
        before = self._seen
        self._reload(self._signature(), said=True)
        error = self._unreported
        self._report()
        if error is not None:
            return f"{self._what} refused: {error}"
        same = self._seen == before
        changed = "unchanged" if same else "changed"
        return f"{self._what} accepted, {changed} since the last look{self._details()}"

    def reload_if_changed(self) -> None:
        """Load the files again if they have changed; an error is logged by the next `check`."""
        signature = self._signature()
        if signature != self._seen:
            self._reload(signature)

    def check(self) -> None:
        """Load the files again if they have changed, or could not be used when last loaded.

        The files may have been read while they were being replaced. So an error is logged only if
        the next check finds the same error. If each check finds a different error, every sixth is
        logged. An error that was logged is not logged again until the files change or can be used.
        """
        before = self._refusal
        signature = self._signature()
        changed = signature != self._seen
        if changed:
            self._reported.clear()
        if changed or before is not None:
            self._reload(signature)
        if self._unreported is None or str(self._unreported) in self._reported:
            return
        lasting = not changed and self._refusal == before
        if lasting or self._refusals >= _PATIENCE:
            self._report()

    def _details(self) -> str:
        """Return the description of the content as " (...)"; an empty text if there is none."""
        details = self._describe(self.current)
        return f" ({details})" if details else ""

    def _reload(self, signature: _Signature, *, said: bool = False) -> None:
        """Load the files; log success unless `said` is true, since the caller then logs it.

        `signature` is the present result of `_signature`.
        """
        self._seen = signature
        self._unreported = None
        try:
            loaded = self._load()
        except Exception as error:  # noqa: BLE001  # the other watched files must be checked, too
            self._refusal = str(error)
            self._refusals += 1
            if not isinstance(error, self._unusable) and self._refusal not in self._reported:
                self._log.failure(
                    "Rereading {what} failed because of a bug in hbtd; hbtd tries again at each"
                    " check of the files.",
                    what=self._what,
                )
            self._unreported = error
            if self._instead is not None:
                self.current = self._instead
            return
        self._refusal, self._refusals = None, 0
        self._reported.clear()
        self.current = loaded
        if not said:
            self._log.info(
                "{what} were read again{details}.", what=self._what, details=self._details()
            )
        for listener in self._listeners:
            try:
                listener()
            except Exception:  # noqa: BLE001  # the others must know, and other files be checked
                self._log.failure(
                    "{what} were read, but could not be put to use because of a bug in hbtd;"
                    " the old ones stay in use.",
                    what=self._what,
                )

    def _report(self) -> None:
        error, self._unreported = self._unreported, None
        if error is not None:
            self._refusals = 0
            if len(self._reported) >= _MOST_REPORTED:
                self._reported.clear()
            self._reported.add(str(error))
            self._log.error(
                "{what} can't be used as they are now; {so}: {error}",
                what=self._what,
                so=(
                    "the old ones stay in force"
                    if self._instead is None
                    else "none are in force until they are corrected"
                ),
                error=str(error),
            )

    def _signature(self) -> _Signature:
        """Return a value that changes when a file is written, replaced, or made readable."""
        return [_stat(path) for path in self._paths]


def _stat(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class FileWatcher(PeriodicService):
    """A service that checks files every `PERIOD` seconds, and loads changed ones again."""

    def __init__(self, clock: IReactorTime, files: Sequence[WatchedFiles[Any]]) -> None:
        super().__init__(clock, PERIOD, self._check, "the check of files", now=False)
        self._files = list(files)

    def reload(self) -> list[str]:
        """Load all files again, even if unchanged.

        Return, for each `WatchedFiles`, a phrase for the log that says whether its files are
        accepted or refused.
        """
        return [files.reload() for files in self._files]

    @property
    def unusable(self) -> int:
        """The number of `WatchedFiles` whose files could not be used when they were last loaded."""
        return sum(not files.usable for files in self._files)

    def _check(self) -> None:
        for files in self._files:
            files.check()
