"""The notes in the file of the store `sqlite:`; `IStore.notes` says what notes are.

All functions run in the store's thread, in a transaction of the caller.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hbtd.store.settings import Replacement, Setting
from hbtd.store.sqlite_log import text

_SETTING: Final = "setting/"
"""How the kind of a note begins that is a setting; the setting's kind follows."""

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


def read_settings(cursor: Any) -> list[Setting]:
    """Return all settings, which are kept like notes (`hbtd.store.settings`)."""
    cursor.execute(
        "SELECT CAST(kind AS BLOB), CAST(name AS BLOB), CAST(text AS BLOB) FROM note"
        " WHERE kind >= ? AND kind < ? ORDER BY kind, name",
        (_SETTING, f"{_SETTING[:-1]}0"),
    )
    rows = [(text(kind), text(name), text(value)) for kind, name, value in cursor]
    return [Setting(kind.removeprefix(_SETTING), name, value) for kind, name, value in rows]


def write_settings(cursor: Any, settings: Iterable[Setting]) -> None:
    """Write settings; remove those whose text is `None`."""
    for kind, name, value in settings:
        write(cursor, f"{_SETTING}{kind}", {name: value})


def replace_settings(cursor: Any, replacements: Iterable[Replacement]) -> list[bool]:
    """Write those settings that have the texts that they are expected to have; return which."""
    replaced: list[bool] = []
    for setting, before in replacements:
        cursor.execute(
            "SELECT CAST(text AS BLOB) FROM note WHERE kind = ? AND name = ?",
            (f"{_SETTING}{setting.kind}", setting.name),
        )
        row = cursor.fetchone()
        replaced.append((None if row is None else text(row[0])) == before)
        if replaced[-1]:
            write_settings(cursor, [setting])
    return replaced


def write(cursor: Any, kind: str, notes: Mapping[str, str | None]) -> None:
    """Write notes of a kind, by name; delete each note whose text is `None`."""
    kept = [(kind, name, value) for name, value in notes.items() if value is not None]
    cursor.executemany("REPLACE INTO note (kind, name, text) VALUES (?, ?, ?)", kept)
    gone = [(kind, name) for name, value in notes.items() if value is None]
    cursor.executemany("DELETE FROM note WHERE kind = ? AND name = ?", gone)
