"""Descriptions of failed requests."""

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import RequestTransmissionFailed, ResponseNeverReceived

from hbtd.net.http_client import describe_failure

TLS = SSL.Error([("SSL routines", "", "certificate verify failed")])


class DescribeFailureTests(SynchronousTestCase):
    """How a failed request is described."""

    def test_described(self) -> None:
        """The root cause is described, for TLS with the options to check."""
        for error, words in (
            (ConnectionRefusedError("111"), "Connection was refused by other side: 111."),
            (ConnectionLost("gone"), "Connection to the other side was lost in a non-clean"),
            (DNSLookupError("no such host"), "DNS lookup failed: no such host."),
            (TLS, "TLS fails, see --x_ca: [('SSL routines', '', 'certificate verify failed')]"),
            (ValueError("odd"), "ValueError: odd"),
        ):
            for wrapped in (
                error,
                ResponseNeverReceived([Failure(error)]),
                RequestTransmissionFailed([Failure(ResponseNeverReceived([Failure(error)]))]),
            ):
                said = describe_failure(wrapped, "--x_ca")
                self.assertEqual(said[: len(words)], words)
