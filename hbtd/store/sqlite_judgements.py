"""Reads the judgements in the file of the store `sqlite:`.

All functions run in the store's thread, in a transaction of the caller.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from hbtd.tracker.transitions import Judgement, Transition


class Undelivered(NamedTuple):
    """An undelivered judgement as it is stored in the file."""

    number: int
    """The judgement's number: judgements committed later have higher numbers."""
    component: str
    transition: Transition
    timestamp: str


def read_undelivered(cursor: Any, after: int, most: int) -> list[Undelivered]:
    """Return the first `most` undelivered judgements with numbers above `after`, in order."""
    cursor.execute(
        "SELECT number, component, transition, timestamp FROM judgement"
        " WHERE number > ? AND NOT delivered ORDER BY number LIMIT ?",
        (after, most),
    )
    return [Undelivered(number, x, Transition[kind], at) for number, x, kind, at in cursor]


def read_judgements(cursor: Any, of: Collection[Transition]) -> list[Judgement]:
    """Return the judgements whose transitions are in `of`, in the order of their commits."""
    marks = ", ".join("?" * len(of))
    cursor.execute(
        f"SELECT component, transition, timestamp FROM judgement WHERE transition IN ({marks})"  # noqa: S608
        " ORDER BY number",
        [each.name for each in of],
    )
    return [Judgement(xname, Transition[kind], at) for xname, kind, at in cursor]
