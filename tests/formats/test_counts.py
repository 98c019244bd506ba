"""Numbers of things in words."""

from twisted.trial.unittest import SynchronousTestCase

from hbtd.formats.counts import counted


class CountedTests(SynchronousTestCase):
    """`counted`."""

    def test_counted(self) -> None:
        """One thing is in the singular, none and several are in the plural."""
        self.assertEqual(
            [counted(count, "message") for count in (0, 1, 2, 1000)],
            ["0 messages", "1 message", "2 messages", "1000 messages"],
        )
        self.assertEqual(
            [counted(count, "entry was", "entries were") for count in (1, 2)],
            ["1 entry was", "2 entries were"],
        )
