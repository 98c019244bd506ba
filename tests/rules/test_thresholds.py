"""Tests of the table of thresholds."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.formats.nodesets import expand
from hbtd.formats.xnames import component_type, normalise
from hbtd.rules import thresholds
from hbtd.rules.thresholds import (
    MOST_BYTES,
    MOST_ROWS,
    PORTION,
    Row,
    Thresholds,
    ThresholdsRefused,
    build,
    build_at_once,
    doubts,
    parse,
    read,
)
from hbtd.tracker.cohorts import ORDINARY, Limits

_NAMES = [
    "x0c0s0b0n0", "x0c0s0b0n1", "x0c0s1b0n0", "x0c0s1b0n1", "x0c0s0b0", "x0c0s1b0", "x0c0b0", "x0",
]  # fmt: skip
_MATCHES = [
    "Node", "nodebmc", "ChassisBMC", "x0c0s0b0n0", "x0c0s[0-1]b0n[0-1]", "X0c0s00b0n1",
    "x0c0s0b0,x0c0b0", "x0c0s[0-1]b0!x0c0s0b0", "x0c0s0b0n0 x0c0s0b0n0",
]  # fmt: skip

_TIMES = st.none() | st.integers(1, 3)
_ROWS = st.lists(
    st.fixed_dictionaries(
        {"Match": st.sampled_from(_MATCHES), "Warntime": _TIMES, "Errtime": _TIMES}
    ),
    max_size=6,
)


def _table(*rows: Any) -> Thresholds:
    return build_at_once(parse(list(rows)))


def _first_match(rows: list[dict[str, Any]], xname: str) -> Limits:
    """Return the times of a component, as looking at each row finds them."""
    for row in rows:
        of_type = str(component_type(xname)).lower() == row["Match"].lower()
        if of_type or xname in map(normalise, expand(row["Match"], 99)):
            return Limits(row["Warntime"], row["Errtime"])
    return ORDINARY


class FirstMatchTests(SynchronousTestCase):
    """Tests of which row applies."""

    @settings(max_examples=300, deadline=None)
    @given(_ROWS)
    def test_first_match(self, rows: list[dict[str, Any]]) -> None:
        """A component has the times of the first row that matches it, however the table is made."""
        made = build_at_once(parse(rows))
        again = build_at_once(read(made.text))
        for xname in _NAMES:
            self.assertEqual(made.of(xname), _first_match(rows, xname))
            self.assertEqual(again.of(xname), made.of(xname))

    def test_nobody(self) -> None:
        """Without rows everybody has the times of the parameters, and the text is empty."""
        empty = _table()
        self.assertIs(empty.of(_NAMES[0]), ORDINARY)
        self.assertEqual((empty.text, empty.name_of(_NAMES[0]), read("")), ("", None, []))

    def test_one_object(self) -> None:
        """All components with the same times share one object, whatever row says so."""
        made = _table(
            {"Match": "x0c0s0b0n0", "Warntime": 5},
            {"Match": "Node", "Warntime": 5, "Errtime": None},
        )
        self.assertIs(made.of("x0c0s0b0n0"), made.of("x0c0s0b0n1"))

    def test_exception(self) -> None:
        """A row without times excepts components from the rows after it."""
        made = _table({"Match": "x0c0s0b0n0"}, {"Match": "Node", "Errtime": 60})
        self.assertEqual(made.of("x0c0s0b0n0"), ORDINARY)
        self.assertEqual(made.name_of("x0c0s0b0n0"), "x0c0s0b0n0")
        self.assertEqual(made.name_of("x0c0s0b0n1"), "Node")

    def test_long_name(self) -> None:
        """A row with a long nodeset has a short name for people."""
        made = _table({"Match": ",".join(f"x0c0s{n}b0n0" for n in range(100))})
        self.assertEqual(len(made.name_of("x0c0s99b0n0") or ""), 63)

    def test_looks_at_no_rows(self) -> None:
        """To find the times of a component takes two look-ups, however many rows there are."""
        rows = [{"Match": f"x{n}c0s0b0n0", "Warntime": n} for n in range(1, 100)]
        made = build_at_once(parse([*rows, {"Match": "Node", "Warntime": 100}]))
        looked: list[str] = []

        class Counting(dict[str, int]):
            def get(self, key: str, default: Any = None) -> Any:
                looked.append(key)
                return super().get(key, default)

        counting = Thresholds(made.rows, Counting(made._by_name), Counting(made._by_type))
        self.assertEqual(counting.of("x99c0s0b0n0").warntime, 99)
        self.assertEqual(counting.of("x100c0s0b0n0").warntime, 100)
        self.assertEqual(looked, ["x99c0s0b0n0", "Node", "x100c0s0b0n0", "Node"])


class RefusedTests(SynchronousTestCase):
    """Tests of tables that can't be used."""

    def refused(self, *rows: Any) -> str:
        error = self.assertRaises(ThresholdsRefused, _table, *rows)
        return str(error)

    def test_rows(self) -> None:
        """The message says which row is wrong, what is wrong, and what to do."""
        good = {"Match": "Node", "Warntime": 5}
        seconds = "it must be a whole number of seconds from 1 to 4294967295, or left out"
        for row, said in (
            ("Node", 'Row 2 is no JSON object such as {"Match":"NodeBMC",'),
            ({"Warntime": 5}, "Row 2 has no Match; give a nodeset of xnames, or a type"),
            ({"Match": " "}, "Row 2 has no Match; "),
            ({"Match": 5}, "Row 2 has no Match; "),
            ({"Match": "Node", "Errtme": 5}, "Row 2 has a field 'Errtme', which is not known; known"
             " are Match, Warntime, Errtime (did you mean Errtime?)"),
            ({"Match": "Node", "Errtime": 0}, f"Row 2 has Errtime '0'; {seconds}"),
            ({"Match": "Node", "Errtime": 2**32}, f"Row 2 has Errtime '4294967296'; {seconds}"),
            ({"Match": "Node", "Warntime": -5}, f"Row 2 has Warntime '-5'; {seconds}"),
            ({"Match": "Node", "Warntime": True}, f"Row 2 has Warntime 'True'; {seconds}"),
            ({"Match": "Node", "Warntime": 1.5}, f"Row 2 has Warntime '1.5'; {seconds}"),
            ({"Match": "Node", "Warntime": "soon"}, f"Row 2 has Warntime 'soon'; {seconds}"),
            ({"Match": "nid000083"}, "Row 2 matches 'nid000083', which is neither an xname nor"),
            ({"Match": "NodeBCM"}, "nor a type (did you mean NodeBMC?)"),
            ({"Match": "x0c0s0b0n0,Node"}, "Row 2 has the type Node in a nodeset; give it a row"),
            ({"Match": "x0c0s[0-b0"}, "Row 2 has no nodeset that can be used: 'x0c0s[0-b0' has a"),
            ({"Match": "@compute"}, "Row 2 has no nodeset that can be used: '@compute': node"),
            ({"Match": "x0!x0"}, "Row 2 has an empty nodeset, 'x0!x0'; name what it matches"),
            ({"Match": "all"}, "Row 2 matches 'all': the times of the whole machine are the"),
            ({"Match": "S0"}, "Row 2 matches 'S0': the times of the whole machine are the"),
            ({"Match": "x0\x1b[2J"}, "Row 2 "),
        ):  # fmt: skip
            message = self.refused(good, row)
            self.assertIn(said, message)
            self.assertTrue(message.isprintable() and message.isascii(), message)

    def test_no_list(self) -> None:
        """What is no list of rows is refused."""
        for value in (None, {}, "Node", {"Match": "Node"}):
            error = self.assertRaises(ThresholdsRefused, parse, value)
            self.assertIn("The body must be a JSON list of rows such as [{", str(error))

    def test_bounds(self) -> None:
        """As many rows and bytes as allowed are taken, one more is refused."""
        rows: list[dict[str, Any]] = [{"Match": f"x{n}c0s0b0n0"} for n in range(MOST_ROWS)]
        self.assertEqual(len(parse(rows)), MOST_ROWS)
        self.assertIn("There are 101 rows, and no more than 100", self.refused(*rows, rows[0]))
        for row in rows[:20]:
            row["Match"] = ",".join(["x0"] * 20_000)
        self.assertIn(f"no more than {MOST_BYTES:,} are allowed", self.refused(*rows))

    def test_most_names(self) -> None:
        """As many names as allowed are taken in all rows together, one more is refused."""
        self.patch(thresholds, "MOST_NAMES", 8)
        rows = [{"Match": "x0c0s[0-2]b0n0"}, {"Match": "x0c0s[0-4]b0n0"}]
        self.assertEqual(_table(*rows).row_of("x0c0s4b0n0"), 1)
        self.assertIn(
            "Row 3 has too many: with it, there are", self.refused(*rows, {"Match": "x0"})
        )

    def test_stored(self) -> None:
        """A text from the store that is no table is refused as well."""
        for text in ("{", "5", '[{"Match":5}]'):
            self.assertRaises(ThresholdsRefused, read, text)


