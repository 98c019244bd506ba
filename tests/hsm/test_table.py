"""HSM's table as it arrives."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.hsm.table import TableInvalid, TableParser

_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
_ROWS = st.lists(
    st.fixed_dictionaries(
        {"ID": _TEXTS, "State": _TEXTS, "Flag": _TEXTS, "Type": _TEXTS, "Enabled": st.booleans()}
    )
)


class ParserTests(SynchronousTestCase):
    """The parser of the table."""

    def parse(self, *portions: bytes) -> list[tuple[str, str, str, bool]]:
        """Return the rows in some portions; raise `TableInvalid` as the parser does."""
        rows: list[tuple[str, str, str, bool]] = []
        parser = TableParser(lambda *row: rows.append(row))
        for portion in portions:
            parser.feed(portion)
        parser.end()
        return rows

    @given(_ROWS, st.integers(1, 20))
    def test_portions(self, rows: list[dict[str, Any]], size: int) -> None:
        """The rows are the same whatever the portions in which they come."""
        data = orjson.dumps({"Components": rows})
        portions = [data[start : start + size] for start in range(0, len(data), size)]
        expected = [(row["ID"], row["State"], row["Flag"], row["Enabled"]) for row in rows]
        self.assertEqual(self.parse(*portions), expected)

    def test_skipped(self):
        """Rows that lack a text are skipped; other fields, and other lists, don't matter."""
        data: Any = {
            "Others": [{"ID": "x9", "State": "On"}],
            "Components": [
                {"ID": "x0", "State": "On", "Flag": "OK", "More": {"ID": "x7", "A": [{"ID": 1}]}},
                {"ID": "x1"},
                {"ID": 2, "State": "On"},
                {"State": "On"},
                {"ID": "x3", "State": None},
                {"ID": "x4", "State": "Off"},
                {"ID": "x5", "State": "On", "Flag": {"Flag": "OK"}},
                {"ID": "x6", "State": "On", "Flag": []},
            ],
            "Components2": [{"ID": "x8", "State": "On"}],
        }
        self.assertEqual(
            self.parse(orjson.dumps(data)),
            [("x0", "On", "OK", False), ("x4", "Off", "OK", False)],
        )

    def test_real(self):
        """A whole row of a real HSM says that the component is enabled; other values don't."""
        row = (
            b'{"ID":"x1000c0s0b0n0","Type":"Node","State":"Ready","Flag":"OK","Enabled":true,'
            b'"Role":"Compute","NID":1,"NetType":"Sling","Arch":"X86"}'
        )
        for value, enabled in ((b"true", True), (b"false", False), (b"null", False), (b"1", False)):
            rows = self.parse(b'{"Components":[' + row.replace(b"true", value) + b"]}\n")
            self.assertEqual(rows, [("x1000c0s0b0n0", "Ready", "OK", enabled)])

    def test_large_numbers(self):
        """A number of any size in another field harms no row."""
        for number in (b"9" * 100, b"-1.5e400", b"18446744073709551616"):
            data = b'{"Components":[{"ID":"x0","NID":' + number + b',"State":"On","Flag":"OK"}]}'
            self.assertEqual(self.parse(data), [("x0", "On", "OK", False)])

    def test_long(self):
        """A text without end is refused before it takes memory, and time for each portion."""
        parser = TableParser(lambda *_: None)
        parser.feed(b'{"Components":[{"ID":"')
        with self.assertRaisesRegex(TableInvalid, "too long"):
            for _ in range(10):
                parser.feed(b"x" * 65536)

    def test_many_fields(self):
        """Of a row without end only the fields that count are kept."""
        parser = TableParser(lambda *_: None)
        parser.feed(b'{"Components":[{')
        for number in range(100):
            parser.feed(b"".join(b'"f%d":1,' % (number * 100 + i) for i in range(100)))
        self.assertEqual(parser.kept, 0)

    def test_invalid(self):
        """What is no table is refused with a short reason, whatever it is."""
        for data in (
            b"",
            b"<html>",
            b"[]",
            b"{}",
            b'"Components"',
            b'{"Components":null}',
            b'{"Components":[{"ID":"x0","State":"On"}',
            b'{"Components":[]}{',
            b'{"Components":[{"ID":"\xff"}]}',
            b'{"Components":[{"ID":' + b"9" * 10_000 + b"}]}",
            b'{"Components":' + b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"a":' + b"[" * 20 + b"]" * 20 + b',"Components":[]}',
        ):
            error = self.assertRaises(TableInvalid, self.parse, data)
            self.assertLess(len(str(error)), 300)
            self.assertNotIn("\n", str(error))
