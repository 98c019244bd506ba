"""Why requests fail, in words."""

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import RequestTransmissionFailed, ResponseNeverReceived

from hbtd.net.http_client import describe_failure

TLS = SSL.Error([("SSL routines", "", "certificate verify failed")])


class WhyTests(SynchronousTestCase):
    """Each reason has its words, however it is wrapped."""

    def test_words(self) -> None:
        """Connections' troubles speak for themselves, TLS's name options, others their kind."""
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
                self.assertTrue(describe_failure(wrapped, "--x_ca").startswith(words), describe_failure(wrapped, "--x_ca"))
