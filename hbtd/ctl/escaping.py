"""Escapes texts from hbtd before they are printed on a terminal.

Nodes choose their hostnames, statuses and timestamps. Such a text could move the terminal's cursor,
set its title, send input in the user's name, or look like another text. Every text from hbtd passes
through `shown` or `shown_json` before it is printed.
"""

import json
from typing import Any
from unicodedata import bidirectional, category

_LONGEST = 200


def shown(text: object, longest: int = _LONGEST) -> str:
    r"""Return a text for a terminal, in which invisible characters are escaped, as in `\x1b`.

    Control characters, invisible, combining and unassigned characters, and characters that are
    written from right to left or change the direction of writing are escaped. A text longer than
    `longest` characters is cut, and ends in `...`. `None` becomes the empty text.
    """
    plain = "" if text is None else str(text)
    if len(plain) > longest:
        plain = plain[: longest - 3] + "..."
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(char if _visible(char) else _escaped(char) for char in plain)


def shown_json(value: Any, indent: int | None = 2) -> str:
    """Return a value as JSON in printable ASCII, with `indent` spaces for each level of nesting.

    If `indent` is `None`, return a single line.
    """
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def _visible(char: str) -> bool:
    if char.isascii():
        return char.isprintable()
    return (
        char.isprintable()
        and category(char)[0] != "M"
        and bidirectional(char) not in ("R", "AL", "AN")
    )


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
