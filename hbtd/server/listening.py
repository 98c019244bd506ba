"""Listening: the server endpoints of hbtd, and the transports of accepted connections."""

import re
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint

from hbtd.net.served_certificate import ServedCertificate
from hbtd.server.factory import ConnectionFactory
from hbtd.server.proxied import proxied
from hbtd.server.tls_transport import TLSTransport, UnixTLSTransport
from hbtd.server.transport import TCPTransport, UnixTransport

BACKLOG = 1024
"""The length of the queue of connections to accept: a whole cabinet may boot at once."""

_DEFAULTS = {
    "tcp": (f"backlog={BACKLOG}",),
    "tcp4": (f"backlog={BACKLOG}",),
    "tcp6": (f"backlog={BACKLOG}",),
    "unix": (f"backlog={BACKLOG}", "mode=660"),
}
"""hbtd's own defaults for the arguments of endpoints, by the kind of endpoint."""


class TransportUnusable(Exception):
    """TLS can't be served on a listening port; the message names the type of the port."""


def endpoint_from_string(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Return the endpoint that a string describes, as Twisted's `serverFromString` does.

    The defaults differ: the backlog is `BACKLOG`, and a Unix socket is accessible to its owner and
    group only. `haproxy:` also accepts headers that Twisted does not (`hbtd.server.proxied`). The
    exceptions are those of `serverFromString`.
    """
    beginning, _, rest = description.partition(":")
    kind = beginning.replace("\\", "").lower()  # Twisted ignores both
    if kind == "haproxy":
        return proxied(endpoint_from_string(reactor, rest))
    for argument in _DEFAULTS.get(kind, ()):
        name = argument.partition("=")[0]
        if not re.search(rf"(?<!\\):{name}=", description):
            description += f":{argument}"
    endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    return endpoint


def endpoint_of_address(reactor: Any, port: int, address: str) -> IStreamServerEndpoint:
    """Return the endpoint of a port on an IP address."""
    kind = TCP6ServerEndpoint if ":" in address else TCP4ServerEndpoint
    return kind(reactor, port, BACKLOG, address)


def set_transport(port: IListeningPort, served: ServedCertificate | None) -> None:
    """Make a listening port, before its first connection, use hbtd's own transports.

    If `served` is given, these are TLS transports with that certificate. A port whose factory is
    not a `ConnectionFactory` but, for example, a wrapper can't use them: it keeps Twisted's
    transports if `served` is `None`, and otherwise `TransportUnusable` is raised.
    """
    known = isinstance(getattr(port, "factory", None), ConnectionFactory)
    if served is not None and not known:
        raise TransportUnusable(f"TLS can't be served on {type(port).__name__}")
    if not known:
        return
    listening: Any = port
    local = isinstance(port, unix.Port)
    if served is None:
        listening.transport = UnixTransport if local else TCPTransport
        return
    transport = UnixTLSTransport if local else TLSTransport

    def accept(socket: Any, *args: Any) -> tcp.Server:
        return transport(served.accept(socket), socket, *args)

    listening.transport = accept
