"""Fields of JSON objects, looked up without regard to case, as in the original hbtd."""

from collections.abc import Mapping, Sequence


def pick(source: Mapping[str, object], names: Sequence[str]) -> list[object]:
    """Return the values of the keys `names`, in this order, with `None` for each missing key.

    Keys match in upper and lower case. If several match, one that is exactly equal takes
    precedence; if none is, the last one does.
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
