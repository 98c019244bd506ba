"""What the leader shares of the guard with other replicas, and with the next process.

It is one setting of the store: the disruptions as `Guard.snapshot` returns them, with the numbers
of their members, and the latest statements. Every replica learns of each change at once. Its age is
counted by the clock of the replica that reads it, from when the change arrived, so that it does not
depend on anybody's wall clock; only for what a process finds at its start this is all there is.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from hbtd.guarding.statements import Statement, loaded, number, whole

KIND: Final = "guard"
"""The kind of the setting."""
NAME: Final = "state"
"""The name of the setting."""


class SharedState(NamedTuple):
    """The state of the guard that replicas share."""

    at: float = 0.0
    """The Unix time of the leader, in seconds, when it was written."""
    number: int = 0
    """The number of the last statement; 0 if there was none."""
    statements: Sequence[Statement] = ()
    """The latest statements, the earliest first."""
    disruptions: Sequence[Mapping[str, Any]] = ()
    """The disruptions, as in `Guard.snapshot`."""
    counts: Mapping[str, tuple[int, int]] = {}
    """Of each disrupted domain, how many of its components are away, and how many are living."""


def encode(state: SharedState) -> str:
    """Return the text of the setting."""
    value = {
        "at": state.at,
        "number": state.number,
        "statements": [each.saved() for each in state.statements],
        "disruptions": list(state.disruptions),
        "counts": state.counts,
    }
    return json.dumps(value, separators=(",", ":"))


def decode(text: str | None) -> SharedState:
    """Return the state in the text of the setting, without what is not valid in it."""
    try:
        value = json.loads(text or "{}")
        statements = [loaded(each) for each in value.get("statements", ())]
        disruptions = [each for each in value.get("disruptions", ()) if isinstance(each, dict)]
        return SharedState(
            number(value.get("at", 0.0)),
            whole(value.get("number", 0)),
            [each for each in statements if each is not None],
            disruptions,
            {x: (whole(n), whole(of)) for x, (n, of) in value.get("counts", {}).items()},
        )
    except (AttributeError, TypeError, ValueError):
        return SharedState()
