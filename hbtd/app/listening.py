"""The ports on which hbtd listens: their endpoints, their certificate, and how they are closed."""

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.app.errors import StartupError, naming, naming_files
from hbtd.app.hints import file_hint
from hbtd.config.params import Params
from hbtd.formats.counts import counted
from hbtd.net.served_certificate import ClientFiles, ServedCertificate, serve_files, serve_identity
from hbtd.net.tls import ephemeral_identity
from hbtd.runtime.unix_paths import why_too_long
from hbtd.server.factory import ConnectionFactory
from hbtd.server.listening import (
    DualStackEndpoint,
    TransportUnusable,
    endpoint_from_string,
    endpoint_of_address,
    ipv6_only_by_default,
    serves_only_ipv6,
    set_transport,
)
from hbtd.server.overload import AcceptQueue, accept_queue
from hbtd.server.passed_sockets import NotListening, PassedSocket, check_passed, close_passed

_DRAIN = 2.0
"""Seconds after which connections that are still open are aborted when hbtd stops."""

_FAREWELL = 0.5
"""Seconds in which clients have to read the last answers and to hang up.

Pools of connections notice the end of an idle one only when they use it again.
"""

_LEAST_FAREWELL = 0.1
"""Seconds in which last answers can be sent, also if the drain has taken all of its time."""

_POLL = 0.02
"""Seconds between two checks, when hbtd stops, of whether connections are still open."""

_log = Logger()


def make_endpoints(
    params: Params, reactor: Any, passed: Sequence[int] = ()
) -> list[IStreamServerEndpoint]:
    """Return the endpoints to listen on; raise `StartupError` if one of them can't be used.

    `passed` are the file descriptors of the listening sockets that systemd has passed, if any. If
    the parameter `listen` is set, return its endpoint; unless it is a `systemd:` endpoint, close
    the passed sockets. Otherwise, if sockets were passed, return these as endpoints. Otherwise,
    return endpoints on the parameter `port`: one for each address in the parameter `address`, or
    one for all addresses if that is empty.
    """
    if passed and params.endpoint_kind != "systemd":
        _note_passed(params, len(passed))
        if params.listen:
            close_passed(passed)
    if passed and not params.listen:
        return _passed_endpoints(reactor, passed)
    if params.listen:
        with naming("--listen", params.listen):
            try:
                return [endpoint_from_string(reactor, params.listen)]
            except LookupError as error:
                if params.endpoint_kind != "systemd":
                    raise
                missing = f"--listen={params.listen!r}: systemd has passed no such socket"
                raise StartupError(missing, passing=True) from error
    everywhere = "::" if socket.has_dualstack_ipv6() else ""
    addresses = params.addresses or [everywhere]
    # Beside a port for IPv4 there can't be one for both.
    with_ipv4 = ipv6_only_by_default() and all(":" in each for each in addresses)
    return [
        DualStackEndpoint(reactor, params.port)
        if with_ipv4 and each == "::"
        else endpoint_of_address(reactor, params.port, each)
        for each in addresses
    ]


def _note_passed(params: Params, count: int) -> None:
    """Log that the `count` sockets from systemd are served; with `--listen`, that they are not."""
    sockets = counted(count, "socket")
    if params.listen:
        _log.warn(
            "hbtd does not serve {sockets} that systemd has passed (ListenStream= of hbtd.socket),"
            " since --listen is given. Remove --listen, or disable hbtd.socket.",
            sockets=sockets,
        )
    else:
        _log.info(
            "Serving on {sockets} that systemd has passed (ListenStream= of hbtd.socket), instead"
            " of on --port and --address.",
            sockets=sockets,
        )


def _passed_endpoints(reactor: Any, passed: Sequence[int]) -> list[IStreamServerEndpoint]:
    for descriptor in passed:
        try:
            check_passed(descriptor)
        except NotListening as error:
            raise StartupError(
                f"file descriptor {descriptor}, which systemd has passed (LISTEN_FDS), {error}:"
                " give hbtd.socket ListenStream= and Accept=no only"
            ) from error
    return [PassedSocket(reactor, descriptor) for descriptor in passed]


def make_certificate(params: Params) -> ServedCertificate | None:
    """Return the certificate that hbtd presents to clients, or `None` if it serves without TLS.

    Raise `StartupError` if a file of `tls_cert`, `tls_key`, `tls_client_ca` or `tls_client_crl`
    can't be used, or if no self-signed certificate can be made.
    """
    if not params.serves_tls:
        return None
    clients = ClientFiles(params.tls_client_ca, params.tls_client_crl, params.tls_client_required)
    if params.tls_cert:
        names = ("tls_cert", "tls_key", "tls_client_ca", "tls_client_crl")
        with naming_files({f"--{name}": getattr(params, name) for name in names}):
            return serve_files(params.tls_cert, params.tls_key, clients)
    try:
        identity = ephemeral_identity()
    except ValueError as error:
        raise StartupError(
            f"no certificate can be made for a host named {socket.gethostname()!r}: give the host"
            " a name of ASCII letters, digits and dashes, or give --tls_cert and --tls_key"
        ) from error
    _log.info(
        "No certificate given: serving a self-signed one made just now,"
        " SHA-256 fingerprint {fingerprint}.",
        fingerprint=identity.fingerprint,
    )
    files = {"--tls_client_ca": params.tls_client_ca, "--tls_client_crl": params.tls_client_crl}
    with naming_files(files):
        return serve_identity(identity, clients)


