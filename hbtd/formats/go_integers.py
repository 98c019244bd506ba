"""Integers as the field's clients write them: Go's base-0 syntax.

The grammar is that of Go's `strconv.ParseInt(s, 0, bits)`: an optional sign, then decimal, `0x`,
`0b`, `0o` or a bare leading `0` for octal, with single underscores between digits or after the
prefix. Python's own `int(s, 0)` differs: it refuses `017` and accepts blanks around the number.
"""

import re

_SYNTAX = re.compile(
    r"""(?P<sign>[+-]?)
    (?: 0[xX](?P<hex>(?:_?[0-9a-fA-F])+)
      | 0[bB](?P<bin>(?:_?[01])+)
      | 0[oO]?(?P<oct>(?:_?[0-7])+)
      | (?P<dec>0|[1-9](?:_?[0-9])*)
    )""",
    re.VERBOSE | re.ASCII,
)
_BASES = {"hex": 16, "bin": 2, "oct": 8, "dec": 10}

# 64 binary digits, each with an underscore before it, a prefix and a sign: nothing longer can be
# in range unless it is padded with zeros, which nobody does.
_LONGEST = 131


def parse_integer(text: str, *, bits: int, signed: bool) -> int:
    """Read an integer of at most `bits` bits.

    Raises `ValueError` when `text` is not of the syntax above or out of range. An unsigned one
    takes no sign at all, as Go's `ParseUint`.
    """
    match = _SYNTAX.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or (match["sign"] and not signed):
        raise ValueError("not an integer")
    base = match.lastgroup
    assert base is not None
    value = int(match[base].replace("_", ""), _BASES[base])
    if match["sign"] == "-":
        value = -value
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise ValueError("out of range")
    return value
