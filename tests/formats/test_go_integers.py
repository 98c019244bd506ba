"""Integers in Go's base-0 syntax: which texts are valid, their values, and their range."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.formats.go_integers import parse_integer

# Go's prefixes with the base that each stands for; a bare leading zero means octal.
BASES = {"": 10, "0": 8, "0o": 8, "0O": 8, "0x": 16, "0X": 16, "0b": 2, "0B": 2}
DIGITS = "0123456789abcdefABCDEF"


def go_value(text: str) -> int | None:
    """Return what Go's `strconv.ParseInt(text, 0, 64)` does according to its documentation.

    "The base is implied by the string's prefix following the sign (if present): 2 for 0b, 8 for 0
    or 0o, 16 for 0x, and 10 otherwise. Also, for base 0 only, underscore characters are permitted
    as defined by the Go syntax for integer literals": one between two digits, or between the
    prefix and the first digit.
    """
    sign, text = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    prefix = max((p for p in BASES if text.startswith(p)), key=len)
    digits = text[len(prefix) :]
    if prefix == "0" and not digits:
        return 0
    base = BASES[prefix]
    if prefix:
        digits = digits.removeprefix("_")
    value = 0
    for part in digits.split("_"):
        if not part:
            return None
        for digit in part:
            if digit not in DIGITS or int(digit, 16) >= base:
                return None
            value = value * base + int(digit, 16)
    if sign == "-":
        value = -value
    return value if -(2**63) <= value < 2**63 else None


def parsed(text: str) -> int | None:
    """Return what `parse_integer` does for 64 bits; `None` if it raises `ValueError`."""
    try:
        return parse_integer(text, bits=64, signed=True)
    except ValueError:
        return None


@st.composite
def literals(draw: st.DrawFn) -> tuple[str, int]:
    """Generate a number and one of its many spellings."""
    value = draw(st.integers(-(2**63), 2**63 - 1))
    prefix = draw(st.sampled_from(sorted(BASES)))
    base = BASES[prefix]
    digits = format(abs(value), {2: "b", 8: "o", 10: "d", 16: "x"}[base])
    if base == 16 and draw(st.booleans()):
        digits = digits.upper()
    if prefix and base != 2:
        digits = "0" * draw(st.integers(0, 3)) + digits
    # Every gap before a digit may hold an underscore; before the first one only after a prefix.
    gaps = draw(st.lists(st.booleans(), min_size=len(digits), max_size=len(digits)))
    gaps[0] = gaps[0] and prefix != ""
    written = "".join("_" * gap + digit for gap, digit in zip(gaps, digits, strict=True))
    sign = "-" if value < 0 else draw(st.sampled_from(["", "+"]))
    return sign + prefix + written, value


class SyntaxTests(SynchronousTestCase):
    """Which texts are integers, and which ones."""

    def test_examples(self):
        """Integers in the spellings that clients are known to use are parsed."""
        for text, value in [
            ("83", 83),
            ("0", 0),
            ("-0", 0),
            ("+7", 7),
            ("0x53", 83),
            ("0XfF", 255),
            ("0b11", 3),
            ("0o7", 7),
            ("017", 15),
            ("00", 0),
            ("1_000", 1000),
            ("0_7", 7),
            ("0x_ff_ff", 65535),
            ("-5", -5),
            ("-0x10", -16),
        ]:
            self.assertEqual(parsed(text), value, text)

    def test_refused(self):
        """Texts that are not integers in Go are rejected, even if they are in Python."""
        for text in [
            "",
            "+",
            "-",
            "_",
            "_1",
            "1_",
            "1__0",
            "0_",
            "0x",
            "0x_",
            "0b",
            "0o",
            "0b2",
            "0o8",
            "08",
            "019",
            "0xg",
            "--5",
            "+-5",
            "- 5",
            " 5",
            "5 ",
            "5\n",
            "5\0",
            "1.0",
            "1e3",
            "1,000",
            "ff",
            "x10",
            "10h",
            "0x-5",
            "nid1",
            "\u0663",  # an Arabic digit three
            "\uff11",  # a full-width digit one
            "1\u066b0",
        ]:
            self.assertIsNone(parsed(text), repr(text))

    @settings(max_examples=300)
    @given(literals())
    def test_any_literal(self, literal):
        """A number is parsed in any base, case and grouping."""
        text, value = literal
        self.assertEqual(parsed(text), value)

    def test_all_short_texts(self):
        """Every text of up to four significant characters is parsed as Go parses it."""
        for length in range(5):
            for characters in product("+-_0179bBoxa", repeat=length):
                text = "".join(characters)
                self.assertEqual(parsed(text), go_value(text), repr(text))

    @settings(max_examples=200)
    @given(st.text())
    def test_any_text(self, text):
        """Any text is parsed or rejected as Go does it."""
        self.assertEqual(parsed(text), go_value(text))

    def test_endless_digits(self):
        """A text too long to be in range is rejected without being parsed."""
        for text in ("9" * 10_000_000, "0x" + "_f" * 5_000_000):
            self.assertIsNone(parsed(text))


class RangeTests(SynchronousTestCase):
    """The range of integers."""

    def test_limits(self):
        """The smallest and the largest integer of a width are valid, their neighbours are not."""
        for bits, signed, low, high in [
            (64, True, -(2**63), 2**63 - 1),
            (32, True, -(2**31), 2**31 - 1),
            (32, False, 0, 2**32 - 1),
            (16, False, 0, 65535),
        ]:
            for value in (low, high):
                self.assertEqual(parse_integer(str(value), bits=bits, signed=signed), value)
            for value in (low - 1, high + 1):
                with self.assertRaises(ValueError):
                    parse_integer(str(value), bits=bits, signed=signed)

    def test_longest(self):
        """The longest spellings of the extremes, with every digit grouped, are valid."""
        self.assertEqual(parsed("-0b" + "_1" + "_0" * 63), -(2**63))
        self.assertEqual(parsed("0b" + "_1" * 63), 2**63 - 1)

    def test_unsigned_takes_no_sign(self):
        """An unsigned integer with a sign is rejected, even `+1` and `-0`."""
        for text in ("-1", "+1", "-0", "+0"):
            with self.assertRaises(ValueError):
                parse_integer(text, bits=32, signed=False)
