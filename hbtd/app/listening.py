"""The port: where hbtd listens, with which certificate, and how it stops listening."""

import os
import socket
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.app.errors import StartupError, naming
from hbtd.config.params import Params
from hbtd.net.served_certificate import ServedCertificate, serve_files, serve_identity
from hbtd.net.tls import ephemeral_identity
from hbtd.server.factory import ConnectionFactory
from hbtd.server.write_through import TLSFactory

_BACKLOG = 1024
"""Connections that may wait to be accepted: a whole cabinet boots at once."""

_DRAIN = 2.0
"""Seconds that requests in hand have to be finished when hbtd stops."""

_log = Logger()


def make_endpoint(params: Params, reactor: Any) -> IStreamServerEndpoint:
    """Return the endpoint to listen on; raise `StartupError` when `listen` can't be used."""
    if params.listen:
        with naming("--listen", params.listen):
            endpoint: IStreamServerEndpoint = serverFromString(reactor, params.listen)
            return endpoint
    if socket.has_dualstack_ipv6():
        return TCP6ServerEndpoint(reactor, params.port, _BACKLOG, "::")
    return TCP4ServerEndpoint(reactor, params.port, _BACKLOG)


def make_certificate(params: Params) -> ServedCertificate | None:
    """Return the certificate to serve, `None` without TLS.

    Raise `StartupError` when one of its files can't be used.
    """
    if params.listen or not params.tls:
        return None
    if params.tls_cert:
        with naming("--tls_cert, --tls_key, --tls_client_ca", params.tls_cert):
            return serve_files(params.tls_cert, params.tls_key, params.tls_client_ca)
    identity = ephemeral_identity()
    _log.info(
        "No certificate given: serving a self-signed one made just now,"
        " SHA-256 fingerprint {fingerprint}.",
        fingerprint=identity.fingerprint,
    )
    with naming("--tls_client_ca", params.tls_client_ca):
        return serve_identity(identity, params.tls_client_ca)


class Listening:
    """The listening port, and the connections that clients make to it."""

    def __init__(
        self,
        params: Params,
        reactor: Any,
        endpoint: IStreamServerEndpoint,
        certificate: ServedCertificate | None,
        connections: ConnectionFactory,
    ) -> None:
        """Prepare to listen on `endpoint`, with TLS if there is a certificate."""
        self._option = f"--listen={params.listen!r}"
        self._endpoint = endpoint
        self._connections = connections
        self._reactor = reactor
        self._factory: IProtocolFactory = connections
        if certificate is not None:
            self._factory = TLSFactory(certificate, False, connections, clock=reactor)
        self.port: Any = None
        """The listening port (`IListeningPort`), while it is bound."""

    def bind(self) -> None:
        """Bind the port, and let clients wait; raise `StartupError` when that is not possible."""
        outcome: list[Any] = []
        self._endpoint.listen(self._factory).addBoth(outcome.append)
        if not outcome:
            raise StartupError(f"{self._option} does not bind at once")
        (port,) = outcome
        if isinstance(port, Failure):
            raise StartupError(f"can't listen: {_reason(port)}") from port.value
        self.port = port
        if isinstance(port, FileDescriptor):
            port.stopReading()

    def accept(self) -> None:
        """Accept connections."""
        if isinstance(self.port, FileDescriptor):
            self.port.startReading()

    async def close(self) -> None:
        """Stop listening, let the requests in hand be finished, and close all connections.

        This takes two seconds at most. Without a bound port nothing happens.
        """
        port, self.port = self.port, None
        if port is None:
            return
        self._connections.site.close_after_answers()
        stopped = port.stopListening()
        if stopped is not None:
            await stopped
        deadline = self._reactor.seconds() + _DRAIN
        while self._connections.busy and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, 0.02)
        self._connections.close()

    @property
    def url(self) -> str:
        """Where the bound port can be reached, for people."""
        address = self.port.getHost()
        if isinstance(address, IPv4Address | IPv6Address):
            host = f"[{address.host}]" if ":" in address.host else address.host
            scheme = "https" if isinstance(self._factory, TLSFactory) else "http"
            return f"{scheme}://{host}:{address.port}"
        if isinstance(address, UNIXAddress) and address.name is not None:
            return "unix:" + os.fsdecode(address.name)
        return str(address)


def _reason(failure: Failure) -> str:
    """Return why a port could not be bound, in words."""
    error = failure.value
    if isinstance(error, CannotListenError):
        return f"port {error.port}: {getattr(error.socketError, 'strerror', error.socketError)}"
    return failure.getErrorMessage()
