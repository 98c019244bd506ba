"""Notices before certificates expire."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from hbtd.net.chains import Expiring, expiring_chain
from hbtd.net.expiry import NOTICES, ExpiryNotices, due_notice
from hbtd.net.served_certificate import serve_identity
from hbtd.net.tls import Identity
from tests.support.certificates import make_identity, old_root_chain

NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
HOUR = 3600.0


class RuleTests(SynchronousTestCase):
    """When a notice is due."""

    def test_rule(self) -> None:
        """A notice is due 30, 7 and 1 days before the expiry and after it, each once."""
        for left, due in ((31, None), (30, 30), (8, 30), (7, 7), (2, 7), (1, 1), (0.1, 1), (0, 0)):
            for before in (None, *NOTICES):
                expected = due if due is not None and (before is None or due < before) else None
                expires = NOW + timedelta(days=left)
                self.assertEqual(due_notice(expires, NOW, before), expected, (left, before))

    @given(st.floats(-10, 400), st.lists(st.floats(0, 50), max_size=30))
    def test_each_once(self, days: float, steps: list[float]) -> None:
        """However time passes, no notice comes twice, and none after a later one."""
        expires, now = NOW + timedelta(days=days), NOW
        last, notices = None, []
        for step in steps:
            now += timedelta(days=step)
            due = due_notice(expires, now, last)
            if due is not None:
                last = due
                notices.append(due)
        self.assertEqual(notices, sorted(set(notices), reverse=True))


class NoticeTests(SynchronousTestCase):
    """What is logged."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.began = datetime.now(timezone.utc)
        self.wrong = timedelta(0)
        """By how much the wall clock is wrong."""

    def watch(self, certificates: Sequence[Expiring]) -> None:
        """Start the notices of some certificates, a list that may change."""
        self.notices = ExpiryNotices(self.clock, lambda: certificates, self.now)
        self.notices.startService()
        self.addCleanup(self.notices.stopService)

    def now(self) -> datetime:
        """Return the time of the wall clock."""
        return self.began + timedelta(seconds=self.clock.seconds()) + self.wrong

    def lines(self, days: float, level: Any = None) -> list[str]:
        """Let days pass; return the lines that are logged, of one level if given."""
        with capturedLogs() as events:
            self.clock.pump([HOUR] * round(days * 24))
        return [
            eventAsText(event, includeTimestamp=False, includeSystem=False)
            for event in events
            if level is None or event["log_level"] is level
        ]

    def expiring(self, identity: Identity) -> list[Expiring]:
        """Return what hbtd says of a certificate that it serves."""
        return list(serve_identity(identity).expiring())

    def test_lines(self) -> None:
        """Each notice is logged with the date; a new certificate gets its own notices."""
        identity = make_identity("localhost", days=31)
        certificates = self.expiring(identity)
        self.watch(certificates)
        date = identity.expires.isoformat()
        expected = f"hbtd's certificate expires on {date}, in at most {{}} days."
        self.assertEqual(self.lines(0.9), [])
        self.assertEqual(self.lines(1), [expected.format(30)])
        self.assertEqual(self.lines(28), [expected.format(7)])
        self.assertEqual(self.lines(1, LogLevel.warn), [expected.format(1)])
        self.assertEqual(
            self.lines(3, LogLevel.error),
            [f"hbtd's certificate expired on {date}; clients no longer trust hbtd. Renew it."],
        )
        certificates[:] = self.expiring(make_identity("localhost", days=40))
        self.assertEqual(len(self.lines(7)), 3)

    def test_read_again(self) -> None:
        """A certificate that is read again gets no notice again, also if it is checked at once."""
        identity = make_identity("localhost", days=5)
        certificates = self.expiring(identity)
        with capturedLogs() as events:
            self.watch(certificates)
            certificates[:] = self.expiring(Identity(list(identity.chain), identity.key))
            self.notices.check()
        self.assertEqual(len(events), 1)

    def test_rest_of_the_chain(self) -> None:
        """The expiry of another certificate than hbtd's own is a warning, which names it."""
        server, _ = old_root_chain()
        with capturedLogs() as events:
            self.watch(self.expiring(server))
        texts = {
            event["what"]: event["log_level"] for event in events if event["log_format"] is not None
        }
        old = "Certificate 3 in the chain of hbtd's certificate (CN=root)"
        self.assertIs(texts[old], LogLevel.warn)
        (line,) = [
            eventAsText(e, includeTimestamp=False, includeSystem=False)
            for e in events
            if e["what"] == old
        ]
        self.assertIn(f"{old} expired on {server.chain[2].not_valid_after_utc.isoformat()}; ", line)
        self.assertIn("clients that don't have a newer one in its place no longer trust", line)

    def test_not_yet(self) -> None:
        """A certificate at the end of a chain that is not valid yet is a warning, once."""
        identity = make_identity("localhost", begins=1, days=100)
        self.watch(list(expiring_chain(identity.chain, "It", "", "")))
        begins = identity.chain[0].not_valid_before_utc.isoformat()
        with capturedLogs() as events:
            self.notices.check()
            self.notices.check()
        self.assertEqual(events, [])
        self.notices.stopService()
        with capturedLogs() as events:
            self.watch(list(expiring_chain(identity.chain, "It", "", "")))
        (event,) = events
        self.assertEqual(event["begins"], begins)
        self.assertIn("; this host's clock says ", eventAsText(event))
        self.assertEqual(self.lines(3), [])
        self.assertEqual(len(self.lines(66)), 0)
        self.assertEqual(len(self.lines(2)), 1)

    def test_clock_ahead(self) -> None:
        """After a time in which the clock was years ahead, the notices come when they are due."""
        self.wrong = timedelta(days=3650)
        with capturedLogs() as events:
            self.watch(self.expiring(make_identity("localhost", days=40)))
        self.assertEqual(len(events), 1)
        self.wrong = timedelta(0)
        self.assertEqual(len(self.lines(9)), 0)
        self.assertEqual(len(self.lines(29)), 2)
