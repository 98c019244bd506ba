"""Fields of JSON objects, looked up without regard to case, as in the original hbtd."""

from collections.abc import Mapping, Sequence


def pick(source: Mapping[str, object], names: Sequence[str]) -> list[object]:
    """Return an object's values for the keys `names`, in that order; `None` for a missing key.

    Case does not matter: `xname` matches `XName`. If several keys match, an exact match takes
    precedence; otherwise the last one does.
    """
    folded: dict[str, object] | None = None
    values = []
    for name in names:
        if name in source:
            values.append(source[name])
            continue
        if folded is None:  # only if needed: most clients use the exact case
            folded = {key.casefold(): value for key, value in source.items()}
        values.append(folded.get(name.casefold()))
    return values
