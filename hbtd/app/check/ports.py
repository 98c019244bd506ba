"""Checks whether hbtd could listen on its ports and sockets, without listening there."""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from hbtd.app.check.findings import Findings
from hbtd.app.check.owners import Owners
from hbtd.app.listening import cannot_listen, make_endpoints
from hbtd.config.params import Params
from hbtd.runtime.unix_paths import why_too_long
from hbtd.server.listening import DualStackEndpoint
from hbtd.server.passed_sockets import PassedSocket

_SYSTEMD = 1

_UNSEEN = "; to see whether the running unit has it takes root or CAP_SYS_PTRACE"
"""What is said of a port whose holder can't be seen, such as that of a unit with PrivateUsers=."""


class ProbingReactor:
    """A substitute for the reactor, with which endpoints find out whether they could listen.

    Its methods do not listen: they only bind a TCP port for a moment. Meanwhile Linux lets another
    process, such as an hbtd that starts, bind the port and listen on it, because both processes set
    SO_REUSEADDR.
    """

    def __init__(
        self, owners: Owners, make_socket: Callable[[int, int], socket.socket] = socket.socket
    ) -> None:
        """Make the substitute; `make_socket(family, type)` makes a socket."""
        self._owners = owners
        self._make_socket = make_socket
        self.found: list[str] = []
        """Descriptions, for operators, of the addresses and sockets that could be bound."""

    def listenTCP(
        self, port: int, factory: object, backlog: int = 50, interface: str = ""
    ) -> object:
        """Bind a TCP port for a moment, like `bind`; raise `CannotListenError` if that fails."""
        self.bind(port, interface)
        return self

    def listenUNIX(
        self, address: str, factory: object, backlog: int = 50, mode: int = 0, wantPID: bool = False
    ) -> object:
        """Raise `CannotListenError` or `OSError` if no Unix socket can be made at `address`.

        No socket is made. A path where a unit of hbtd listens counts as free.
        """
        path = os.fspath(address)
        folder = os.path.dirname(path) or "."
        # In the order of a start, which makes the lock before the socket.
        try:
            os.stat(f"{folder}/")
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{path}.lock") from error
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{path}.lock")
        holder = self._holder_of_lock(f"{path}.lock")
        unit = self._owners.unit_of(holder) if holder else ""
        if holder is not None and not unit:
            raise CannotListenError(None, path, f"process {holder} listens there")
        if why_too_long(path):
            raise CannotListenError(None, path, OSError(errno.ENAMETOOLONG, "too long"))
        if holder is None and os.path.lexists(path) and not os.path.islink(f"{path}.lock"):
            raise CannotListenError(None, path, OSError(errno.EADDRINUSE, "there is such a file"))
        held = f"; {unit}, process {holder}, listens there" if holder else ""
        self.found.append(f"unix:{path}{held}")
        return self

    def adoptStreamPort(self, descriptor: int, family: int, factory: object) -> object:
        """Add to `found` that a socket was passed to this process; do nothing with the socket."""
        self.found.append("a socket that was passed to this process")
        return self

    def bind(self, port: int, interface: str, *, both: bool = False) -> None:
        """Bind a port of an address for a moment; raise `CannotListenError` if that fails.

        A port that belongs to a unit of hbtd, or to systemd, counts as free. `both` says whether an
        IPv6 port is to accept IPv4 connections, too.
        """
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        where = f"port {port} of {interface or 'all addresses'}" if port else "any free port"
        try:
            with self._make_socket(family, socket.SOCK_STREAM) as made:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if both:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                # With port 0 this tells only whether there is such an address.
                made.bind((interface, port))
        except OSError as error:
            holders = self._owners.port_holders(port) if error.errno == errno.EADDRINUSE else []
            replaced = [pid for pid in holders if self._owners.unit_of(pid)]
            if replaced:
                unit = self._owners.unit_of(replaced[0])
                where += f"; {unit}, process {replaced[0]}, listens there"
            elif _SYSTEMD in holders:
                where += "; systemd listens there, and has to pass the socket (hbtd.socket)"
            else:
                if error.errno == errno.EADDRINUSE and not holders:
                    error = OSError(error.errno, f"{error.strerror}{_UNSEEN}")
                raise CannotListenError(interface, port, error) from error
        self.found.append(where)

    def _holder_of_lock(self, path: str) -> int | None:
        """Return the PID in Twisted's lock file `path`; `None` if no process has this PID."""
        with suppress(OSError, ValueError):
            pid = int(os.readlink(path))
            if self._owners.lives(pid):
                return pid
        return None


def check_ports(
    params: Params, findings: Findings, owners: Owners, passed: Sequence[int] = ()
) -> None:
    """Report for each endpoint whether hbtd could listen on it.

    A port on which a running unit of hbtd listens is not reported as an error, because a restart of
    the unit frees the port. `passed` are the file descriptors of the sockets that systemd has
    passed.
    """
    reactor = ProbingReactor(owners)
    with findings.catching():
        for endpoint in make_endpoints(params, reactor, passed):
            outcome: list[Any] = []
            if isinstance(endpoint, PassedSocket):  # it was looked at already
                reactor.found.append("a socket that systemd has passed")
            elif isinstance(endpoint, DualStackEndpoint):
                try:
                    reactor.bind(endpoint.port, "::", both=True)
                except CannotListenError:
                    outcome.append(Failure())
            else:
                endpoint.listen(Factory()).addBoth(outcome.append)
            if outcome and isinstance(outcome[0], Failure):
                findings.error(cannot_listen(outcome[0]))
    for each in reactor.found:
        findings.fine(f"can listen: {each}")
