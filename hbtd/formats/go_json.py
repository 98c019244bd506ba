"""Fields of JSON objects, found in any case, as the original hbtd finds them."""

from collections.abc import Mapping, Sequence


def pick(source: Mapping[str, object], names: Sequence[str]) -> list[object]:
    """Return the values of some keys, in their order; `None` for those that are missing.

    Case does not matter. A key in exactly this case wins; otherwise the last one in any case does.
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
