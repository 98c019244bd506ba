"""The command `thresholds`."""

import json
from pathlib import Path
from typing import Any

from tests.support.hbtd_stand_in import CommandTestCase

ROWS: list[dict[str, Any]] = [
    {"Match": "x3000c0s[1-8]b0n0", "Warntime": 60, "Errtime": 180},
    {"Match": "NodeBMC", "Errtime": 120},
]
SHOWN = """\
MATCH              WARNTIME  ERRTIME  COMPONENTS
x3000c0s[1-8]b0n0  60        180      3
NodeBMC            -         120      3
"""


class ThresholdsTests(CommandTestCase):
    """What `thresholds` asks, prints, and exits with."""

    def file(self, text: str, encoding: str = "utf-8") -> str:
        """Return the path of a file with a text."""
        path = Path(self.mktemp())
        path.write_text(text, encoding)
        return str(path)

    def changes(self) -> list[Any]:
        """Return the bodies of the requests for changes."""
        return [body for method, _, _, body in self.hbtd.asked if method != "GET"]

    def test_show(self) -> None:
        """They are shown as a table, or as hbtd answers."""
        self.hbtd.thresholds = [{**row, "Components": 3} for row in ROWS]
        for words in ([], ["show"]):
            self.assertEqual(self.hbtctl("thresholds", *words), 0)
            self.assertEqual(self.out, SHOWN)
        self.assertEqual(self.hbtctl("thresholds", "-o", "json"), 0)
        self.assertEqual(json.loads(self.out), self.hbtd.thresholds)
        self.assertEqual(self.changes(), [])

    def test_none(self) -> None:
        """If there are none, only standard error says so."""
        self.assertEqual(self.hbtctl("thresholds"), 0)
        self.assertEqual(self.out, "")
        self.assertIn("no thresholds: all have the times that `hbtctl params` shows", self.err)
        self.assertEqual(self.hbtctl("thresholds", "-o", "json"), 0)
        self.assertEqual(self.out, "[]\n")

    def test_set(self) -> None:
        """The rows of a file, or of standard input, replace all that were there."""
        self.assertEqual(self.hbtctl("thresholds", "set", self.file(json.dumps(ROWS))), 0)
        self.assertEqual((self.out, self.err), (SHOWN, ""))
        self.assertEqual(self.hbtctl("thresholds", "set", "-", typed=json.dumps(ROWS[:1])), 0)
        self.assertEqual(self.changes(), [ROWS, ROWS[:1]])

    def test_clear(self) -> None:
        """All rows are removed."""
        self.hbtd.thresholds = ROWS
        self.assertEqual(self.hbtctl("thresholds", "clear"), 0)
        self.assertEqual((self.hbtd.thresholds, self.changes()), ([], [[]]))

    def test_doubtful(self) -> None:
        """What hbtd warns about, and rows that apply to nobody, are named on standard error."""
        said = '199 hbtd "No component of row 1 \\"a\\\\b\\"", 199 hbtd "Another"'
        rows = [{"Match": "x5", "Components": 0}, {"Match": "Node", "Components": 1}]
        self.hbtd.replies["/thresholds"] = (200, {"warning": said}, rows)
        self.assertEqual(self.hbtctl("thresholds", "set", self.file("[]")), 0)
        self.assertEqual(
            self.err.splitlines(),
            [
                'hbtctl: No component of row 1 "a\\b"',
                "hbtctl: Another",
                "hbtctl: row 1 (x5) applies to no component that is tracked",
            ],
        )

    def test_misused(self) -> None:
        """What can't be used is said in a line, and nothing is asked."""
        missing = str(Path(self.mktemp()))
        for words, said in (
            (
                ["set"],
                "hbtctl thresholds set: give the file with the rows, or - for standard input",
            ),
            (["clear", "x"], "hbtctl thresholds clear: no FILE"),
            (["set", missing], f"{missing} can't be used: No such file or directory"),
            (["set", self.file("{")], "can't be used: it is no JSON: Expecting property name"),
            (["set", self.file("\xff", "latin-1")], "can't be used: it is no JSON"),
        ):
            self.assertEqual(self.hbtctl("thresholds", *words), 2, words)
            self.assertIn(said, self.err)
        self.assertEqual(self.hbtd.asked, [])

    def test_refused(self) -> None:
        """The reason that hbtd gives is printed, and the exit status is that of a misuse."""
        problem = {"detail": "Row 1 matches 'nid1', which is neither an xname nor a type"}
        self.hbtd.replies["/thresholds"] = (400, {}, problem)
        self.assertEqual(self.hbtctl("thresholds", "set", self.file('[{"Match":"nid1"}]')), 2)
        self.assertIn("hbtd says: Row 1 matches 'nid1', which is", self.err)
