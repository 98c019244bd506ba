"""Listening: the server endpoints of hbtd, and the transports of accepted connections."""

import re
from socket import (
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
)
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

BACKLOG = 4096
"""Connections that may wait to be accepted: the most that Linux allows unless told otherwise.

Whoever finds the queue full tries again after one second, then two, then four.
"""

_ACCEPTED_AT_ONCE = 100
"""Connections accepted in one iteration of the reactor, a few more at most: a few milliseconds."""

_DEFAULTS = {
    "tcp": (f"backlog={BACKLOG}",),
    "tcp4": (f"backlog={BACKLOG}",),
    "tcp6": (f"backlog={BACKLOG}",),
    "unix": (f"backlog={BACKLOG}", "mode=660"),
}
"""Arguments of endpoint strings, by kind of endpoint, whose defaults differ from Twisted's."""


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


def _set_options(port: IListeningPort) -> None:
    """Set the options of a TCP port's socket, which Linux hands on to each connection.

    With these options answers are sent without delay (TCP_NODELAY), and a connection ends if its
    client vanishes without closing it (keepalive).
    """
    if isinstance(port, tcp.Port) and not isinstance(port, unix.Port):
        options = {TCP_NODELAY: 1, TCP_KEEPIDLE: 60, TCP_KEEPINTVL: 30, TCP_KEEPCNT: 4}
        port.socket.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        for option, value in options.items():
            port.socket.setsockopt(IPPROTO_TCP, option, value)


def set_transport(port: IListeningPort, served: ServedCertificate | None) -> None:
    """Make a port, to which nobody has connected yet, use the transports of `hbtd.server`.

    If a certificate is served, they are TLS transports. A port with another factory than a
    `ConnectionFactory`, such as that of `haproxy:`, keeps Twisted's transports; if a certificate is
    to be served there, raise `TransportUnusable`.
    """
    _set_options(port)
    known = isinstance(getattr(port, "factory", None), ConnectionFactory)
    if served is not None and not known:
        raise TransportUnusable(f"TLS can't be served on {type(port).__name__}")
    if not known:
        return
    listening: Any = port
    local = isinstance(port, unix.Port)
    plain = UnixTransport if local else TCPTransport
    encrypted = UnixTLSTransport if local else TLSTransport

    def accept(socket: Any, *args: Any) -> tcp.Server:
        # Twisted accepts 20 connections more at once whenever as many as before were waiting.
        listening.numberAccepts = min(listening.numberAccepts, _ACCEPTED_AT_ONCE)
        if served is None:
            return plain(socket, *args)
        return encrypted(served.accept(socket), socket, *args)

    listening.transport = accept
