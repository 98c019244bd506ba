"""Times on the command line."""

from datetime import UTC, datetime

from twisted.trial.unittest import SynchronousTestCase

from hbtd.ctl.times import full_time

NOW = datetime(2026, 3, 1, 2, 30, 0, tzinfo=UTC)


class TimeTests(SynchronousTestCase):
    """Times of day become moments; hbtd reads all other times."""

    def test_time_of_day(self) -> None:
        """A time of day is the latest such moment, so it may be yesterday's."""
        self.assertEqual(full_time("02:30", NOW), "2026-03-01T02:30:00Z")
        self.assertEqual(full_time("02:30:01", NOW), "2026-02-28T02:30:01Z")
        self.assertEqual(full_time("00:00:59Z", NOW), "2026-03-01T00:00:59Z")

    def test_other_times(self) -> None:
        """Whatever else is said goes to hbtd as it is."""
        for text in (None, "-2h", "2026-03-01", "24:00", "1:2", "12:60", "2026-03-01T02:30:00Z"):
            self.assertEqual(full_time(text, NOW), text)
