"""Listening sockets that were passed to hbtd: they stay as they are, and outlive it."""

import os
import socket
import stat

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from hbtd.server.passed_sockets import NotListening, PassedSocket, check_passed, close_passed
from tests.support.running import reactor, until
from tests.support.short_paths import short_folder


class CheckTests(SynchronousTestCase):
    """What is no listening stream socket is refused, in words."""

    def test_refused(self) -> None:
        """A closed descriptor, a file, another kind of socket, and one that does not listen."""
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        packets = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        deaf = socket.socket()
        first, second = socket.socketpair()
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
        kept = (datagram, packets, deaf, first, second, netlink)
        for each in kept:
            self.addCleanup(each.close)
        file = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(os.close, file)
        for descriptor, words in (
            (99_999, "is not open"),
            (file, "is no socket"),
            (datagram.fileno(), "is no stream socket"),
            (packets.fileno(), "is no stream socket"),
            (deaf.fileno(), "does not listen"),
            (first.fileno(), "does not listen"),
            (netlink.fileno(), "is neither a TCP nor a Unix socket"),
        ):
            error = self.assertRaises(NotListening, check_passed, descriptor)
            self.assertEqual(str(error), words)

    def test_closed(self) -> None:
        """Only listening sockets are closed of what was passed but is not served."""
        listening = socket.create_server(("127.0.0.1", 0)).detach()
        file = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(os.close, file)
        close_passed([99_999, file, listening])
        os.fstat(file)
        self.assertRaises(OSError, os.fstat, listening)

    def test_taken_once(self) -> None:
        """A socket that is closed meanwhile is an error about its descriptor."""
        listening = socket.create_server(("127.0.0.1", 0))
        descriptor = listening.detach()
        check_passed(descriptor)
        check_passed(descriptor)
        os.close(descriptor)
        endpoint = PassedSocket(reactor, descriptor)
        error = self.failureResultOf(endpoint.listen(Factory()), CannotListenError)
        self.assertIn(f"file descriptor {descriptor} is not open", str(error.value))


class Greeter(Protocol):
    """Greets each client."""

    def connectionMade(self) -> None:
        """Greet the client, and let it go."""
        assert self.transport is not None
        self.transport.write(b"hello")
        self.transport.loseConnection()


class PortTests(TestCase):
    """Ports on passed sockets, whose other descriptors stand for systemd's."""

    async def serve(self, listening: socket.socket) -> None:
        """Serve one client on a passed socket, and stop."""
        port = await PassedSocket(reactor, os.dup(listening.fileno())).listen(
            Factory.forProtocol(Greeter)
        )
        with socket.socket(listening.family) as client:
            client.connect(listening.getsockname())
            client.setblocking(False)
            received: list[bytes] = []

            def receive() -> bool:
                try:
                    received.append(client.recv(100))
                except BlockingIOError:
                    pass
                return b"".join(received) == b"hello"

            await until(receive)
        stopped = port.stopListening()
        if isinstance(stopped, Deferred):
            await stopped

    async def test_unix(self) -> None:
        """The file of a Unix socket keeps its mode, and is there when the port is closed."""
        path = short_folder(self) / "socket"
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(4096)
        for _ in range(2):
            await self.serve(listening)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
            self.assertTrue(listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    async def test_tcp(self) -> None:
        """A TCP socket goes on listening: who connects meanwhile is served by the next."""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            listening = socket.create_server((host, 0), family=family)
            self.addCleanup(listening.close)
            await self.serve(listening)
            with socket.create_connection(listening.getsockname()[:2]):
                await self.serve(listening)
