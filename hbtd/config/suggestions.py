"""Suggestions for names that are misspelt: options, environment variables and parameters."""

from collections.abc import Iterable
from difflib import get_close_matches

_MOST_LETTERS = 64
"""The most characters of a name that is compared; no name is as long."""


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a question, in parentheses, about the one of `known` most like `name`.

    Case does not matter. The suggestion is written behind `prefix`. If none of `known` is like the
    name, return an empty text.
    """
    folded = {each.casefold(): each for each in known}
    found = get_close_matches(name[:_MOST_LETTERS].casefold(), folded, n=1, cutoff=0.7)
    return f" (did you mean {prefix}{folded[found[0]]}?)" if found else ""
