"""An incremental parser of HSM's table of components, which may have a million rows."""

from collections.abc import Callable
from typing import Any, Final

import ijson

TakeRow = Callable[[str, str, str, bool], None]
"""A function that is called with the name, the state and the flag of a component.

The last argument says whether the table has the component as enabled, that is in service.
"""

_DEEPEST: Final = 16
"""The most levels of a table; HSM's tables have three: the whole, its list, and its rows."""

_ROWS: Final = 2
"""The level of the list of rows, which is a value of the whole."""

_FIELDS: Final = ("ID", "State", "Flag", "Enabled")
"""The fields of a row that are kept."""

_LONGEST: Final = 256 * 1024
"""The most bytes without an event: the parser would keep, and read again, a longer text."""

_OPENING: Final = frozenset(("start_map", "start_array"))
_CLOSING: Final = frozenset(("end_map", "end_array"))


class TableInvalid(Exception):
    """Raised when HSM's answer is not a table of components; the message says why."""


class TableParser:
    """An incremental parser of `{"Components":[{"ID":…,"State":…,"Flag":…,"Enabled":…},…]}`.

    The time that a portion takes depends only on its size. Other fields are ignored. A row without
    `ID` or `State` is skipped, as is a row in which one of the first three fields is not a string.
    A missing `Flag` counts as `OK`. Only an `Enabled` that is true means that the component is
    enabled.
    """

    def __init__(self, take: TakeRow) -> None:
        """Make a parser that calls `take` with each row."""
        self._take = take
        self._events: list[tuple[str, Any]] = ijson.sendable_list()
        # Not with use_float=True, by which integers of more than 64 bits are errors.
        self._parser = ijson.basic_parse_coro(self._events)
        self._level = 0
        self._in_rows = False
        self._key = ""
        self._row: dict[str, object] = {}
        self._found = False
        self._silent = 0

    @property
    def kept(self) -> int:
        """The number of fields that are in memory: those of the row parsed now, or parsed last."""
        return len(self._row)

    def feed(self, data: bytes) -> None:
        """Parse the next portion of HSM's answer.

        Raise `TableInvalid` if the answer can't be a table of components.
        """
        try:
            self._parser.send(data)
        except (ijson.JSONError, ValueError, SystemError) as error:
            # Python refuses numbers of thousands of digits, inside of the parser.
            raise TableInvalid(f"it is not JSON: {_first_line(error)}") from error
        self._silent = 0 if self._events else self._silent + len(data)
        if self._silent > _LONGEST:
            raise TableInvalid("a text in it is too long")
        for event, value in self._events:
            self._handle(event, value)
        self._events.clear()

    def end(self) -> None:
        """End the parsing after the last portion.

        Raise `TableInvalid` if the table is incomplete.
        """
        try:
            self._parser.close()
        except ijson.JSONError as error:
            raise TableInvalid("it is cut off") from error
        if not self._found:
            raise TableInvalid("it has no list of Components")

    def _handle(self, event: str, value: object) -> None:
        if event in _OPENING:
            self._level += 1
            if self._level > _DEEPEST:
                raise TableInvalid("it is nested too deeply")
            if self._level == _ROWS and event == "start_array" and self._key == "Components":
                self._in_rows = self._found = True
            elif self._level == _ROWS + 1:
                self._row = {}
            elif self._in_rows and self._level == _ROWS + 2 and self._key in _FIELDS:
                self._row[self._key] = None
        elif event in _CLOSING:
            self._level -= 1
            if self._in_rows and self._level == _ROWS:
                self._pass_on(self._row)
            elif self._level < _ROWS:
                self._in_rows = False
        elif event == "map_key":
            self._key = str(value)
        elif self._in_rows and self._level == _ROWS + 1 and self._key in _FIELDS:
            self._row[self._key] = value

    def _pass_on(self, row: dict[str, object]) -> None:
        name, state, flag = row.get("ID"), row.get("State"), row.get("Flag", "OK")
        if isinstance(name, str) and isinstance(state, str) and isinstance(flag, str):
            self._take(name, state, flag, row.get("Enabled") is True)


def _first_line(error: Exception) -> str:
    said = error.args[0] if error.args else error
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return (text.splitlines() or [""])[0][:200]
