"""Listening: the server endpoints of hbtd, and the transports of accepted connections."""

import re
from socket import (
    AF_INET6,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_V6ONLY,
    SO_KEEPALIVE,
    SO_REUSEADDR,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
    socket,
)
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from hbtd.net.served_certificate import ServedCertificate
from hbtd.server.factory import ConnectionFactory
from hbtd.server.passed_sockets import PassedSocket
from hbtd.server.proxied import proxied
from hbtd.server.tls_transport import TLSTransport, UnixTLSTransport
from hbtd.server.transport import TCPTransport, UnixTransport

BACKLOG = 4096
"""The most connections that may wait to be accepted: Linux's default limit.

A client that finds the queue full tries again after one second, then two, then four.
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
    """Raised when TLS can't be served on a listening port; the message names the port's class."""


def endpoint_from_string(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Return the endpoint that a string describes, as Twisted's `serverFromString` does.

    The defaults differ: the backlog is `BACKLOG`, and a Unix socket is accessible to its owner and
    group only. A socket that systemd has passed keeps its backlog and mode. `haproxy:` also accepts
    PROXY headers that Twisted rejects (`hbtd.server.proxied`). The exceptions are those of
    `serverFromString`.
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
    if isinstance(endpoint, AdoptedStreamServerEndpoint):
        return PassedSocket(reactor, endpoint.fileno)
    return endpoint


def endpoint_of_address(reactor: Any, port: int, address: str) -> IStreamServerEndpoint:
    """Return the endpoint of a TCP port on an IP address."""
    kind = TCP6ServerEndpoint if ":" in address else TCP4ServerEndpoint
    return kind(reactor, port, BACKLOG, address)


def ipv6_only_by_default() -> bool:
    """Return whether, by default, this host's IPv6 sockets accept no IPv4 clients.

    Linux has the setting `net.ipv6.bindv6only` for this. Return `False` if there is no IPv6.
    """
    try:
        with socket(AF_INET6) as made:
            return bool(made.getsockopt(IPPROTO_IPV6, IPV6_V6ONLY))
    except OSError:  # there is no IPv6
        return False


def serves_only_ipv6(port: IListeningPort) -> bool:
    """Return whether a port listens on all IPv6 addresses, but accepts no IPv4 clients."""
    if not isinstance(port, tcp.Port) or port.addressFamily != AF_INET6:
        return False
    host = port.getHost().host
    return host == "::" and bool(port.socket.getsockopt(IPPROTO_IPV6, IPV6_V6ONLY))


@implementer(IStreamServerEndpoint)
class DualStackEndpoint:
    """The endpoint of a TCP port on all IPv6 and IPv4 addresses, even if `bindv6only` is set."""

    def __init__(self, reactor: Any, port: int) -> None:
        """Make an endpoint; `reactor` provides `IReactorSocket`. Port 0 means any free port."""
        self._reactor = reactor
        self._port = port

    @property
    def port(self) -> int:
        """The number of the port; 0 means any free port."""
        return self._port

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Begin to listen; return a Deferred that has already fired with the listening port.

        If listening is not possible, the Deferred has failed with `CannotListenError` instead.
        """
        return execute(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        with socket(AF_INET6) as made:
            made.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0)
            made.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            made.setblocking(False)
            try:
                made.bind(("::", self._port))
                made.listen(BACKLOG)
            except OSError as error:
                raise CannotListenError("::", self._port, error) from error
            port: IListeningPort = self._reactor.adoptStreamPort(made.fileno(), AF_INET6, factory)
            return port


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
    """Make a listening port use hbtd's own transports, not Twisted's, for its connections.

    Call this before a client has connected. If a certificate `served` is given, the transports use
    TLS. A port whose factory is not a `ConnectionFactory`, such as that of `haproxy:`, keeps
    Twisted's transports; if `served` is given, raise `TransportUnusable` for such a port.
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
        return encrypted(served, socket, *args)

    listening.transport = accept
