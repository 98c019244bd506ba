"""HAProxy's PROXY protocol: before the HTTP data, a header with the address of the proxy's client.

Twisted implements the protocol except for two things that the specification allows: a header that
arrives in pieces, and `PROXY UNKNOWN` without addresses, from a proxy that does not know its
client. This module adds them.
"""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.protocols.haproxy import proxyEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

_LONGEST = 107
"""The most bytes in a header of version 1, including CR and LF."""

_SHORTEST = 16
"""Bytes that a header of version 2 has at least."""

_UNKNOWN = b"PROXY UNKNOWN"


def proxied(endpoint: IStreamServerEndpoint) -> IStreamServerEndpoint:
    """Return an endpoint that wraps `endpoint`, for connections that begin with a PROXY header."""
    found: IStreamServerEndpoint = proxyEndpoint(_WholeHeaders(endpoint))
    return found


@implementer(IStreamServerEndpoint)
class _WholeHeaders:
    """An endpoint that passes on the PROXY header of each connection in one piece."""

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._endpoint = endpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        wrapping: Any = WrappingFactory(protocolFactory)
        wrapping.noisy = False
        wrapping.protocol = _Header
        return self._endpoint.listen(wrapping)


class _Header(ProtocolWrapper):
    """A protocol wrapper that passes on the PROXY header in one piece, then all other data."""

    _begun: bytes | None = b""

    def dataReceived(self, data: bytes) -> None:
        if self._begun is not None:
            data = self._begun + data
            text = b"PROXY".startswith(data[:5])
            whole = b"\r\n" in data if text else len(data) >= _SHORTEST
            if not whole and len(data) < _LONGEST:
                self._begun = data
                return
            self._begun = None
            if data.startswith(_UNKNOWN + b"\r\n"):
                data = data.replace(_UNKNOWN, _UNKNOWN + b" ", 1)
        super().dataReceived(data)
