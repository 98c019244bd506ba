"""Thresholds: times of their own, in place of `warntime` and `errtime`, for some components.

Operators set a table of rows. Each row matches the components of a nodeset, or those of a type such
as `NodeBMC`, and has a warntime, an errtime, or both. The first row that matches a component
decides: what the row leaves out is the parameter's, and so are the times of a component that no row
matches.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

import orjson

from hbtd.config.suggestions import did_you_mean
from hbtd.config.value_types import SECONDS
from hbtd.formats import xnames
from hbtd.formats.nodesets import NodesetError, expand
from hbtd.tracker.cohorts import ORDINARY, Limits

MOST_ROWS: Final = 100
"""The most rows that a table may have."""

MOST_NAMES: Final = 1_000_000
"""The most names that all rows may have together; repeated names count each time."""

MOST_BYTES: Final = 1_000_000
"""The longest text of a table, in bytes; etcd takes values of 1.5 MiB."""

PORTION: Final = 1000
"""The most names that are handled before others have their turn: some milliseconds' worth."""

SHOWN_BY_ROWS: Final = "Components"
"""The field of a row that only answers have; where it is sent back, it is ignored."""

_FIELDS: Final = ("Match", "Warntime", "Errtime")
_EXAMPLE: Final = '{"Match":"NodeBMC","Warntime":20,"Errtime":60}'
_TYPES: Final = {each.name.lower(): each.name for each in xnames.COMPONENT_TYPES}
_WHOLE_MACHINE: Final = frozenset({"all", "s0", "system"})
_LONGEST_SHOWN: Final = 60


class ThresholdsRefused(ValueError):
    """Raised when a table can't be used; the message says which row is wrong, and what to do."""


class Row(NamedTuple):
    """A row of the table: which components it matches, and their times."""

    match: str
    """A nodeset, or a type in HSM's spelling."""
    limits: Limits
    """The times, in whole seconds; `None` for the parameter's."""

    def show(self) -> dict[str, object]:
        """Return the row as a JSON object; a time that is the parameter's is left out."""
        times = zip(_FIELDS[1:], self.limits, strict=True)
        return {_FIELDS[0]: self.match, **{k: v for k, v in times if v is not None}}

    @property
    def name(self) -> str:
        """What the row matches, for people: `match`, cut off after 60 characters."""
        cut = len(self.match) > _LONGEST_SHOWN
        return self.match[:_LONGEST_SHOWN] + "..." * cut


class Thresholds:
    """A table of thresholds, which finds the times of a component without looking at every row.

    It never changes.
    """

    __slots__ = ("_by_name", "_by_type", "_limits", "rows")

    def __init__(
        self,
        rows: Sequence[Row] = (),
        by_name: Mapping[str, int] | None = None,
        by_type: Mapping[str, int] | None = None,
    ) -> None:
        """Make a table; `build` finds the arguments.

        `by_name` has, by xname, the index of the first row whose nodeset has it; `by_type` the same
        by type. What is left out is empty.
        """
        self.rows = tuple(rows)
        """The rows, in order."""
        self._by_name = by_name or {}
        self._by_type = by_type or {}
        same: dict[Limits, Limits] = {}
        self._limits = [same.setdefault(row.limits, row.limits) for row in rows]

    def row_of(self, xname: str) -> int | None:
        """Return the index of the first row that matches a component; `None` if none does."""
        row = self._by_name.get(xname)
        if self._by_type:
            of_type = self._by_type.get(xnames.type_of_valid(xname))
            if of_type is not None and (row is None or of_type < row):
                return of_type
        return row

    def of(self, xname: str) -> Limits:
        """Return the times of a component, `xname` in normal form; `ORDINARY` if no row matches."""
        row = self.row_of(xname)
        return ORDINARY if row is None else self._limits[row]

    def name_of(self, xname: str) -> str | None:
        """Return what the row that applies to a component matches; `None` if no row does."""
        row = self.row_of(xname)
        return None if row is None else self.rows[row].name

    @property
    def text(self) -> str:
        """The table as `read` takes it, in JSON; empty if there are no rows."""
        return orjson.dumps([row.show() for row in self.rows]).decode() if self.rows else ""

    def described(self, most: int = 10) -> str:
        """Return the first `most` rows in a phrase, for log lines."""
        if not self.rows:
            return "none"
        said = [_describe(row) for row in self.rows[:most]]
        more = len(self.rows) - most
        return "; ".join(said) + (f"; and {more} more" if more > 0 else "")


NO_THRESHOLDS: Final = Thresholds()


def read(text: str) -> list[Row]:
    """Return the rows of `Thresholds.text`; raise `ThresholdsRefused` if the text is not one."""
    try:
        return parse(orjson.loads(text or "[]"))
    except orjson.JSONDecodeError as error:
        raise ThresholdsRefused(f"The thresholds are not JSON: {error}") from None


