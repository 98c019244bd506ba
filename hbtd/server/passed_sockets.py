"""Listening sockets that another process, such as systemd, has made and passed to hbtd."""

import os
import socket
from collections.abc import Iterable
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class NotListening(Exception):
    """Raised when a file descriptor is not a listening stream socket; the message says why."""


def check_passed(descriptor: int) -> None:
    """Raise `NotListening` unless a file descriptor is a listening TCP or Unix stream socket."""
    try:
        duplicate = os.dup(descriptor)
    except OSError as error:
        raise NotListening("is not open") from error
    try:
        passed = socket.socket(fileno=duplicate)
    except OSError as error:
        os.close(duplicate)
        raise NotListening("is no socket") from error
    with passed:
        if passed.family not in _FAMILIES:
            raise NotListening("is neither a TCP nor a Unix socket")
        if passed.type != socket.SOCK_STREAM:
            raise NotListening("is no stream socket")
        if not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise NotListening("does not listen")


def close_passed(descriptors: Iterable[int]) -> None:
    """Close the listening sockets among `descriptors`, because hbtd will not serve them.

    Otherwise the sockets would stay open after systemd has closed them, and clients would connect
    to them and wait in vain.
    """
    for descriptor in descriptors:
        try:
            check_passed(descriptor)
        except NotListening:
            continue  # perhaps something that this process has opened
        os.close(descriptor)


class _PassedUnixPort(unix.Port):
    """A port on a Unix socket that another process has bound, and may pass to the next hbtd.

    Twisted's own class would change the mode of the socket's file, and remove the file at the end.
    """

    def startListening(self) -> None:
        """Begin to accept connections, as a TCP port does; leave the socket's file unchanged."""
        tcp.Port.startListening(self)

    def connectionLost(self, reason: Failure) -> None:
        """Close this process's descriptor of the socket."""
        tcp.Port.connectionLost(self, reason)


@implementer(IStreamServerEndpoint)
class PassedSocket:
    """The endpoint of a listening socket that another process has passed to hbtd.

    The other process, such as systemd, keeps the socket open when hbtd ends.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        """Make the endpoint of a file descriptor for which `check_passed` raises no exception."""
        self._reactor = reactor
        self._descriptor = descriptor

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Begin to listen; return a Deferred that has already fired with the listening port.

        If listening is not possible, the Deferred has failed with `CannotListenError` instead.

        Call this only once, since it closes the file descriptor.
        """
        return execute(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        try:
            check_passed(self._descriptor)
        except NotListening as error:
            reason = OSError(f"file descriptor {self._descriptor} {error}")
            raise CannotListenError("", self._descriptor, reason) from error
        with socket.socket(fileno=self._descriptor) as passed:
            passed.setblocking(False)
            if passed.family == socket.AF_UNIX:
                port = _PassedUnixPort._fromListeningDescriptor(
                    self._reactor, passed.fileno(), factory
                )
                port.startListening()
            else:
                port = self._reactor.adoptStreamPort(passed.fileno(), passed.family, factory)
            found: IListeningPort = port
            return found
