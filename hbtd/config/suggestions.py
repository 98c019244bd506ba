"""Suggestions for names that are misspelt: options, environment variables and parameters."""

from collections.abc import Iterable
from difflib import get_close_matches

_MOST_LETTERS = 64
"""The most characters of a name that is compared; no name is as long."""


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a question, in parentheses, about the one of `known` most like `name`.

    Neither case matters, nor whether words are joined by dashes or underscores. The suggestion is
    written behind `prefix`. If none of `known` is like the name, return an empty text.
    """
    folded = {_folded(each): each for each in known}
    found = get_close_matches(_folded(name[:_MOST_LETTERS]), folded, n=1, cutoff=0.7)
    return f" (did you mean {prefix}{folded[found[0]]}?)" if found else ""


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")
