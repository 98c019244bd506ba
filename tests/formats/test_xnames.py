"""Xnames: the types of components, the normal form of names, and the range of each number."""

import re
from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.formats.xnames import COMPONENT_TYPES, component_type, normalise, parse


def as_hsm_does(name: str) -> str:
    """Normalise a name step by step, as HSM's documentation describes it."""
    runs = (
        (digits, "".join(run)) for digits, run in groupby(name.strip(), lambda c: c in "0123456789")
    )
    return "".join((run.lstrip("0") or "0") if digits else run for digits, run in runs).lower()


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str]:
    """Generate a valid name in normal form, and a careless spelling of it."""
    xname = draw(st.sampled_from([t.example for t in COMPONENT_TYPES if t.parent]))
    pieces = []
    for piece in re.findall("[0-9]+|[^0-9]", xname):
        zeros = "0" * draw(st.integers(0, 4)) if piece.isdigit() else ""
        pieces.append(zeros + (piece.upper() if draw(st.booleans()) else piece))
    blanks = st.text(" \t\r\n", max_size=3)
    return xname, draw(blanks) + "".join(pieces) + draw(blanks)


class TypeTests(SynchronousTestCase):
    """The table of types, and how a name's type is found."""

    def test_count(self):
        """There are 55 types, each with a name, an example and a pattern of its own."""
        self.assertEqual(len(COMPONENT_TYPES), 55)
        for column in ("name", "example", "pattern"):
            self.assertEqual(len({getattr(t, column) for t in COMPONENT_TYPES}), 55, column)

    def test_examples(self):
        """The example of a type is in normal form, and of that type only."""
        for kind in COMPONENT_TYPES:
            self.assertEqual(normalise(kind.example), kind.example)
            self.assertEqual(component_type(kind.example), kind.name)
            matching = [t.name for t in COMPONENT_TYPES if re.fullmatch(t.pattern, kind.example)]
            self.assertEqual(matching, [kind.name])

    def test_parents(self):
        """The parent of a type is a type, and following parents comes to an end."""
        parents = {t.name: t.parent for t in COMPONENT_TYPES}
        for name in parents:
            seen: list[str] = []
            inner: str | None = name
            while inner is not None:
                self.assertNotIn(inner, seen)
                seen.append(inner)
                inner = parents[inner]

    @settings(max_examples=150)
    @given(st.data())
    def test_whatever_a_pattern_allows(self, data):
        """A name that matches the pattern of a type is of that type, also in normal form."""
        kind = data.draw(st.sampled_from(COMPONENT_TYPES))
        name = data.draw(st.from_regex(kind.pattern, fullmatch=True).filter(lambda n: len(n) < 200))
        self.assertEqual(component_type(name), kind.name)
        xname = parse(name)
        assert xname is not None
        self.assertEqual(component_type(xname), kind.name)

    def test_boundaries(self):
        """Every bounded number is valid up to its bound only."""
        for stem, low, high in [
            ("x", 0, 9999),
            ("x1d", 0, 1),
            ("x1m", 0, 3),
            ("x1m0p", 0, 7),
            ("x1m0i", 0, 3),
            ("x1e", 0, 1),
            ("x1b", 0, 0),
            ("x1c", 0, 7),
            ("x1c0b", 0, 0),
            ("x1c0b0i", 0, 3),
            ("x1c0f", 0, 0),
            ("x1c0t", 0, 9),
            ("x1c0s0b0f", 0, 0),
            ("x1c0s0b0i", 0, 3),
            ("x1c0s0j", 1, 2),
            ("x1c0s0v", 1, 2),
            ("x1c0s0b0n0i", 0, 3),
            ("x1c0s0b0n0h", 0, 3),
            ("x1c0s0b0n0r", 0, 7),
            ("x1c0s0b0n0p", 0, 3),
            ("x1c0r0f", 0, 1),
            ("x1c0r0t0f", 0, 1),
            ("x1c0r0b0i", 0, 3),
            ("x1c0r0v", 1, 2),
            ("x1c0r0a", 0, 3),
            ("x1c0r0j1p", 0, 2),
            ("x1c0h1s", 1, 9),
            ("s", 0, 0),
        ]:
            for number in (low, high):
                self.assertIsNotNone(parse(f"{stem}{number}"), f"{stem}{number}")
            self.assertIsNone(parse(f"{stem}{high + 1}"))
            if low:
                self.assertIsNone(parse(f"{stem}{low - 1}"))

    def test_unbounded(self):
        """Unbounded numbers may be large; some of them start at 1."""
        for stem, first in [
            ("x1c0s", 0),
            ("x1c0s0b", 0),
            ("x1c0s0b0n", 0),
            ("x1c0s0b0n0v", 0),
            ("x1c0s0b0n0g0k", 0),
            ("x1c0r", 0),
            ("p", 0),
            ("p3.", 0),
            ("sms", 0),
            ("d", 0),
            ("x1m0p0j", 1),
            ("x1m0p0v", 1),
            ("x1c0w", 1),
            ("x1c0w1j", 1),
            ("x1c0h", 1),
            ("x1c0r0j", 1),
        ]:
            for number in (first, 10, 123456789):
                self.assertIsNotNone(parse(f"{stem}{number}"), f"{stem}{number}")
            if first:
                self.assertIsNone(parse(f"{stem}0"))

    def test_invalid(self):
        """Texts that are similar to names are invalid."""
        for name in [
            "",
            " ",
            "x",
            "1",
            "lettuce",
            "xx1",
            "x1c",
            "x1n0",
            "x1c0n0",
            "x1c0s0n0",
            "x1c0s0b0n",
            "x1c0s0b0n0n0",
            "x1c0s0b0n0 x",
            "x 1",
            "x1c0s0b0n-1",
            "x1c0s0b0n0\0",
            "x1,x2",
            "x1.0",
            "p1.",
            "p1.2.3",
            "nid000001",
            "all-comp",
            "x\uff11c0s0b0n0",  # a full-width digit one
            "x\u0661c0s0b0n0",  # an Arabic one
            "x1c0s0b0n0/../x2",
        ]:
            self.assertIsNone(parse(name), repr(name))

    def test_whole_name(self):
        """Only a whole name in normal form has a type, without anything before or after it."""
        self.assertEqual(component_type("x1c0s0b0n0"), "Node")
        for name in ("x1c0s0b0n0\n", " x1c0s0b0n0", "X1c0s0b0n0", "x1c0s0b0n0\u2028"):
            self.assertIsNone(component_type(name), repr(name))

    def test_too_long(self):
        """A very long name is rejected quickly."""
        for name in ("x1c0s" + "1" * 10_000_000, " " * 10_000_000, "0" * 10_000_000):
            self.assertIsNone(parse(name))


