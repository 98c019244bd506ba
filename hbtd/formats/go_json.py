"""Looking up the fields of JSON objects the way the field's clients rely on: in any case."""

from collections.abc import Mapping, Sequence


def pick(source: Mapping[str, object], names: Sequence[str]) -> list[object]:
    """Find the values of some keys, whatever their case; `None` for those that are missing.

    A key of exactly this spelling wins over the others, of which the last one counts.
    """
    folded: dict[str, object] | None = None
    values = []
    for name in names:
        if name in source:
            values.append(source[name])
            continue
        if folded is None:  # once, and only if needed: most senders spell as we do
            folded = {key.casefold(): value for key, value in source.items()}
        values.append(folded.get(name.casefold()))
    return values
