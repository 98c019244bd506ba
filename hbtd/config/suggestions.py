"""Suggestions for names that are misspelt: options, environment variables and parameters."""

from collections.abc import Iterable
from difflib import get_close_matches

_MOST_LETTERS = 64
"""The number of characters of a name that are compared; all known names are shorter."""


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a question, in parentheses, that suggests the known name most similar to `name`.

    Case does not matter. `prefix` is put before the suggestion. If no known name is similar, return
    an empty text.
    """
    folded = {each.casefold(): each for each in known}
    found = get_close_matches(name[:_MOST_LETTERS].casefold(), folded, n=1, cutoff=0.7)
    return f" (did you mean {prefix}{folded[found[0]]}?)" if found else ""
