"""Answers questions about the past from the log in the file of the store `sqlite:`.

All functions run in the store's thread. Each call examines only a portion of the log, so that the
store can carry out commits between two calls.
"""

from collections.abc import Sequence
from math import inf
from typing import Any, Final, NamedTuple

from hbtd.store.past import TRIMMED, LogEntry, Selection, Span, StateThen, state_then
from hbtd.store.sqlite_log import ENTRIES, as_entry, read_cursor, text

_FEW: Final = 200
"""The most components whose entries are searched for one component after the other."""

_NAME: Final = "CAST(name AS BLOB)"
"""A name as bytes: a name that is not UTF-8 must not make the other names unreadable."""

_IN_STATEMENT: Final = 500
"""The most names, or numbers, in one SQL statement."""

_PORTION: Final = 2000
"""The most entries, or components, that are examined in one call."""


class Place(NamedTuple):
    """How far a search of the log has come: the range of entries that it has yet to examine."""

    low: int
    """The lower bound of the range: the entries left to examine have higher numbers."""
    high: int
    """The upper bound of the range: the entries left to examine have lower numbers."""
    ids: frozenset[int] | None
    """The IDs, in the table `log_name`, of the components searched for; `None` for all."""


def begin(cursor: Any, span: Span, selection: Selection) -> Place:
    """Begin a search for the entries that `span` and `selection` select.

    Return the `Place` for the first call of `search`.
    """
    low, high = 0, 2**62
    if span.since > -inf:
        row = cursor.execute(
            "SELECT number FROM log WHERE at >= ? ORDER BY at, number LIMIT 1", (span.since,)
        ).fetchone()
        low = high if row is None else row[0] - 1
    if span.until < inf:
        row = cursor.execute(
            "SELECT number FROM log WHERE at < ? ORDER BY at DESC, number DESC LIMIT 1",
            (span.until,),
        ).fetchone()
        high = 0 if row is None else row[0] + 1
    if span.after is not None and span.newest_first:
        high = min(high, span.after)
    elif span.after is not None:
        low = max(low, span.after)
    return Place(low, high, _ids(cursor, selection))


def _ids(cursor: Any, selection: Selection) -> frozenset[int] | None:
    if selection.everything:
        return None
    if selection.names is not None:
        found = _named(cursor, list(selection.names))
    else:
        under = selection.under
        found = cursor.execute(
            f"SELECT id, {_NAME} FROM log_name WHERE name = ? OR (name >= ? AND name < ?)",  # noqa: S608
            (under, f"{under}:", f"{under}~"),
        ).fetchall()
    return frozenset(id for id, name in found if selection.includes(text(name)))


def _named(cursor: Any, names: Sequence[str]) -> list[tuple[int, bytes]]:
    """Return the ID and the name of each of `names` that is in the table `log_name`."""
    found: list[tuple[int, bytes]] = []
    for start in range(0, len(names), _IN_STATEMENT):
        some = names[start : start + _IN_STATEMENT]
        marks = ", ".join("?" * len(some))
        found += cursor.execute(
            f"SELECT id, {_NAME} FROM log_name WHERE name IN ({marks})",  # noqa: S608
            some,
        ).fetchall()
    return found


def search(cursor: Any, span: Span, place: Place, most: int) -> tuple[list[LogEntry], Place | None]:
    """Examine a portion of the entries in `place`; return those that match, up to `most`.

    An entry matches if it is in `span` and about a component in `place.ids`. The second value is
    the `place` for the next call, or `None` if the search is complete.
    """
    low, high, ids = place
    if low + 1 >= high or most <= 0 or (ids is not None and not ids):
        return [], None
    order = "DESC" if span.newest_first else "ASC"
    where, values, portion = "", [], min(_PORTION, most)
    if ids is not None and len(ids) <= _FEW:
        # One component after the other: SQLite sorts what it finds by number.
        marks = ", ".join("?" * len(ids))
        where, values = f"component IN ({marks}) AND ", sorted(ids)
    elif ids is not None:
        portion = _PORTION
    cursor.execute(
        f"SELECT number, component, at FROM log WHERE {where}number > ? AND number < ?"  # noqa: S608
        f" ORDER BY number {order} LIMIT ?",
        (*values, low, high, portion),
    )
    rows = cursor.fetchall()
    wanted = [
        number
        for number, component, at in rows
        if span.since <= at < span.until and (ids is None or component in ids)
    ][:most]
    found = _entries(cursor, wanted)
    if len(rows) < portion or len(wanted) >= most:
        return found, None
    last = rows[-1][0]
    return found, Place(low, last, ids) if span.newest_first else Place(last, high, ids)


