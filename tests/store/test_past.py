"""Selections of components."""

from twisted.trial.unittest import SynchronousTestCase

from hbtd.store.past import EVERYTHING, Selection


class SelectionTests(SynchronousTestCase):
    """Which components are selected."""

    def test_under(self) -> None:
        """A component and its parts are under it; one whose number only begins alike is not."""
        selection = Selection(under="x1c1")
        found = [x for x in ("x1", "x1c1", "x1c10", "x1c1s0", "x1c1b0") if selection.includes(x)]
        self.assertEqual(found, ["x1c1", "x1c1s0", "x1c1b0"])

    def test_both(self) -> None:
        """Both conditions have to be met; without conditions all are selected."""
        selection = Selection({"x1c1", "x2"}, "x1")
        self.assertEqual(
            [selection.includes(x) for x in ("x1c1", "x2", "x1")], [True, False, False]
        )
        self.assertTrue(EVERYTHING.includes("x9") and EVERYTHING.everything)
        self.assertFalse(Selection(set()).everything)
