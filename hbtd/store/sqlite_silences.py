"""The table of long silences in the file of the store `sqlite:`.

All functions run in the store's thread, in a transaction of the caller. A hundred thousand silences
take about 5 MB.
"""

from collections.abc import Sequence
from typing import Any, Final

from hbtd.store.past import Noticed, SilencesThen, shortened
from hbtd.store.sqlite_log import text, write_rows
from hbtd.tracker.silences import LongSilence

# A file of the version before gets these tables when it is opened, and that version ignores them.
# The last silence is never deleted: the next number is the highest one plus one.
SILENCE_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS silence (
        number INTEGER PRIMARY KEY, component TEXT NOT NULL, ended REAL NOT NULL,
        seconds REAL NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS silence_whole (
        one INTEGER PRIMARY KEY CHECK (one = 1), since REAL NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS silence_noticed (
        since REAL PRIMARY KEY, missed REAL NOT NULL
    )""",
)


def keep(cursor: Any, silences: Sequence[LongSilence], noticed: Noticed, most: int) -> None:
    """Add silences to the table, and delete the oldest ones until no more than `most` are left.

    `noticed` is what the process says of the silences that it has noticed so far.
    """
    since, missed, lost = noticed
    cursor.execute("INSERT OR IGNORE INTO silence_whole VALUES (1, ?)", (since,))
    cursor.execute("REPLACE INTO silence_noticed VALUES (?, ?)", (since, missed))
    write_rows(
        cursor,
        "INSERT INTO silence (component, ended, seconds) VALUES {rows}",
        "(?, ?, ?)",
        silences,
    )
    (last,) = cursor.execute("SELECT ifnull(max(number), 0) FROM silence").fetchone()
    (dropped,) = cursor.execute(
        "SELECT max(ended) FROM silence WHERE number <= ?", (last - most,)
    ).fetchone()
    if dropped is not None:
        lost = max(lost, dropped)
        cursor.execute("DELETE FROM silence WHERE number <= ?", (last - most,))
    cursor.execute("UPDATE silence_whole SET since = ? WHERE since < ?", (lost, lost))
    (whole_since,) = cursor.execute("SELECT since FROM silence_whole").fetchone()
    said = _noticed(cursor)
    kept = shortened(said, whole_since)
    if kept != said:
        cursor.execute("DELETE FROM silence_noticed")
        rows = [(each.since, each.missed) for each in kept]
        cursor.executemany("INSERT INTO silence_noticed VALUES (?, ?)", rows)


def _noticed(cursor: Any) -> list[Noticed]:
    cursor.execute("SELECT since, missed FROM silence_noticed ORDER BY since")
    return [Noticed(since, missed) for since, missed in cursor]


def read(cursor: Any, since: float, least: float, after: int, most: int) -> SilencesThen:
    """Return a portion of the silences in the table, the oldest first; see `IStore.silences`."""
    cursor.execute(
        "SELECT number, CAST(component AS BLOB), ended, seconds FROM silence"
        " WHERE number > ? AND ended >= ? AND seconds >= ? ORDER BY number LIMIT ?",
        (after, since, least, most),
    )
    rows = cursor.fetchall()
    whole = cursor.execute("SELECT since FROM silence_whole").fetchone()
    return SilencesThen(
        [LongSilence(text(component), ended, seconds) for _, component, ended, seconds in rows],
        rows[-1][0] if len(rows) == most else None,
        None if whole is None else whole[0],
        _noticed(cursor),
    )
