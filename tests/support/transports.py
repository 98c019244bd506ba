"""Transports that are driven by hand, with the real service behind them."""

from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto

from hbtd.net.served_certificate import ClientFiles, serve_identity
from hbtd.net.tls import Identity
from hbtd.server.factory import ConnectionFactory
from tests.support.certificates import make_identity, write_identity
from tests.support.http_memory import XNAME, APITestCase, encode_request, head, parse_responses
from tests.support.socket_pairs import Pair, PlainClient, SocketReactor, TLSClient

GET = head("GET /v1/liveness")
DOCUMENT = head("GET /v1/openapi.json")
IDENTITY = make_identity("hbtd.example")


def client_context(
    identity: Identity | None = None, versions: tuple[int, int] | None = None
) -> Any:
    """Make the context of a client, with a certificate and the lowest and highest TLS version."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if identity is not None:
        context.use_certificate(crypto.X509.from_cryptography(identity.chain[0]))
        context.use_privatekey(crypto.PKey.from_cryptography_key(identity.key))
    if versions is not None:
        context.set_min_proto_version(versions[0])
        context.set_max_proto_version(versions[1])
    return context


LARGE = encode_request("POST", "/v1/hbstates", {"XNames": [XNAME] * 1000})
"""A request with an answer that is larger than a small socket takes at once."""


class Once:
    """Raises an exception when it is called first, and calls something from then on."""

    def __init__(self, error: Exception, function: Any) -> None:
        self._error: Exception | None = error
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """Call it, or raise."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._function(*args)


class TransportTestCase(APITestCase):
    """The real service behind transports that are driven by hand."""

    tls = False

    def setUp(self) -> None:
        """Start the service, and make a factory on a reactor of its own."""
        super().setUp()
        self.sockets = SocketReactor()
        self.served = serve_identity(IDENTITY)
        self.factory = self.make_factory()

    def make_factory(self) -> ConnectionFactory:
        """Make a factory that serves the service's site and lane."""
        listening = self.reactor.tcpServers[0][1]
        return ConnectionFactory(listening.site, listening.lane, self.sockets, tls=self.tls)

    def pair(self, make_client: Any = None, **options: Any) -> Pair:
        """Connect, over TLS if that is what is tested, and shake hands."""
        if make_client is None:
            make_client = TLSClient if self.tls else PlainClient
        pair = Pair(
            self.sockets, self.factory, make_client, self.served if self.tls else None, **options
        )
        self.addCleanup(pair.close)
        pair.settle()
        return pair

    def statuses(self, pair: Pair) -> list[int]:
        """Return the statuses of the answers that a client has received."""
        return [each.status for each in parse_responses(pair.client.received)]

    def refused(self, reason: str) -> int:
        """Return how many refusals were counted for a reason."""
        return self.service.access.refusals.counts[reason]


class NotedTestCase(TransportTestCase):
    """TLS with one authority of client certificates; what is refused is noted."""

    tls = True

    def setUp(self) -> None:
        """Trust the authority."""
        super().setUp()
        self.authority = make_identity("authority")
        cert, _ = write_identity(self.authority, Path(self.mktemp()))
        self.served = serve_identity(IDENTITY, ClientFiles(str(cert)))
        self.notes: list[Any] = []
        self.factory.site.note = lambda *note: self.notes.append(note)
