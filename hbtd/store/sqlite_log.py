"""The log of transitions in the file of the store `sqlite:`.

All functions run in the store's thread, in a transaction of the caller. The names of components and
of replicas are stored only once, in the table `log_name`; entries refer to these names by number. A
million entries take about 110 MB.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from hbtd.store.past import TRIMMED, LogEntry
from hbtd.tracker.transitions import Judgement, Phase, Transition

# A file of the version before gets these tables when it is opened, and that version ignores them.
# An index has an entry's number, too, so `log_component` finds the last entry of a component.
# The last entry is never deleted: the next number is the highest one plus one.
LOG_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS log_name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE IF NOT EXISTS log (
        number INTEGER PRIMARY KEY, component INTEGER NOT NULL, what INTEGER NOT NULL,
        at REAL NOT NULL, timestamp TEXT NOT NULL, why TEXT NOT NULL, judge INTEGER NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS log_component ON log (component)",
    "CREATE INDEX IF NOT EXISTS log_at ON log (at)",
    """CREATE TABLE IF NOT EXISTS log_cursor (
        reader TEXT PRIMARY KEY, number INTEGER NOT NULL
    ) WITHOUT ROWID""",
)

# What an entry says, `what`, is the transition's place among these, and four times the phase's.
_TRANSITIONS: Final = tuple(Transition)
_PHASES: Final = tuple(Phase)
_WHAT: Final = {
    (phase, transition): 4 * i + k
    for i, phase in enumerate(_PHASES)
    for k, transition in enumerate(_TRANSITIONS)
}

ROWS_PER_STATEMENT: Final = 100
"""The most rows that one SQL statement writes.

