"""Nodesets: expanded like ClusterShell does, and folded so that it expands them to the same."""

from time import process_time

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.formats.nodesets import NodesetError, expand, fold, natural_key, within

MOST = 100_000


def shell(text: str) -> set[str]:
    """Return the names that ClusterShell reads out of a nodeset."""
    return set(NodeSet(text, resolver=RESOLVER_NOGROUP))


numbers = st.integers(0, 12) | st.integers(0, 12000)
xnames = st.builds(
    lambda cabinet, rest: (
        f"x{cabinet}" + "".join(f"{c}{n}" for c, n in zip("csbn", rest, strict=False))
    ),
    numbers,
    st.lists(st.integers(0, 11), max_size=4),
)
names = xnames | st.from_regex(r"(nid|login-|n)[0-9]{1,6}", fullmatch=True) | st.just("head")


@st.composite
def ranges(draw):
    """Generate a list in brackets."""
    parts = []
    for first, more, step in draw(
        st.lists(
            st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(1, 4)),
            min_size=1,
            max_size=3,
        )
    ):
        width = draw(st.sampled_from([0, 3]))
        ends = f"{first:0{width}}-{first + more:0{width}}" if more else f"{first:0{width}}"
        parts.append(f"{ends}/{step}" if more and step > 1 else ends)
    return f"[{','.join(parts)}]"


terms = names | st.builds(
    lambda a, b, tail: f"x{a}c{b}{tail}", ranges(), ranges(), st.sampled_from(["", "s1", "s0b0n1"])
)


class FoldTests(SynchronousTestCase):
    """Names into a nodeset."""

    @given(st.lists(names, max_size=60))
    def test_clustershell(self, some: list[str]) -> None:
        """ClusterShell reads the same names out of the text, and so does hbtd, each once."""
        text = fold(some)
        self.assertEqual(shell(text), set(some))
        self.assertEqual(sorted(expand(text, MOST)), sorted(set(some)))

    def test_short(self) -> None:
        """Whole chassis and runs of numbers become one term, in natural order."""
        chassis = [f"x1000c7s{s}b{b}n{n}" for s in range(8) for b in (0, 1) for n in range(4)]
        self.assertEqual(fold(reversed(chassis)), "x1000c7s[0-7]b[0-1]n[0-3]")
        self.assertEqual(
            fold(["x10c0", "x9c0s10", "x9c0s2", "x10c2", "x10c1", "x10c5"]),
            "x9c0s[2,10],x10c[0-2,5]",
        )
        self.assertEqual(fold(["nid000009", "nid000011", "nid000010"]), "nid[000009-000011]")
        # Numbers that are filled up differently are in ranges of their own.
        self.assertEqual(fold(["n9", "n010", "n99", "n099", "n100"]), "n[9,010,99,099-100]")
        self.assertEqual(fold([]), "")