class Listening:
    """The listening ports, and the connections that clients make to them."""

    def __init__(
        self,
        params: Params,
        reactor: Any,
        endpoints: Sequence[IStreamServerEndpoint],
        certificate: ServedCertificate | None,
        connections: ConnectionFactory,
    ) -> None:
        """Prepare to listen on `endpoints`, with TLS if there is a certificate."""
        self._option = f"--listen={params.listen!r}"
        self._endpoints = endpoints
        self._certificate = certificate
        self._connections = connections
        self._reactor = reactor
        self._ports: list[Any] = []

    @property
    def port(self) -> Any:
        """The first listening port (`IListeningPort`) while it is bound, `None` otherwise."""
        return self._ports[0] if self._ports else None

    def accept_queues(self) -> list[AcceptQueue]:
        """Return the queues in which connections to the bound TCP ports wait to be accepted."""
        queues = [accept_queue(port) for port in self._ports]
        return [queue for queue in queues if queue is not None]

    def bind(self) -> None:
        """Bind the ports without accepting connections yet; raise `StartupError` if that fails."""
        for endpoint in self._endpoints:
            outcome: list[Any] = []
            endpoint.listen(self._connections).addBoth(outcome.append)
            if not outcome:
                raise StartupError(f"{self._option} does not bind at once")
            (port,) = outcome
            if isinstance(port, Failure):
                raise cannot_listen(port) from port.value
            self._ports.append(port)
            try:
                set_transport(port, self._certificate)
            except TransportUnusable as error:
                raise StartupError(f"{self._option}: {error}") from error
            if isinstance(port, FileDescriptor):
                port.stopReading()
        if self._ports and all(map(serves_only_ipv6, self._ports)):
            _log.warn(
                "Only IPv6 clients can connect to {url}: the host has net.ipv6.bindv6only set."
                " Without --listen hbtd serves IPv4, too.",
                url=self.url,
            )

    def accept(self) -> None:
        """Begin to accept connections on the bound ports."""
        for port in self._ports:
            if isinstance(port, FileDescriptor):
                port.startReading()

    async def close(self) -> None:
        """Stop listening, and close each connection once its request in progress is answered.

        Two seconds after the ports were closed, at the latest, hbtd closes its side of every
        connection, even if requests have not been answered. Then hbtd waits for the clients to
        close their side: for at most half a second, and not beyond these two seconds, but for at
        least 0.1 seconds. Connections that are still open after that are aborted. If no port is
        bound, do nothing.
        """
        ports, self._ports = self._ports, []
        if not ports:
            return
        self._connections.drain()
        for port in ports:
            stopped = port.stopListening()
            if stopped is not None:
                await stopped
        deadline = self._reactor.seconds() + _DRAIN
        await self._connections.finish(_DRAIN)
        self._connections.close()
        now = self._reactor.seconds()
        deadline = max(min(deadline, now + _FAREWELL), now + _LEAST_FAREWELL)
        while len(self._connections) and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, _POLL)
        self._connections.abort()

    @property
    def url(self) -> str:
        """The URLs of the bound ports, for log lines, separated by commas."""
        return ", ".join(self._url(port.getHost()) for port in self._ports)

    def _url(self, address: Any) -> str:
        if isinstance(address, IPv4Address | IPv6Address):
            host = f"[{address.host}]" if ":" in address.host else address.host
            scheme = "https" if self._connections.tls else "http"
            return f"{scheme}://{host}:{address.port}"
        if isinstance(address, UNIXAddress) and address.name is not None:
            return "unix:" + os.fsdecode(address.name)
        return str(address)


def cannot_listen(failure: Failure) -> StartupError:
    """Return the error that says why hbtd can't listen on an endpoint."""
    return StartupError(f"can't listen: {_reason(failure)}", passing=_can_pass(failure.value))


def _can_pass(error: BaseException | None) -> bool:
    """Return whether a port that can't be bound now may be bound later, with the same options.

    A port that is in use may be; an address that can't exist, such as a path that is too long, can
    never be bound.
    """
    cause = error.socketError if isinstance(error, CannotListenError) else error
    if isinstance(cause, OSError):
        return cause.errno not in (None, errno.ENAMETOOLONG)
    return isinstance(cause, str)  # Twisted's words for a Unix socket that is in use


def _reason(failure: Failure) -> str:
    """Return why a port could not be bound, in words."""
    error = failure.value
    if isinstance(error, CannotListenError) and isinstance(error.port, str | bytes):
        cause = error.socketError
        reason = why_too_long(error.port) or getattr(cause, "strerror", cause)
        return f"unix:{os.fsdecode(error.port)}: {reason}"
    if isinstance(error, CannotListenError):
        host = "all addresses" if error.interface in (None, "", "::") else error.interface
        where = f"port {error.port} of {host}"
        cause = error.socketError
        taken = getattr(cause, "errno", None) == errno.EADDRINUSE and isinstance(error.port, int)
        hint = f"; `ss -ltnp sport = :{error.port}` shows by whom" if taken else ""
        return f"{where}: {getattr(cause, 'strerror', cause)}{hint}"
    hint = file_hint(error) if error else ""
    if isinstance(error, OSError) and error.strerror:
        path = error.filename2 or error.filename or ""
        where = f"{os.fsdecode(path)}: " if path else ""
        return f"{where}{error.strerror}{hint}"
    return f"{failure.getErrorMessage()}{hint}"
