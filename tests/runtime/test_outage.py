"""Outages and the pauses between retries."""

from itertools import cycle

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.backoff import Backoff
from hbtd.runtime.outage import FIRST_PAUSE, Outage


class OutageTests(SynchronousTestCase):
    """What is reported of trouble."""

    def setUp(self) -> None:
        self.said: list[str] = []
        self.clock = Clock()
        self.outage = Outage(self.said.append, lambda: self.said.append("over"), self.clock.seconds)

    def fail_for(self, seconds: int, *reasons: str) -> None:
        """Fail every second, for one reason after another, again and again."""
        for _, reason in zip(range(seconds), cycle(reasons), strict=False):
            self.outage.fail(reason)
            self.clock.advance(1)

    def test_once(self) -> None:
        """Trouble is reported once, however long it lasts, and so is its end."""
        self.fail_for(5000, "refused")
        self.outage.recover()
        self.outage.recover()
        self.assertEqual(self.said, ["refused", "over"])

    def test_another_cause(self) -> None:
        """A cause that changes is reported, also if it changes soon and then stays."""
        self.fail_for(1, "refused")
        self.fail_for(int(FIRST_PAUSE) - 1, "TLS fails")
        self.assertEqual(self.said, ["refused"])
        self.fail_for(5000, "TLS fails")
        self.assertEqual(self.said, ["refused", "TLS fails"])

    def test_changed(self) -> None:
        """The new cause of an outage is reported in other words, if there are any."""
        said = self.said
        outage = Outage(
            said.append, said.clear, self.clock.seconds, lambda why: said.append(f"now {why}")
        )
        outage.fail("refused")
        self.clock.advance(FIRST_PAUSE)
        outage.fail("TLS fails")
        self.assertEqual(said, ["refused", "now TLS fails"])

    def test_alternating(self) -> None:
        """Causes that alternate are reported once each, and then each every ten minutes at most."""
        self.fail_for(600, "refused", "timed out")
        self.assertEqual(self.said, ["refused", "timed out"])
        self.fail_for(6000, "refused", "timed out")
        self.assertIn(len(self.said), range(8, 2 * 6600 // 600))

    def test_all_differ(self) -> None:
        """Causes of which none is like another are reported more and more rarely."""
        self.fail_for(3600, *map(str, range(3600)))
        self.assertLess(len(self.said), 15)
        self.assertGreater(len(self.said), 5)

    def test_figures(self) -> None:
        """Reasons that differ only in figures are one cause."""
        for seconds in range(100):
            self.outage.fail(f"late by {seconds} s", "late")
            self.clock.advance(FIRST_PAUSE)
        self.outage.fail("refused")
        self.assertEqual(self.said, ["late by 0 s", "refused"])

    def test_next_outage(self) -> None:
        """What was reported in one outage is reported in the next, and as soon."""
        for _ in range(2):
            self.fail_for(int(FIRST_PAUSE), "refused")
            self.fail_for(1, "TLS fails")
            self.outage.recover()
        self.assertEqual(self.said, ["refused", "TLS fails", "over"] * 2)

    def test_reason(self) -> None:
        """The reason is that of the last failure, until it is over."""
        self.assertIsNone(self.outage.reason)
        self.outage.fail("refused")
        self.outage.fail("timed out")
        self.assertEqual(self.outage.reason, "timed out")
        self.outage.recover()
        self.assertIsNone(self.outage.reason)

    def test_no_trouble(self) -> None:
        """Where there was no trouble, nothing is reported as over."""
        self.outage.recover()
        self.assertEqual(self.said, [])

    def test_again(self) -> None:
        """The next trouble is reported anew."""
        self.outage.fail("refused")
        self.outage.recover()
        self.outage.fail("refused")
        self.assertEqual(self.said, ["refused", "over", "refused"])

    def test_reset(self) -> None:
        """Of another peer nothing is known: neither trouble nor its end is carried over."""
        self.outage.fail("refused")
        self.outage.reset()
        self.outage.recover()
        self.outage.fail("gone")
        self.assertEqual(self.said, ["refused", "gone"])


class BackoffTests(SynchronousTestCase):
    """The pauses between retries."""

    def test_grow(self) -> None:
        """Pauses grow up to a bound, and begin anew after a success."""
        backoff = Backoff(1.0, 2.0, lambda: 0.0)
        self.assertEqual([backoff.next() for _ in range(4)], [1.0, 1.5, 2.0, 2.0])
        self.assertEqual(backoff.failures, 4)
        backoff.reset()
        self.assertEqual(backoff.failures, 0)
        self.assertEqual(backoff.next(), 1.0)

    def test_jitter(self) -> None:
        """Up to half of the first pause is added at random."""
        backoff = Backoff(2.0, 2.0, cycle([0.0, 0.5, 1.0]).__next__)
        self.assertEqual([backoff.next() for _ in range(3)], [2.0, 2.5, 3.0])