def parse(value: object) -> list[Row]:
    """Return the rows of a table, which was decoded from JSON; the nodesets are not looked at.

    Raise `ThresholdsRefused` if the value is no such table, or a larger one than is allowed.
    """
    if not isinstance(value, list):
        raise ThresholdsRefused(f"The body must be a JSON list of rows such as [{_EXAMPLE}]")
    if len(value) > MOST_ROWS:
        raise ThresholdsRefused(
            f"There are {len(value):,} rows, and no more than {MOST_ROWS} are allowed; join those"
            " with the same times in one nodeset"
        )
    rows = [_row(number, each) for number, each in enumerate(value, start=1)]
    size = len(Thresholds(rows).text.encode())
    if size > MOST_BYTES:
        raise ThresholdsRefused(
            f"The rows have {size:,} bytes, and no more than {MOST_BYTES:,} are allowed; fold the"
            " nodesets, or use types"
        )
    return rows


def _row(number: int, value: object) -> Row:
    if not isinstance(value, dict):
        _refuse(number, f"is no JSON object such as {_EXAMPLE}")
    for field in value:
        if field not in (*_FIELDS, SHOWN_BY_ROWS):
            known = f"known are {', '.join(_FIELDS)}{did_you_mean(field, _FIELDS)}"
            _refuse(number, f"has a field {_quoted(field)}, which is not known; {known}")
    match = value.get(_FIELDS[0])
    match = " ".join(match.split()) if isinstance(match, str) else ""
    if not match:
        _refuse(number, "has no Match; give a nodeset of xnames, or a type such as NodeBMC")
    if xnames.normalise(match) in _WHOLE_MACHINE:
        _refuse(
            number,
            f"matches {_quoted(match)}: the times of the whole machine are the parameters; change"
            " those by PATCH /params",
        )
    times = [_seconds(number, name, value.get(name)) for name in _FIELDS[1:]]
    return Row(_TYPES.get(match.lower(), match), Limits(*times))


def _seconds(number: int, name: str, value: object) -> int | None:
    if value is None:
        return None
    try:
        if not isinstance(value, int | str):
            raise ValueError("neither an integer nor the text of one")
        seconds: int = SECONDS.parse(str(value))
    except ValueError:
        _refuse(number, f"has {name} {_quoted(value)}; it must be {SECONDS.allowed}, or left out")
    return seconds


def build(rows: Sequence[Row]) -> Generator[None, None, Thresholds]:
    """Return a generator that finds the components of each row; it returns the table at its end.

    It yields now and then, after at most `PORTION` names, so that others can have their turns.
    Raise `ThresholdsRefused` if the nodeset of a row is none, names what is no xname, or is empty,
    or if there are more than `MOST_NAMES` names in all.
    """
    by_name: dict[str, int] = {}
    by_type: dict[str, int] = {}
    count = 0
    for index, row in enumerate(rows):
        if row.match.lower() in _TYPES:
            by_type.setdefault(row.match, index)
            continue
        before = count
        for xname in _names(index + 1, row.match):
            if count == MOST_NAMES:
                more = f"there are more than {MOST_NAMES:,} names; use types in place of nodesets"
                _refuse(index + 1, f"has too many: with it, {more}")
            by_name.setdefault(xname, index)
            count += 1
            if count % PORTION == 0:
                yield
        if count == before:
            _refuse(index + 1, f"has an empty nodeset, {_quoted(row.match)}; name what it matches")
        yield
    return Thresholds(rows, by_name, by_type)


def build_at_once(rows: Sequence[Row]) -> Thresholds:
    """Return the table that `build` makes, without a pause; raise the same exceptions."""
    building = build(rows)
    while True:
        try:
            next(building)
        except StopIteration as end:
            made: Thresholds = end.value
            return made


def _names(number: int, nodeset: str) -> Iterable[str]:
    """Yield the xnames in the nodeset of row `number`, in normal form."""
    try:
        names = expand(nodeset, MOST_NAMES)
    except NodesetError as error:
        _refuse(number, f"has no nodeset that can be used: {error}")
    for name in names:
        xname = xnames.parse(name)
        if xname is None:
            if name.lower() in _TYPES:
                _refuse(number, f"has the type {name} in a nodeset; give it a row of its own")
            meant = did_you_mean(name, _TYPES.values())
            _refuse(number, f"matches {_quoted(name)}, which is neither an xname nor a type{meant}")
        yield xname


def doubts(rows: Iterable[Row], warntime: float, errtime: float) -> list[str]:
    """Return warnings about rows that are valid, but probably a mistake.

    These are the rows by which nobody is warned about before being dead. `warntime` and `errtime`
    are the parameters.
    """
    said: list[str] = []
    for number, row in enumerate(rows, start=1):
        warned, dead = row.limits.over(warntime, errtime)
        if dead <= warned and row.limits != ORDINARY:
            said.append(
                f"No component of row {number} ({row.name}) is warned about before it is declared"
                f" dead: Warntime is {warned:.10g} s, Errtime {dead:.10g} s"
            )
    return said


def _describe(row: Row) -> str:
    times = [
        f"{name} {seconds} s"
        for name, seconds in zip(_FIELDS[1:], row.limits, strict=True)
        if seconds is not None
    ]
    return f"{row.name}: {', '.join(times) or 'the parameters'}"


def _quoted(value: Any) -> str:
    """Return a value in quotes, printable, and cut off if it is long."""
    text = str(value)
    cut = text[:_LONGEST_SHOWN] + "..." * (len(text) > _LONGEST_SHOWN)
    return f"'{cut.encode('unicode_escape').decode('ascii')}'"


def _refuse(number: int, why: str) -> NoReturn:
    raise ThresholdsRefused(f"Row {number} {why}")
