"""Tests of the rules of maintenance without I/O."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.rules.in_force import Entry, InForce
from hbtd.rules.maintenance import (
    AWAY,
    LONGEST,
    MAINTENANCE,
    End,
    Maintenance,
    MaintenanceRefused,
    key_of,
    parse,
    read_end,
    read_seconds,
    read_text,
)

_NOW = 1_800_000_000.0
_WEEK = 7 * 86400.0
_NAMES = [f"x0c0s0b0n{number}" for number in range(5)]


class EndTests(SynchronousTestCase):
    """Tests of what a request says about the end."""

    def refused(self, **fields: Any) -> str:
        """Return why an end is refused."""
        return str(self.assertRaises(MaintenanceRefused, read_end, fields, _NOW, _WEEK))

    def test_granted(self) -> None:
        """An end is given by seconds, by a time in any form, or by the return, with a limit."""
        for fields, until, back in (
            ({"For": 600}, _NOW + 600, False),
            ({"For": 0.5, "Until": None}, _NOW + 0.5, False),
            ({"For": _WEEK}, _NOW + _WEEK, False),
            ({"Until": _NOW + 5}, _NOW + 5, False),
            ({"Until": _NOW + _WEEK + 0.0005}, _NOW + _WEEK, False),
            ({"Until": str(int(_NOW) + 5)}, _NOW + 5, False),
            ({"Until": "2027-01-15T08:00:07Z"}, _NOW + 7, False),
            ({"Until": "2027-01-15T10:00:07+02:00"}, _NOW + 7, False),
            ({"Until": "back"}, _NOW + _WEEK, True),
            ({"Until": " Back", "For": 60}, _NOW + 60, True),
        ):
            self.assertEqual(read_end(fields, _NOW, _WEEK), End(_NOW, until, back), fields)

    def test_refused(self) -> None:
        """An end that is missing, past, too late or none at all is refused in one line."""
        for fields, why in (
            ({}, "An end is needed"),
            ({"For": None}, "An end is needed"),
            ({"For": 5, "Until": "2027-01-15T08:00:07Z"}, "can't both give the end"),
            ({"For": 0}, "more than 0"),
            ({"For": -5}, "more than 0"),
            ({"For": 1e-320}, "0.001 seconds at least"),
            ({"For": float("nan")}, "more than 0"),
            ({"For": float("inf")}, "more than 0"),
            ({"For": "600"}, "a number of seconds"),
            ({"For": True}, "a number of seconds"),
            ({"For": [1]}, "a number of seconds"),
            ({"For": _WEEK + 1}, "604800 s from now at most (--maintenance_max)"),
            ({"For": 10**300}, "604800 s from now at most"),
            ({"Until": "back", "For": _WEEK + 1}, "604800 s from now at most"),
            (
                {"Until": "2027-01-15T08:00:00Z"},
                "later than now, which is 2027-01-15T08:00:00.000Z",
            ),
            ({"Until": "-5m"}, "later than now"),
            ({"Until": 0}, "later than now"),
            ({"Until": "2027-02-15"}, "604800 s from now at most"),
            ({"Until": "tomorrow"}, 'must be "back", or a time'),
            ({"Until": "0000-13-45"}, 'must be "back", or a time'),
            ({"Until": 1e300}, 'must be "back", or a time'),
            ({"Until": True}, 'must be "back", or a time'),
            ({"Until": {}}, 'must be "back", or a time'),
        ):
            told = self.refused(**fields)
            self.assertIn(why, told, fields)
            self.assertNotIn("\n", told)

    def test_away(self) -> None:
        """A node says for how many seconds it will be away: some, and no more than allowed."""
        self.assertEqual(read_seconds({"For": 600}, 700.0), 600.0)
        for fields in ({}, {"For": 0}, {"For": "600"}, {"For": 700.1}, {"Until": "back"}):
            self.assertRaises(MaintenanceRefused, read_seconds, fields, 700.0)

    def test_texts(self) -> None:
        """A reason may be left out, is stripped, and has at most 256 characters."""
        self.assertEqual(read_text({}, "Reason"), "")
        self.assertEqual(read_text({"Reason": " a\n"}, "Reason"), "a")
        for bad in ("x" * 257, 5, ["x"]):
            self.assertRaises(MaintenanceRefused, read_text, {"Reason": bad}, "Reason")


class TextTests(SynchronousTestCase):
    """Tests of the texts in the store."""

    @given(
        st.sampled_from([MAINTENANCE, AWAY]),
        st.floats(0, 1e10),
        st.floats(1, LONGEST - 1),
        st.booleans(),
        st.text(max_size=10),
        st.text(max_size=10),
    )
    def test_round_trip(
        self, kind: str, at: float, seconds: float, back: bool, reason: str, by: str
    ) -> None:
        """Whatever is written is read again, as ASCII that every store takes."""
        wanted = Maintenance(
            kind, _NAMES[0], _NAMES[0], at, at + seconds, back, reason=reason, by=by
        )
        self.assertEqual(parse(kind, _NAMES[0], wanted.text()), wanted)
        self.assertTrue(wanted.text().isascii())
        self.assertEqual(key_of(wanted.id), (kind, _NAMES[0]))

    def test_broken(self) -> None:
        """A text that is none of a maintenance is not taken for one, and raises nothing."""
        good = '{"At":1,"Until":2,"Back":false,"Reason":"","By":"","XNames":"x0"}'
        self.assertIsNotNone(parse(MAINTENANCE, "a", good))
        for old, new in (
            (good, ""),
            (good, "[]"),
            (good, "null"),
            ('"At":1,', ""),
            ("1", "-1"),
            ("2", "1"),
            ("2", "NaN"),
            ("2", "Infinity"),
            ("2", "1e9"),
            ("2", f"1{'0' * 400}"),
            ("2", '"x"'),
            ("false", "0"),
            ('"Reason":""', '"Reason":null'),
            ('"x0"', '["x0"]'),
            ('"x0"', '""'),
        ):
            self.assertIsNone(parse(MAINTENANCE, "a", good.replace(old, new)), (old, new))

    @given(st.text(max_size=20))
    def test_any_text(self, text: str) -> None:
        """Whatever is in the store, reading it raises nothing."""
        parse(MAINTENANCE, "a", text)


_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["include", "exclude", "leave", "end"]),
        st.integers(0, 2),
        st.sets(st.sampled_from(_NAMES), min_size=1),
    ),
    max_size=40,
)


class InForceTests(SynchronousTestCase):
    """Tests of the maintenances that are in force."""

    @given(_ACTIONS)
    def test_equal(self, actions: list[tuple[str, int, set[str]]]) -> None:
        """Whatever overlaps, a component is in maintenance as long as one includes it."""
        in_force = InForce()
        # The second one ends with returns.
        entries = [
            Entry(Maintenance(MAINTENANCE, str(n), "x0", 0.0, 9.0 + n, n == 1), 0.0, 9.0 + n)
            for n in range(3)
        ]
        model: list[set[str]] = [set(), set(), set()]
        left: set[str] = set()
        for action, number, names in actions:
            before = set().union(*model)
            if action == "include":
                added = names - model[number] - (left if number == 1 else set())
                self.assertEqual(set(in_force.include(entries[number], names)), added)
                model[number] |= added
            elif action == "leave":
                for xname in names:
                    if xname in model[1]:
                        left.add(xname)
                    ended = in_force.leave(xname)
                    self.assertEqual(ended, [entries[1]] if xname in model[1] else [])
                model[1] -= names
            else:
                gone = model[number] if action == "end" else names
                free = in_force.exclude(entries[number], list(gone))
                model[number] = model[number] - gone
                self.assertEqual(set(free), before - set().union(*model))
            self.assertEqual([each.number for each in entries], [len(each) for each in model])
            self.assertEqual(len(in_force), len(set().union(*model)))
            for xname in _NAMES:
                found = [n for n, each in enumerate(model) if xname in each]
                self.assertEqual(xname in in_force, bool(found))
                self.assertEqual(
                    sorted(entries.index(each) for each in in_force.including(xname)), found
                )
                latest = in_force.latest(xname)
                self.assertIs(latest, entries[found[-1]] if found else None)
            self.assertEqual(entries[1].left, left)

    def test_return(self) -> None:
        """Whoever is silent for Warntime is back; whoever said so, after what was under way."""
        in_force = InForce()
        until_back = Entry(Maintenance(MAINTENANCE, "a", "x0", 0.0, 9.0, True), 100.0, 9.0)
        away = Entry(Maintenance(AWAY, "x1", "x1", 0.0, 9.0, True), 100.0, 9.0)
        timed = Entry(Maintenance(MAINTENANCE, "c", "x2", 0.0, 9.0, False), 100.0, 9.0)
        for entry, name in ((until_back, "x0"), (away, "x1"), (timed, "x2")):
            in_force.include(entry, [name])

        def is_return(name: str, at: float, last_heard: float) -> bool:
            return in_force.is_return(name, at, last_heard, lambda _: 10.0)

        self.assertFalse(is_return("x0", 200.0, 190.1))
        self.assertTrue(is_return("x0", 200.0, 190.0))
        self.assertTrue(is_return("x0", 100.0, float("-inf")))
        self.assertFalse(is_return("x1", 101.9, 50.0))
        self.assertTrue(is_return("x1", 102.0, 101.9))
        self.assertFalse(is_return("x2", 900.0, 100.0))
        self.assertFalse(is_return("x3", 900.0, 100.0))
