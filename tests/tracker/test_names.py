"""Tests of sets and mappings of many names."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.names import NameDict, NameSet

_ACTIONS = st.lists(st.tuples(st.booleans(), st.sampled_from([f"x{n}" for n in range(9)])))


class NamesTests(SynchronousTestCase):
    """Tests against what Python has."""

    @given(_ACTIONS)
    def test_equal(self, actions: list[tuple[bool, str]]) -> None:
        """Whatever is added and removed, they have what a set and a dict of Python have."""
        names, values = NameSet(), NameDict[int]()
        expected: dict[str, int] = {}
        for number, (adds, name) in enumerate(actions):
            if adds:
                names.add(name)
                values[name] = expected[name] = number
            else:
                names.discard(name)
                if expected.pop(name, None) is not None:
                    del values[name]
            self.assertEqual((len(names), len(values)), (len(expected), len(expected)))
            for each in {name for _, name in actions}:
                self.assertEqual((each in names, each in values), (each in expected,) * 2)
                self.assertEqual(values.get(each, -1), expected.get(each, -1))
