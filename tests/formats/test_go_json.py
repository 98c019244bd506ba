"""Fields of JSON objects, found in any case."""

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.formats.go_json import pick

NAMES = ["Component", "Hostname", "NID", "Status", "Timestamp", "XNames", "Use_telemetry"]


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str]:
    """Generate a field's name, and the same in a mixture of cases."""
    name = draw(st.sampled_from(NAMES))
    upper = draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    cased = (c.upper() if up else c.lower() for c, up in zip(name, upper, strict=True))
    return name, "".join(cased)


def pick_one(source: dict[str, object], name: str) -> object:
    """Return the value of one field."""
    (value,) = pick(source, [name])
    return value


class PickTests(SynchronousTestCase):
    """Which values `pick` returns."""

    @settings(max_examples=100)
    @given(spellings())
    def test_any_case(self, spelling):
        """A field among others is found in any case."""
        name, written = spelling
        self.assertEqual(pick_one({"other": 1, written: "value", "more": 2}, name), "value")

    def test_exact_wins(self):
        """The exact case wins in any position."""
        for order in permutations(["Status", "status", "STATUS"]):
            self.assertEqual(pick_one({key: key for key in order}, "Status"), "Status")

    def test_exact_null_wins(self):
        """The exact case wins even if its value is null or empty."""
        for value in (None, ""):
            self.assertEqual(pick_one({"Status": value, "status": "up"}, "Status"), value)
            self.assertEqual(pick_one({"status": "up", "Status": value}, "Status"), value)

    def test_last_of_the_others(self):
        """Without the exact case the last one counts, as it does for equal names in JSON."""
        self.assertEqual(pick_one({"STATUS": 1, "status": 2}, "Status"), 2)
        self.assertEqual(pick_one({"status": 2, "STATUS": 1}, "Status"), 1)

    def test_missing(self):
        """A missing field is `None`; similar names are not the field."""
        for key in ("Statu", "Statuss", " Status", "Sta-tus", "", "S"):
            self.assertIsNone(pick_one({key: "up"}, "Status"))
        self.assertIsNone(pick_one({}, "Status"))

    def test_values_untouched(self):
        """A value of any type is returned unchanged."""
        values: list[object] = [0, False, 1.5, [], {"a": 1}, "", "text"]
        for value in values:
            self.assertIs(pick_one({"NId": value}, "NID"), value)

    def test_many(self):
        """Values are in the order of the names requested."""
        source = {"nid": 1, "Status": 2, "TIMESTAMP": 3}
        names = ["Timestamp", "NID", "Hostname", "Status"]
        self.assertEqual(pick(source, names), [3, 1, None, 2])
