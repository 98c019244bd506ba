"""Connections after trouble, cookies, and descriptions of failed requests."""

from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet.error import ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent, RequestTransmissionFailed, ResponseNeverReceived

from hbtd.net.bodies import read_body
from hbtd.net.http_client import BoundedPool, PlainAgent, describe_failure, root_cause
from tests.support.nameservers import Nameservers
from tests.support.web_servers import WebServers

UNTRUSTED = SSL.Error([("SSL routines", "", "certificate verify failed")])
PLAIN = SSL.Error([("SSL routines", "", "wrong version number")])
TLS = SSL.Error([("SSL routines", "", "no protocols available")])


class DescribeFailureTests(SynchronousTestCase):
    """How a failed request is described."""

    def test_described(self) -> None:
        """The root cause is described, for TLS with the options to check."""
        for error, words in (
            (ConnectionRefusedError("111"), "Connection was refused by other side: 111."),
            (ConnectionLost("gone"), "Connection to the other side was lost in a non-clean"),
            (DNSLookupError("no such host"), "DNS lookup failed: no such host."),
            (UNTRUSTED, "TLS fails, see --x_ca: none of its authorities has issued the server's"),
            (PLAIN, "TLS fails: the server answers without TLS; is http:// meant, not https://?"),
            (TLS, "TLS fails, see --x_ca: [('SSL routines', '', 'no protocols available')]"),
            (
                VerificationError(errors=[]),
                "TLS fails: the server's certificate names other hosts than the URL",
            ),
            (ValueError("odd"), "ValueError: odd"),
        ):
            for wrapped in (
                error,
                ResponseNeverReceived([Failure(error)]),
                RequestTransmissionFailed([Failure(ResponseNeverReceived([Failure(error)]))]),
            ):
                said = describe_failure(wrapped, "--x_ca")
                self.assertEqual(said[: len(words)], words)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class ConnectionTests(SynchronousTestCase):
    """What connections are used for."""

    def setUp(self) -> None:
        self.servers = Nameservers()
        self.web = WebServers(self.servers.clock)
        agent = Agent(self.servers.clock, pool=BoundedPool(self.servers.clock))
        self.http = HTTPClient(PlainAgent(agent))

    def get(self, *answer: bytes) -> str:
        """Make a request that is given an answer, in pieces; return how it ended."""
        asked = self.http.get(
            "http://192.0.2.1/", allow_redirects=False, unbuffered=True, reactor=self.servers.clock
        )
        asked.addCallback(lambda response: read_body(response, 1000))
        for piece in answer:
            self.web.answer(piece)
        said: bytes = self.successResultOf(asked)
        return said.decode()

    def test_kept(self) -> None:
        """A connection is used again after an answer that is not about the server's condition."""
        for status in (200, 204, 302, 400, 401, 403, 404, 409, 413, 422):
            body = b"" if status == 204 else b"Content-Length: 0\r\n"
            self.get(b"HTTP/1.1 %d Whatever\r\n%b\r\n" % (status, body))
        self.assertEqual(len(self.web.transports), 1)

    def test_not_now(self) -> None:
        """A connection is closed after an answer that says "not now", which is read to its end."""
        for count, status in enumerate((408, 421, 425, 429, 500, 502, 503, 504, 599), 1):
            self.get(OK)
            said = self.get(b"HTTP/1.1 %d Alas\r\nContent-Length: 3\r\n\r\nno" % status, b"!")
            self.assertEqual(said, "no!")
            self.assertEqual(len(self.web.transports), count)
            self.assertFalse(self.web.transports[-1].connected)

    def test_pieces(self) -> None:
        """How a status line is cut into pieces makes no difference."""
        whole = b"HTTP/1.1 503 Alas\nContent-Length: 3\n\nno!"
        for at in range(1, len(whole)):
            self.assertEqual(self.get(whole[:at], whole[at:]), "no!")
            self.assertEqual(len(self.web.transports), at)

    def test_interim(self) -> None:
        """What precedes the answer, such as early hints, makes no difference, nor do pieces."""
        whole = (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
            b"HTTP/1.1 503 Alas\r\nContent-Length: 3\r\n\r\nno!"
        )
        self.assertEqual(self.get(whole), "no!")
        for at in range(1, len(whole)):
            self.assertEqual(len(self.web.transports), at)
            self.assertFalse(self.web.transports[-1].connected)
            self.assertEqual(self.get(whole[:at], whole[at:]), "no!")

    def test_endless_interim(self) -> None:
        """A server that sends interim responses without an end is given up."""
        asked = self.http.get("http://192.0.2.1/", reactor=self.servers.clock)
        self.web.accept()
        for _ in range(3000):
            if self.web.transports[-1].connected:
                self.web.answer(b"HTTP/1.1 102 Wait\r\nX: 0123456789\r\n\r\n")
        error = root_cause(self.failureResultOf(asked).value)
        self.assertEqual(str(error), "a head of more than 65536 bytes")

    def test_idle(self) -> None:
        """Idle connections, which may lead to the same server, are closed as well."""
        first, second = (
            self.http.get("http://192.0.2.1/", reactor=self.servers.clock) for _ in range(2)
        )
        self.web.answer(OK, 0)
        self.web.answer(OK, 1)
        self.successResultOf(first)
        self.successResultOf(second)
        third = self.http.get("http://192.0.2.1/", reactor=self.servers.clock)
        self.web.answer(b"HTTP/1.1 503 Alas\r\nContent-Length: 0\r\n\r\n", 0)
        self.successResultOf(third)
        self.assertFalse(self.web.transports[1].connected)
        self.get(OK)
        self.assertEqual(len(self.web.transports), 3)

    def test_no_cookies(self) -> None:
        """Cookies are not kept, whatever a server or a gateway sets."""
        for count in range(3):
            self.get(
                b"HTTP/1.1 403 Log in\r\nSet-Cookie: session%d=x; Path=/\r\n"
                b"Content-Length: 0\r\n\r\n" % count
            )
        self.get(OK)
        self.assertNotIn(b"cookie", self.web.transports[0].value().lower())
