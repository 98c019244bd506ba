"""Looking up the fields of JSON objects the way the field's clients rely on: in any case."""

from collections.abc import Mapping


def pick(source: Mapping[str, object], name: str) -> object:
    """Find the value of a key, whatever its case; `None` if there is none.

    A key of exactly this spelling wins over the others, of which the last one counts.
    """
    if name in source:
        return source[name]
    folded = name.casefold()
    found: object = None
    for key, value in source.items():
        if key.casefold() == folded:
            found = value
    return found
