"""How long a server asks to wait, in `Retry-After`."""

from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from hbtd.net.retry_after import LONGEST, retry_after

NOW = 1.8e9


def asked(value: str | bytes, date: str | None = None) -> float:
    """Return the seconds that an answer asks to wait at `NOW`."""
    headers = Headers()
    headers.setRawHeaders(
        b"Retry-After", [value.encode("utf-8") if isinstance(value, str) else value]
    )
    if date is not None:
        headers.setRawHeaders(b"Date", [date.encode("utf-8")])
    return retry_after(headers, NOW)


class RetryAfterTests(SynchronousTestCase):
    """Seconds and dates."""

    def test_none(self) -> None:
        """Without the header nothing is asked for."""
        self.assertEqual(retry_after(Headers(), NOW), 0)

    def test_seconds(self) -> None:
        """Seconds count up to 30."""
        for value, seconds in (("0", 0), ("7", 7), (" 12 ", 12), ("30", 30), ("9" * 5000, 30)):
            self.assertEqual(asked(value), seconds)

    def test_date(self) -> None:
        """A date counts from the answer's own date, or else from now."""
        until = formatdate(NOW + 12, usegmt=True)
        self.assertEqual(asked(until), 12)
        self.assertEqual(asked(until, formatdate(NOW + 7, usegmt=True)), 5)
        self.assertEqual(asked(until, "yesterday"), 12)
        self.assertEqual(asked(formatdate(NOW + 3600, usegmt=True)), LONGEST)
        self.assertEqual(asked(formatdate(NOW - 3600, usegmt=True)), 0)

    def test_nonsense(self) -> None:
        """What can't be read asks for nothing."""
        for value in ("", "-5", "1.5", "soon", "\u0665", "Fri, 99 Jan 2027 08:00:12 GMT"):
            self.assertEqual(asked(value), 0, value)

    @given(st.one_of(st.text(), st.binary()), st.text())
    def test_anything(self, value: str | bytes, date: str) -> None:
        """Whatever a server sends, the time is from 0 to 30 seconds."""
        self.assertTrue(0 <= asked(value, date) <= LONGEST)
