"""Access control for a fake HSM: client certificates and bearer tokens."""

import hmac
from collections.abc import Sequence
from pathlib import Path

import orjson
from cryptography.x509 import Certificate, CertificateRevocationList
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.web.http import UNAUTHORIZED
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request
from zope.interface import implementer

from hbtd.net.tls import Identity, server_context


@implementer(IOpenSSLContextFactory)
class StrictServerOptions:
    """A TLS context factory for `listenSSL` that demands a certificate of every client."""

    def __init__(
        self,
        identity: Identity,
        authorities: Sequence[Certificate],
        lists: Sequence[CertificateRevocationList] = (),
    ) -> None:
        """Make a factory for a server with `identity`, the server's certificate and private key.

        A client needs a certificate that one of `authorities` signed. `lists` are certificate
        revocation lists. If `lists` is not empty, it must have a list of each authority, and
        clients whose certificates are revoked are rejected.
        """
        self._context = server_context(identity, authorities, lists, required=True)

    def getContext(self) -> SSL.Context:
        """Return the TLS context, which all connections share."""
        return self._context


@implementer(IResource)
class TokenGuard:
    """A resource that lets only requests with the right bearer token pass to another resource.

    Other requests are answered with 401, except for requests below `/control`, which need no token.
    The token is read from a file for each request, so that it can be replaced at any time.
    """

    isLeaf = True

    def __init__(self, guarded: IResource, path: Path) -> None:
        self._guarded = guarded
        self._path = path

    def render(self, request: IRequest) -> object:
        """Answer 401, or pass the request to the guarded resource."""
        assert isinstance(request, Request)
        if request.path.startswith(b"/control/") or self._knows(request):
            return self._guarded.render(request)
        request.setResponseCode(UNAUTHORIZED)
        request.responseHeaders.setRawHeaders("www-authenticate", ["Bearer"])
        request.responseHeaders.setRawHeaders("content-type", ["application/problem+json"])
        # As some gateways do: whoever logs the answer logs what was sent.
        sent = request.getHeader("authorization") or "nothing"
        return orjson.dumps({"title": "Unauthorized", "detail": f"not good: {sent}", "status": 401})

    def _knows(self, request: Request) -> bool:
        sent = (request.getHeader("authorization") or "").encode()
        return hmac.compare_digest(sent, b"Bearer " + self._path.read_bytes().strip())

    def getChildWithDefault(self, name: bytes, request: IRequest) -> IResource:
        """Return this resource, which handles all paths."""
        return self

    def putChild(self, path: bytes, child: IResource) -> None:
        """Raise `NotImplementedError`: this resource has no children."""
        raise NotImplementedError
