"""The notes in the file of the store `sqlite:`; `IStore.notes` says what notes are.

All functions run in the store's thread, in a transaction of the caller.
"""

from collections.abc import Mapping
from typing import Any, Final

from hbtd.store.sqlite_log import text

# A file of the version before gets this table when it is opened, and that version ignores it.
NOTES_SCHEMA: Final = """CREATE TABLE IF NOT EXISTS note (
    kind TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID"""


def read(cursor: Any, kind: str) -> dict[str, str]:
    """Return all notes of a kind, as a dict from the notes' names to their texts."""
    cursor.execute(
        "SELECT CAST(name AS BLOB), CAST(text AS BLOB) FROM note WHERE kind = ? ORDER BY name",
        (kind,),
    )
    return {text(name): text(value) for name, value in cursor}


def write(cursor: Any, kind: str, notes: Mapping[str, str | None]) -> None:
    """Write notes of a kind, by name; delete each note whose text is `None`."""
    kept = [(kind, name, value) for name, value in notes.items() if value is not None]
    cursor.executemany("REPLACE INTO note (kind, name, text) VALUES (?, ?, ?)", kept)
    gone = [(kind, name) for name, value in notes.items() if value is None]
    cursor.executemany("DELETE FROM note WHERE kind = ? AND name = ?", gone)
