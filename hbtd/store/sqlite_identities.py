"""The host names and NIDs of components in the file of the store `sqlite:`.

All functions run in the store's thread, in a transaction of the caller.
"""

from collections.abc import Sequence
from typing import Any, Final

from hbtd.store.sqlite_log import text, write_rows
from hbtd.tracker.records import Identity

# A file of the version before gets this table when it is opened, and that version ignores it.
IDENTITY_SCHEMA: Final = """CREATE TABLE IF NOT EXISTS identity (
    component TEXT PRIMARY KEY, hostname TEXT NOT NULL, nid TEXT NOT NULL
) WITHOUT ROWID"""


def write(cursor: Any, identities: Sequence[Identity]) -> None:
    """Write identities, which replace the stored identities of the same components."""
    write_rows(
        cursor,
        "REPLACE INTO identity (component, hostname, nid) VALUES {rows}",
        "(?, ?, ?)",
        identities,
    )


def read(cursor: Any, after: str, most: int) -> Sequence[Identity]:
    """Return the identities of the first `most` components with names after `after`."""
    cursor.execute(
        "SELECT CAST(component AS BLOB), CAST(hostname AS BLOB), CAST(nid AS BLOB) FROM identity"
        " WHERE component > ? ORDER BY component LIMIT ?",
        (after, most),
    )
    # Texts are read as bytes: one that is not UTF-8 must not keep hbtd from starting.
    return [Identity(text(xname), text(hostname), text(nid)) for xname, hostname, nid in cursor]
