"""Outages and the pauses between retries."""

from itertools import cycle

from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.backoff import Backoff
from hbtd.runtime.outage import Outage


class OutageTests(SynchronousTestCase):
    """What is reported of trouble."""

    def setUp(self) -> None:
        self.said: list[str] = []
        self.outage = Outage(self.said.append, lambda: self.said.append("over"))

    def test_once(self) -> None:
        """Trouble is reported once with its first reason, and so is its end."""
        for reason in ("refused", "timed out"):
            self.outage.fail(reason)
        self.outage.recover()
        self.outage.recover()
        self.assertEqual(self.said, ["refused", "over"])

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