Between two statements, the store's thread and the reactor compete for the interpreter's lock, which
slows the reactor down. Therefore rows are not written one by one.
"""

# Texts are read as bytes: one that is not UTF-8 must not keep readers from what follows it.
ENTRIES: Final = (
    "SELECT number, CAST(named.name AS BLOB), what, at, CAST(timestamp AS BLOB),"
    " CAST(why AS BLOB), CAST(judges.name AS BLOB), silent FROM log"
    " LEFT JOIN log_name AS named ON named.id = component"
    " LEFT JOIN log_name AS judges ON judges.id = judge"
)
"""The beginning of an SQL statement that selects the columns which `as_entry` takes."""

_PORTION: Final = 1000
"""The most entries that are examined in one transaction that trims the log."""


def add_columns(cursor: Any) -> None:
    """Add to the table `log` the column `silent`, which files of earlier versions lack."""
    columns = [name for _, name, *_ in cursor.execute("PRAGMA table_info(log)").fetchall()]
    if "silent" not in columns:
        cursor.execute("ALTER TABLE log ADD COLUMN silent REAL")


def write_rows(cursor: Any, statement: str, row: str, rows: Sequence[Sequence[Any]]) -> None:
    """Execute an SQL statement for all of `rows`, with at most `ROWS_PER_STATEMENT` rows at a time.

    Each time, `{rows}` in the statement is replaced by copies of `row`, separated by commas: one
    copy for each of the rows that are written this time. `row` has one placeholder for each value
    of a row, such as `(?, ?)`.
    """
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        some = rows[start : start + ROWS_PER_STATEMENT]
        text = statement.replace("{rows}", ", ".join([row] * len(some)))
        cursor.execute(text, list(chain.from_iterable(some)))


def append(cursor: Any, judgements: Sequence[Judgement], judge: str) -> int:
    """Add an entry for each judgement to the log; return the number of the log's last entry.

    `judge` is the host and port of the replica that made the judgements.
    """
    last = last_number(cursor)
    names = [(judge,)] if judgements else []
    names += [(each.component,) for each in judgements]
    write_rows(cursor, "INSERT OR IGNORE INTO log_name (name) VALUES {rows}", "(?)", names)
    rows = [
        (
            number,
            j.component,
            _WHAT[j.before, j.transition],
            j.at,
            j.timestamp,
            j.why,
            judge,
            j.silent,
        )
        for number, j in enumerate(judgements, last + 1)
    ]
    write_rows(
        cursor,
        "INSERT INTO log (number, component, what, at, timestamp, why, judge, silent)"
        " SELECT column1,"
        " (SELECT id FROM log_name WHERE name = column2), column3, column4, column5, column6,"
        " (SELECT id FROM log_name WHERE name = column7), column8 FROM (VALUES {rows})",
        "(?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    return last + len(judgements)


def last_number(cursor: Any) -> int:
    """Return the number of the last entry of the log; 0 if there is none."""
    (last,) = cursor.execute("SELECT ifnull(max(number), 0) FROM log").fetchone()
    return int(last)


def count_entries(cursor: Any) -> int:
    """Return the number of entries in the log."""
    (count,) = cursor.execute("SELECT count(*) FROM log").fetchone()
    return int(count)


def read(cursor: Any, after: int, most: int) -> list[LogEntry]:
    """Return the first `most` entries of the log with numbers above `after`, in order."""
    cursor.execute(
        f"{ENTRIES} WHERE number > ? ORDER BY number LIMIT ?",
        (after, max(most, 0)),
    )
    return [as_entry(*row) for row in cursor.fetchall()]


def as_entry(
    number: int,
    component: bytes | None,
    what: int,
    at: float,
    timestamp: bytes,
    why: bytes,
    judge: bytes | None,
    silent: float | None,
) -> LogEntry:
    """Return the `LogEntry` for a row; the arguments are the columns that `ENTRIES` selects."""
    phase, transition = _PHASES[what // 4 % 4], _TRANSITIONS[what % 4]
    judgement = Judgement(
        text(component), transition, text(timestamp), phase, text(why), at, silent
    )
    return LogEntry(number, judgement, text(judge))


def text(value: bytes | None) -> str:
    """Return a text that was read from the file as UTF-8 bytes; "" for `None`.

    Invalid bytes become U+FFFD.
    """
    return (value or b"").decode("utf-8", "replace")


def read_cursor(cursor: Any, reader: str) -> int | None:
    """Return the cursor of a reader of the log, or `None` if the reader has none yet.

    The reader's cursor is the number of the last log entry that the reader has passed on. The
    argument `cursor` is that of a database connection.
    """
    cursor.execute("SELECT number FROM log_cursor WHERE reader = ?", (reader,))
    row = cursor.fetchone()
    return None if row is None else int(row[0])


def move_cursor(cursor: Any, reader: str, number: int) -> None:
    """Set the cursor of a reader, which has passed on the log's entries up to `number`.

    The argument `cursor` is that of a database connection, not that of the reader.
    """
    cursor.execute("REPLACE INTO log_cursor (reader, number) VALUES (?, ?)", (reader, number))


def trim_portion(
    cursor: Any, column: str, low: float, high: float, told: int, most: int
) -> tuple[float | None, int]:
    """Delete log entries whose `column` (`at` or `number`) is above `low` and below `high`.

    Each call examines about 1000 of these entries, in ascending order of `column`, and deletes at
    most `most` of them. Entries with numbers above `told`, and the last entry of each component,
    are not deleted.

    Return two values: the `low` for the next call, or `None` if there are no more entries to
    examine; and the number of entries that were deleted.
    """
    most = min(most, _PORTION)  # any number of entries may be of the same time
    where = f"{column} > ? AND {column} < ?"
    cursor.execute(
        f"SELECT {column} FROM log WHERE {where} ORDER BY {column} LIMIT 1 OFFSET ?",  # noqa: S608
        (low, high, _PORTION - 1),
    )
    row = cursor.fetchone()
    end, how = (high, "<") if row is None else (row[0], "<=")
    cursor.execute(
        f"""SELECT number FROM log AS old WHERE {column} > ? AND {column} {how} ? AND number <= ?
            AND EXISTS (
                SELECT 1 FROM log AS later INDEXED BY log_component
                WHERE later.component = old.component AND later.number > old.number
            ) ORDER BY {column} LIMIT ?""",  # noqa: S608
        (low, end, told, most),
    )
    numbers = cursor.fetchall()
    write_rows(cursor, "DELETE FROM log WHERE number IN ({rows})", "?", numbers)
    deleted = len(numbers)
    if deleted:
        (highest,) = max(numbers)
        move_cursor(cursor, TRIMMED, max(highest, read_cursor(cursor, TRIMMED) or 0))
    if deleted == _PORTION:
        return low, deleted
    return None if row is None else end, deleted
