"""The drawing of samples."""

from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.soak.plot import PANELS, points, read, rounded, svg


class PlotTests(SynchronousTestCase):
    """What is drawn."""

    rows = [
        {"seconds": f"{30 * i}", "replicas-a.rss_mb": "" if i == 5 else f"{80 + i}"}
        for i in range(500)
    ]

    def test_drawing(self) -> None:
        """It has all titles, a line in parts where a process was down, and is small."""
        drawing = svg(self.rows)
        texts = {each.text for each in ElementTree.fromstring(drawing).iter()}
        self.assertLessEqual({panel.title for panel in PANELS}, texts)
        self.assertEqual(len(svg(self.rows[:10]).split('stroke-width="1.5"')), 3)
        self.assertLess(len(drawing), 100_000)
        self.assertNotIn("<rect", drawing)

    def test_empty(self) -> None:
        """Without samples it is a drawing still."""
        ElementTree.fromstring(svg([]))

    def test_points(self) -> None:
        """A line is parted where there is no value."""
        self.assertEqual(
            [len(part) for part in points(self.rows[:10], "replicas-a.rss_mb")], [5, 4]
        )
        self.assertEqual(points(self.rows, "other"), [])

    @given(value=st.floats(0.001, 1e6))
    def test_rounded(self, value: float) -> None:
        """An axis ends at a round number, not below what is drawn and not far above."""
        self.assertGreaterEqual(rounded(value), value * 0.999999)
        self.assertLessEqual(rounded(value), 2 * value * 1.000001)

    def test_cut(self) -> None:
        """The last line of a file that was cut off is left out."""
        path = Path(self.mktemp())
        path.write_text("seconds,a.rss_mb\r\n0,1\r\n30")
        self.assertEqual(read(path), [{"seconds": "0", "a.rss_mb": "1"}])