class ExpandTests(SynchronousTestCase):
    """A nodeset into names."""

    @given(
        terms,
        st.lists(st.tuples(st.sampled_from([",", "!", "&", "^", " , ", "!"]), terms), max_size=4),
    )
    def test_clustershell(self, first: str, rest: list[tuple[str, str]]) -> None:
        """All operators give what ClusterShell makes of them."""
        text = first + "".join(operator + term for operator, term in rest)
        self.assertEqual(set(expand(text, MOST)), shell(text))

    def test_white_space(self) -> None:
        """White space joins names as commas do, so that columns can be pasted."""
        self.assertEqual(list(expand(" x0\nx1 x2 ,x3\t", MOST)), ["x0", "x1", "x2", "x3"])
        self.assertEqual(list(expand("x[0, 1]", MOST)), ["x0", "x1"])
        self.assertEqual(list(expand("", MOST)), [])

    def test_limit(self) -> None:
        """The limit is the number of names, before any is made."""
        self.assertEqual(len(list(expand("x[0-9]c[0-7],x1", 81))), 81)
        for text in ("x[0-9]c[0-7],x1,x2", "x[0-999999999]", "x[0-9999]c[0-7]s[0-63]b[0-1]n[0-3]"):
            with self.assertRaisesRegex(NodesetError, "names; no more than 81 are allowed"):
                expand(text, 81)
        with self.assertRaisesRegex(NodesetError, "combines 10,001 names"):
            expand("x[0-9999]!x0", MOST)

    def test_many_operators(self) -> None:
        """Thousands of terms take no longer with other operators than joined by commas."""

        def seconds(operator: str) -> float:
            began = process_time()
            list(expand("x[0-4999]" + f"{operator}a" * 4990, MOST))
            return process_time() - began

        joined = min(seconds(",") for _ in range(3))
        for operator in "!^&":
            self.assertLess(min(seconds(operator) for _ in range(3)), 10 * joined, operator)

    def test_wrong(self) -> None:
        """What is wrong is said, in printable characters and few of them."""
        for text, said in (
            ("x[1", "a bracket without the other one"),
            ("x1]", "a bracket without the other one"),
            ("x[1-]", "no list of numbers in [1-]"),
            ("x[]", "no list of numbers in []"),
            ("x[[1]]", "a bracket without"),
            ("x[5-1]", "an empty range 5-1"),
            ("x[1-5/0]", "an empty range 1-5/0"),
            ("x[01-100]", "zeros at one end only"),
            ("x[0-1][2-3]", "side by side"),
            ("x[0-9999999999]", "no list of numbers"),
            ("@dead", "node groups (@)"),
            ("x0,@*", "node groups (@)"),
            ("x*", "no wildcards"),
            ("x0,,x1", "lacks a name next to ','"),
            ("x0,", "lacks a name next to ','"),
            ("!x0", "lacks a name next to '!'"),
            ("x\x1b]0;\x07", "bracket"),
            ("x\u202e", "characters that are in no name"),
            ("x%s", "characters that are in no name"),
            ("[0-1]" + "a[0-1]" * 8, "more than 8 lists"),
            ("x" * 256, "more than 255 characters"),
            ("x" * 251 + "[0-1]", "names of more than 255 characters"),
            ("x0," * 30_000, "more than 65,536 characters"),
        ):
            with self.assertRaises(NodesetError, msg=text) as caught:
                expand(text, MOST)
            message = str(caught.exception)
            self.assertIn(said, message)
            self.assertTrue(message.isprintable() and message.isascii() and len(message) < 600)

    @given(st.text(alphabet="x0[]1-,/!&^ @c\n%", max_size=30))
    def test_any_text(self, text: str) -> None:
        """Any text is a nodeset or refused, and nothing else happens."""
        try:
            found = list(expand(text, 1000))
        except NodesetError:
            return
        self.assertLessEqual(len(found), 1000)
        if not any(sign in text for sign in " \n"):
            self.assertEqual(set(found), shell(text))


class OrderTests(SynchronousTestCase):
    """The natural order."""

    @given(st.lists(xnames))
    def test_numbers(self, some: list[str]) -> None:
        """Numbers are compared as numbers."""

        def parts(name: str) -> list[object]:
            fields = name.replace("x", " x ").replace("c", " c ").replace("s", " s ")
            fields = fields.replace("b", " b ").replace("n", " n ")
            return [int(field) if field.isdecimal() else field for field in fields.split()]

        self.assertEqual(sorted(some, key=natural_key), sorted(some, key=parts))

    @given(xnames, xnames)
    def test_within(self, name: str, group: str) -> None:
        """What is in a cabinet, chassis or slot follows it: the keys begin in the same way."""
        self.assertEqual(within(name, group), natural_key(name).startswith(natural_key(group)))

    def test_cabinets(self) -> None:
        """A cabinet does not contain the one whose name begins with its own."""
        self.assertTrue(within("x100c0", "x100"))
        self.assertFalse(within("x1000c0", "x100"))
        self.assertTrue(within("x100", "x100"))