class NormalFormTests(SynchronousTestCase):
    """Two spellings of one name are one component."""

    def test_examples(self):
        """White space around a name, leading zeros and capitals are normalised."""
        for name, xname in [
            ("x1000c0s0b0n0", "x1000c0s0b0n0"),
            ("X1000C0S0B0N0", "x1000c0s0b0n0"),
            (" \tx1000c0s0b0n0\r\n", "x1000c0s0b0n0"),
            ("x0001c00s010b0n0", "x1c0s10b0n0"),
            ("x0000", "x0"),
            ("x000001", "x1"),
            ("P00.010", "p0.10"),
            ("ALL_SVC", "all_svc"),
            ("S00", "s0"),
        ]:
            self.assertEqual(normalise(name), xname)
            self.assertEqual(parse(name), xname)

    def test_zeros_that_stay(self):
        """Zeros within or at the end of a number stay, and a zero keeps one digit."""
        for name in ("x1000", "x10c0s100b0n0", "x0", "x101"):
            self.assertEqual(normalise(name), name)

    def test_invalid_after_normalising(self):
        """A name that is invalid in normal form is invalid in any spelling."""
        for name in ("x0000c8", " x10000 ", "X1C0W00", "x 1"):
            self.assertIsNone(parse(name))

    @settings(max_examples=200)
    @given(spellings())
    def test_one_component(self, spelling):
        """Careless spellings of a name are the same component."""
        xname, written = spelling
        self.assertEqual(parse(written), xname)

    @settings(max_examples=300)
    @given(st.one_of(st.text(), st.text(" \t0019axXcC._\u0661", max_size=12)))
    def test_as_hsm_does(self, text):
        """Any text is normalised as HSM does it."""
        self.assertEqual(normalise(text), as_hsm_does(text))

    @settings(max_examples=300)
    @given(st.one_of(st.text(), st.text(" \t0019axXcC._", max_size=12)))
    def test_normal_form_is_final(self, text):
        """Normalising a normal form changes nothing."""
        self.assertEqual(normalise(normalise(text)), normalise(text))
