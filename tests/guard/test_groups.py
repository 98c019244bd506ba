"""The file of `--groups`: what it means, and how it is refused."""

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.guard import groups as module
from hbtd.guard.groups import Groups, GroupsUnusable, parse_groups, read_groups
from tests.support.guard_memory import names


class ParseTests(SynchronousTestCase):
    """What a file of groups means."""

    def refusal(self, content: str | bytes) -> str:
        """Return why a file is refused."""
        data = content.encode() if isinstance(content, str) else content
        with self.assertRaises(GroupsUnusable) as raised:
            parse_groups(data, "/groups")
        said = str(raised.exception)
        self.assertTrue(said.isprintable(), said)
        return said

    def test_lines(self) -> None:
        """A line has a name and a nodeset; comments and empty lines are skipped."""
        groups = parse_groups(
            b"# PDUs\n\npdu-3  x1000c0s[0-1]b0n[0-3]   # left\r\n"
            b"\tX1000m0 x1000c1s0b0n0, x1000c1s0b0n1 x1000c1s1b0n0\n  # end",
            "/groups",
        )
        self.assertEqual(len(groups), 2)
        for xname in names("x1000c0s[0-1]b0n[0-3]"):
            self.assertEqual(groups.listing(xname), ("pdu-3",))
        for xname in names("x1000c1s0b0n[0-1],x1000c1s1b0n0"):
            self.assertEqual(groups.listing(xname), ("X1000m0",))
        self.assertEqual(groups.listing("x1000c0s2b0n0"), ())

    def test_union(self) -> None:
        """A group that is named on several lines lists what all of them list, each name once."""
        groups = parse_groups(b"a x1c0s0b0n0\nb x1c0s0b0n0\na x1c0s0b0n[0-1]", "/groups")
        self.assertEqual(len(groups), 2)
        self.assertEqual(groups.listing("x1c0s0b0n0"), ("a", "b"))
        self.assertEqual(groups.listing("x1c0s0b0n1"), ("a",))
        self.assertEqual(groups.too_small, ["a", "b"])

    def test_normal_form(self) -> None:
        """Names are compared in normal form."""
        groups = parse_groups(b"a X01000C0S0B0N00", "/groups")
        self.assertEqual(groups.listing("x1000c0s0b0n0"), ("a",))

    def test_small(self) -> None:
        """A group of one or two is accepted and known to be too small; a chassis is not small."""
        groups = parse_groups(
            b"one x1c0s0b0n0\ntwo x1c0s0b0n[0-1]\nthree x1c0s0b0n[0-2]\nslot x1c0s0\nrow x[1-2]",
            "/groups",
        )
        self.assertEqual(groups.too_small, ["one", "two"])

    def test_no_groups(self) -> None:
        """A file without groups is valid."""
        for content in (b"", b"# none yet\n"):
            self.assertEqual(len(parse_groups(content, "/groups")), 0)

    def test_refused(self) -> None:
        """A line that is no group is refused, with file and line, its fault, and what to do."""
        for line, why in (
            ("pdu", "'pdu' has no components; a nodeset follows it, such as"),
            ("pdu # x1c0s0b0n0", "'pdu' has no components"),
            ("p/u x1c0s0b0n0", "'p/u' is no name for a group; a name has up to 63 letters"),
            ("-pdu x1c0s0b0n0", "'-pdu' is no name for a group; a name has"),
            ("a" * 64 + " x1c0s0b0n0", "is no name for a group; a name has up to 63"),
            ("x1000c0s3 x1c0s0b0n0", "a slot, a chassis, a cabinet or the whole system"),
            ("x1000c0r3 x1c0s0b0n0", "which are failure domains already; choose another"),
            ("X01000c0 x1c0s0b0n0", "which are failure domains already"),
            ("x1000 x1c0s0b0n0", "which are failure domains already"),
            ("x99999 x1c0s0b0n0", "which are failure domains already"),
            ("s0 x1c0s0b0n0", "which are failure domains already"),
            ("all x1c0s0b0n0", "which are failure domains already"),
            ("pdu x1c0s0b0n[0-", "its nodeset is not valid: 'x1c0s0b0n[0-' has a bracket"),
            ("pdu x1c0s0b0n*", "there are no wildcards"),
            ("pdu @rack", "node groups (@) are not known"),
            ("pdu x1c0s0b0n0,nid[1-2]", "'nid1' is not an xname: correct it or leave it out"),
            ("pdu x1c0s0b0n0!x1c0s0b0n0", "names no component: delete the line"),
            ("pdu x[0-999]c[0-7]s[0-999]b0n0", "no more than 2,000,000 are allowed"),
            ("pdu x1c0s0b0n0\x1b", "its nodeset is not valid: 'x1c0s0b0n0\\x1b' has characters"),
            ("p\x1b x1c0s0b0n0", "'p\\x1b' is no name for a group"),
            (b"pdu x1c0s0b0n0\xe9", "it is not ASCII"),
        ):
            data = line if isinstance(line, bytes) else line.encode()
            said = self.refusal(b"# groups\na x1c0s0b0n[0-3]\n" + data)
            self.assertIn("line 3 of /groups is no group: ", said, line)
            self.assertIn(why, said, line)
            self.assertLess(len(said), 400)

    def test_comment_in_any_language(self) -> None:
        """A comment may have any characters."""
        groups = parse_groups("a x1c0s0b0n0 # Schaltschränke".encode(), "/groups")
        self.assertEqual(len(groups), 1)

    def test_too_many_groups(self) -> None:
        """More groups than allowed are refused; a further line of a known group is not."""
        lines = [f"g{number} x1c0s{number}b0n0" for number in range(10_000)]
        self.assertEqual(len(parse_groups("\n".join([*lines, lines[0]]).encode(), "/g")), 10_000)
        said = self.refusal("\n".join([*lines, "more x1c0s0b0n0"]))
        self.assertIn("line 10001 of /groups", said)
        self.assertIn("more than 10,000 groups: give fewer", said)

    def test_too_many_names(self) -> None:
        """All nodesets together have a most; repeated names count."""
        self.patch(module, "MOST_NAMES", 6)
        self.assertEqual(len(parse_groups(b"a x1c0s0b0n[0-2]\na x1c0s0b0n[0-2]", "/g")), 1)
        said = self.refusal("a x1c0s0b0n[0-2]\na x1c0s0b0n[0-2]\nb x1")
        self.assertIn("line 3 of /groups is no group: all groups together list more than 6", said)
        self.assertIn("list chassis or cabinets in place of their nodes", said)

    def test_too_many_of_one(self) -> None:
        """A name is in sixteen groups at most."""
        lines = [f"g{number} x1c0s0b0n0" for number in range(17)]
        self.assertEqual(len(parse_groups("\n".join(lines[:16]).encode(), "/g")), 16)
        said = self.refusal("\n".join(lines))
        self.assertIn("line 17 of /groups is no group: x1c0s0b0n0 is in 16 other groups", said)
        self.assertIn("leave it out of some", said)

    @given(st.binary() | st.text("ab x1c0s[-]#\n,!&^").map(str.encode))
    def test_any_content(self, content: bytes) -> None:
        """Any file is accepted, or refused in one printable line."""
        try:
            parse_groups(content, "/groups")
        except GroupsUnusable as error:
            self.assertTrue(str(error).isprintable())

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "c.d", "pdu-3"]),
                st.sets(st.sampled_from(names("x1c0s[0-3]b0n[0-3]")), min_size=1),
            )
        )
    )
    def test_any_groups(self, lines: list[tuple[str, set[str]]]) -> None:
        """Who is in which group is what the lines say, whatever overlaps."""
        content = "\n".join(f"{name} {','.join(sorted(members))}" for name, members in lines)
        read, made = parse_groups(content.encode(), "/groups"), Groups(lines)
        for xname in names("x1c0s[0-3]b0n[0-3]"):
            expected = {name for name, members in lines if xname in members}
            self.assertEqual({*read.listing(xname)}, expected)
            self.assertEqual({*made.listing(xname)}, expected)


class FileTests(SynchronousTestCase):
    """The file itself."""

    def test_read(self) -> None:
        """The groups of a file are read."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("pdu x1c0s0b0n[0-3]\n")
        self.assertEqual(read_groups(path).listing("x1c0s0b0n3"), ("pdu",))

    def test_unreadable(self) -> None:
        """A file that can't be read is refused by its name, a pipe without being opened."""
        pipe = self.mktemp()
        os.mkfifo(pipe)
        for path, why in (
            ("/nowhere", "No such file or directory"),
            ("/", "Is a directory"),
            (pipe, "it is no ordinary file"),
        ):
            with self.assertRaises(GroupsUnusable) as raised:
                read_groups(path)
            self.assertIn(f"{path} can't be read: {why}", str(raised.exception))

    def test_too_large(self) -> None:
        """A file that is too large is refused."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("# comment\n" * 20)
        self.assertEqual(len(read_groups(path)), 0)
        self.patch(module, "LARGEST_FILE", 100)
        self.assertRaises(GroupsUnusable, read_groups, path)
