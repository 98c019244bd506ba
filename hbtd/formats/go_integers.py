"""Integers in Go's base-0 syntax, as clients of the original hbtd write them.

The grammar is that of Go's `strconv.ParseInt(s, 0, bits)`: an optional sign, then decimal digits,
or `0x`, `0b`, `0o` or a bare `0` (octal) and digits of that base; single underscores may separate
digits from each other and from the prefix. Python's `int(s, 0)` differs: it rejects `017`, and
accepts white space around the number.
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

# 64 binary digits, each after an underscore, with a prefix and a sign. A longer text can be in
# range only if it is padded with zeros, and no known client does that.
_LONGEST = 131


def parse_integer(text: str, *, bits: int, signed: bool) -> int:
    """Return the integer that a text in Go's base-0 syntax denotes.

    Raise `ValueError` if the text does not have this syntax, or if the integer does not fit in
    `bits` bits. An unsigned integer must not have a sign, not even `+`, as for Go's `ParseUint`.
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
