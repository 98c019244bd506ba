"""What nodes choose reaches a terminal only as text."""

from hypothesis import given
from hypothesis.strategies import characters, text
from twisted.trial.unittest import SynchronousTestCase

from hbtd.ctl.escaping import shown, shown_json


class ShownTests(SynchronousTestCase):
    """Texts for terminals."""

    def test_plain(self) -> None:
        """Letters of any script that is written from left to right stay as they are."""
        self.assertEqual(shown("nid000001 größer 東京"), "nid000001 größer 東京")

    def test_none(self) -> None:
        """What is not known is an empty text."""
        self.assertEqual(shown(None), "")

    def test_escapes(self) -> None:
        """Sequences of ESC, of 8-bit CSI and OSC, BEL, DEL and line ends become visible."""
        for hostile, safe in (
            ("\x1b[2Jx", r"\x1b[2Jx"),
            ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
            ("\x9b31m", r"\x9b31m"),
            ("\x9d0;title\x9c", r"\x9d0;title\x9c"),
            ("a\r\nb\tc", r"a\x0d\x0ab\x09c"),
            ("\x7f\x00", r"\x7f\x00"),
        ):
            self.assertEqual(shown(hostile), safe)

    def test_directions(self) -> None:
        """Marks and letters that change the direction of writing become visible."""
        self.assertEqual(shown("a\u202eb\u2066c\u200f"), r"a\u202eb\u2066c\u200f")
        self.assertEqual(shown("\u05d0\u0661"), r"\u05d0\u0661")

    def test_invisible(self) -> None:
        """Zero-width, combining, private and tag characters become visible."""
        self.assertEqual(shown("a\u200bb\u0301\ue000\U000e0041"), r"a\u200bb\u0301\ue000\U000e0041")

    def test_length(self) -> None:
        """A long text is cut before it is escaped."""
        self.assertEqual(shown("x" * 300), "x" * 197 + "...")
        self.assertEqual(shown("x" * 300, 1000), "x" * 300)

    @given(text(characters()))
    def test_any(self, hostile: str) -> None:
        """Whatever the text, nothing that is not printable comes out, nor more than one line."""
        out = shown(hostile)
        self.assertTrue(out.isprintable())
        self.assertNotIn("\x1b", out)
        self.assertEqual(len(out.splitlines()) <= 1, True)

    @given(text(characters()))
    def test_json(self, hostile: str) -> None:
        """JSON is printable ASCII, and still the same value."""
        import json

        out = shown_json({"Status": hostile}, None)
        self.assertTrue(out.isascii() and out.isprintable())
        self.assertEqual(json.loads(out), {"Status": hostile})