def _entries(cursor: Any, numbers: list[int]) -> list[LogEntry]:
    found: dict[int, LogEntry] = {}
    for start in range(0, len(numbers), _IN_STATEMENT):
        some = numbers[start : start + _IN_STATEMENT]
        marks = ", ".join("?" * len(some))
        cursor.execute(f"{ENTRIES} WHERE number IN ({marks})", some)
        found.update((row[0], as_entry(*row)) for row in cursor.fetchall())
    return [found[number] for number in numbers]


def number_at(cursor: Any, at: float) -> tuple[int, bool]:
    """Return the number of the last log entry of a judgement made at the Unix time `at` or before.

    The number is 0 if there is no such entry. The second value says whether the log still has all
    entries with higher numbers, that is, whether none of these entries has been trimmed.
    """
    later = cursor.execute("SELECT 1 FROM log WHERE at > ? LIMIT 1", (at,)).fetchone()
    if later is None:
        row = cursor.execute("SELECT max(number) FROM log").fetchone()
    else:
        row = cursor.execute(
            "SELECT number FROM log WHERE at <= ? ORDER BY at DESC, number DESC LIMIT 1", (at,)
        ).fetchone()
    number = int(row[0] or 0) if row is not None else 0
    return number, number >= (read_cursor(cursor, TRIMMED) or 0)


def states(
    cursor: Any, number: int, selection: Selection, after: str, most: int
) -> tuple[list[StateThen], str | None]:
    """Return the states that components had when the log's last entry had the number `number`.

    Each call examines a portion of the components: the first ones after the name `after`, in the
    order of their names. It returns the states of at most `most` components that are selected. The
    second value is the last name that was examined, or `None` if there are no more components. If
    fewer than `most` states were returned, pass this name as `after` to the next call.
    """
    portion = min(_PORTION, max(most, 1)) if selection.everything else _PORTION
    full, last = False, ""
    if selection.names is not None and len(selection.names) <= _IN_STATEMENT:
        names = [x for x in selection.names if x > after and selection.includes(x)]
        ids = [id for id, _ in _named(cursor, names)]
    else:
        # Of very many names, those that the log has: to sort them all takes long, each time.
        low, end = after, "\U0010ffff"
        if selection.under:
            low, end = max(after, selection.under), f"{selection.under}~"
        # The component itself is not after its own name.
        how = ">=" if selection.under and low != after else ">"
        cursor.execute(
            f"SELECT id, {_NAME} FROM log_name WHERE name {how} CAST(? AS TEXT) AND name < ?"  # noqa: S608
            " ORDER BY name LIMIT ?",
            (low.encode("utf-8", "surrogateescape"), end, portion),
        )
        found = cursor.fetchall()
        full = len(found) == portion
        last = found[-1][1].decode("utf-8", "surrogateescape") if found else ""
        ids = [id for id, name in found if selection.includes(text(name))]
    picked: list[int] = []
    for start in range(0, len(ids), _IN_STATEMENT):
        some = ids[start : start + _IN_STATEMENT]
        marks = ", ".join("?" * len(some))
        cursor.execute(
            f"""SELECT ifnull(
                (SELECT max(number) FROM log INDEXED BY log_component
                 WHERE component = id AND number <= ?),
                (SELECT min(number) FROM log INDEXED BY log_component
                 WHERE component = id AND number > ?)
            ) FROM log_name WHERE id IN ({marks})""",  # noqa: S608
            (number, number, *some),
        )
        # A name that is no component's, but that of a judge, has no entry.
        picked += [each for (each,) in cursor.fetchall() if each is not None]
    then = [state_then(entry, number) for entry in _entries(cursor, picked)]
    chosen = [each for each in then if each is not None and selection.includes(each.component)]
    chosen.sort(key=lambda each: each.component)
    return chosen[:most], last if full else None