class TakenTests(SynchronousTestCase):
    """Tests of tables that can be used, though they are written in other ways."""

    def test_as_shown(self) -> None:
        """What an answer shows of a row can be sent back, and numbers may be texts."""
        (row,) = parse([{"Match": "nodebmc", "Warntime": "0x14", "Components": 7, "Errtime": None}])
        self.assertEqual(row, Row("NodeBMC", Limits(20, None)))
        self.assertEqual(row.show(), {"Match": "NodeBMC", "Warntime": 20})

    def test_white_space(self) -> None:
        """Line breaks and other white space in a nodeset are kept as blanks."""
        (row,) = parse([{"Match": "\n x0c0s0b0n0\u2003x0c0s1b0n0\n"}])
        self.assertEqual(row.match, "x0c0s0b0n0 x0c0s1b0n0")

    def test_text(self) -> None:
        """The text that is stored is JSON, with the times in force only."""
        made = _table({"Match": "node", "Errtime": 60}, {"Match": "x0", "Warntime": 5})
        self.assertEqual(
            json.loads(made.text),
            [{"Match": "Node", "Errtime": 60}, {"Match": "x0", "Warntime": 5}],
        )

    def test_in_portions(self) -> None:
        """Others have their turns while the names of a table are looked at."""
        rows = parse([{"Match": f"x[0-{PORTION * 3 - 1}]"}, {"Match": "Node"}, {"Match": "x9"}])
        self.assertEqual(len(list(build(rows))), 5)

    def test_doubts(self) -> None:
        """There is a warning about each row by which nobody would be warned about."""
        rows = parse(
            [
                {"Match": "Node", "Warntime": 40},
                {"Match": "x0", "Errtime": 10},
                {"Match": "NodeBMC", "Warntime": 40, "Errtime": 41},
                {"Match": "CDU"},
            ]
        )
        self.assertEqual(
            doubts(rows, 10, 30),
            [
                "No component of row 1 (Node) is warned about before it is declared dead: Warntime"
                " is 40 s, Errtime 30 s",
                "No component of row 2 (x0) is warned about before it is declared dead: Warntime is"
                " 10 s, Errtime 10 s",
            ],
        )
        self.assertEqual(len(doubts(rows, 30, 30)), 2)

    def test_described(self) -> None:
        """Log lines say what each of the first rows matches, and its times."""
        rows = [{"Match": "Node", "Warntime": 5, "Errtime": 9}, {"Match": "CDU"}, {"Match": "x0"}]
        self.assertEqual(
            _table(*rows).described(2),
            "Node: Warntime 5 s, Errtime 9 s; CDU: the parameters; and 1 more",
        )
        self.assertEqual(_table().described(), "none")
