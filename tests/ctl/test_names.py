"""Names on the command line."""

from io import StringIO

from hypothesis import given
from hypothesis.strategies import integers, lists, sampled_from, text
from twisted.trial.unittest import SynchronousTestCase

from hbtd.ctl.names import hint, joined, portions


class NamesTests(SynchronousTestCase):
    """Names are joined, divided and folded."""

    def test_joined(self) -> None:
        """Several words are one nodeset."""
        self.assertEqual(joined(["x1c0", "nid[1-4],", ""], StringIO()), "x1c0,nid[1-4]")

    def test_standard_input(self) -> None:
        """The word - stands for the names on standard input."""
        stdin = StringIO("x1000c0s0b0n0\nx1000c0s1b0n0, x1000c0s2b0n0\n")
        self.assertEqual(
            joined(["-", "nid7"], stdin), "x1000c0s0b0n0,x1000c0s1b0n0,x1000c0s2b0n0,nid7"
        )

    def test_hint(self) -> None:
        """A place or a state in place of a component is explained; other names are not."""
        self.assertIn("--under x1000c7 ", hint("nid7,x1000c7"))
        self.assertIn("--under, with the name of one", hint("nid7,x[1000-1001]"))
        self.assertIn("--under, with the name of one", hint("x1000c[0,2-3]s0"))
        self.assertIn("--state dead", hint("dead"))
        self.assertEqual(hint("x1000c7s0b0n[0,2],nid[1-7]"), "")
        self.assertEqual(hint("x1000c7s0b0n0,nid7"), "")

    @given(lists(sampled_from(["x1c0", "nid[1-4,7]", "x[1-2]c[0,3]s0"])), integers(1, 40))
    def test_portions(self, names: list[str], longest: int) -> None:
        """Portions together have all names, and none is broken at a comma within brackets."""
        text = ",".join(names)
        found = list(portions(text, longest))
        self.assertEqual(",".join(found), text)
        for portion in found:
            self.assertEqual(portion.count("["), portion.count("]"))
            self.assertTrue(len(portion) <= longest or portion in names)

    @given(text(alphabet="ab,[]", max_size=30), integers(1, 10))
    def test_broken_names(self, names: str, longest: int) -> None:
        """What is no nodeset reaches hbtd with all its brackets, so that hbtd refuses it."""
        sent = "".join(portions(names, longest))
        self.assertEqual(sent.replace(",", ""), names.replace(",", ""))
