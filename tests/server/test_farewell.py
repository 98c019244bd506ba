"""What clients see of an hbtd that stops: nothing that they have sent is lost."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.certificates import make_identity, write_identity
from tests.support.running import Hbtd, reactor, start_hbtd

_BODY = b'{"Component":"x1000c0s0b0n0","Hostname":"n","NID":"1","Status":"OK","Timestamp":"now"}'
BEAT = b"POST /hmi/v1/heartbeat HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)
ASK = b"GET /hmi/v1/params HTTP/1.1\r\nHost: h\r\n\r\n"


class Client:
    """A client on a blocking socket, of which each step is done in a thread."""

    def __init__(self, hbtd: Hbtd, *, tls: bool) -> None:
        self.socket: Any = socket.create_connection(
            ("localhost", hbtd.service.port.getHost().port), timeout=10
        )
        self._tls = tls

    def shake_hands(self) -> None:
        """Do the TLS handshake, if it is to speak TLS."""
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)

    def read(self) -> bytes:
        """Read the answer."""
        return bytes(self.socket.recv(65536))

    def ask(self, request: bytes) -> bytes:
        """Send a request, and read the answer."""
        self.socket.sendall(request)
        return self.read()


class FarewellTests(TestCase):
    """Connections at the moment at which hbtd stops."""

    async def serve(self, *, tls: bool = True, **params: Any) -> tuple[Hbtd, Client]:
        """Start hbtd; return it with a client whose connection hbtd has accepted."""
        if tls:
            folder = Path(self.mktemp())
            folder.mkdir()
            certificate, key = write_identity(make_identity("localhost"), folder)
            params.update(tls_cert=str(certificate), tls_key=str(key))
        else:
            params["tls"] = False
        hbtd = start_hbtd(self, **params)
        client = Client(hbtd, tls=tls)
        self.addCleanup(lambda: client.socket.close())
        while not len(connections(hbtd)):
            await deferLater(reactor, 0.01)
        return hbtd, client

    async def in_thread(self, call: Callable[..., Any], *args: Any) -> Any:
        """Do a step of a client."""
        return await deferToThread(call, *args)

    async def test_sent_just_before(self) -> None:
        """A request that has arrived, but was not read when hbtd stops, gets its answer."""
        for tls in (False, True):
            for request in (BEAT, ASK):
                for fast_lane in (True, False):
                    hbtd, client = await self.serve(tls=tls, fast_lane=fast_lane)
                    await self.in_thread(client.shake_hands)
                    answer = await self.in_thread(client.ask, BEAT)
                    self.assertNotIn(b"Connection: close", answer)
                    # The reactor does not run between these two.
                    client.socket.sendall(request)
                    stopping = hbtd.service.stopService()
                    answer = await self.in_thread(client.read)
                    self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
                    self.assertIn(b"Connection: close\r\n", answer)
                    client.socket.close()
                    await stopping

    async def test_sent_just_after(self) -> None:
        """On a connection that was just made, the first request is waited for, and answered."""
        for tls in (False, True):
            for handshake_first in (False, True):
                hbtd, client = await self.serve(tls=tls)
                if handshake_first:
                    await self.in_thread(client.shake_hands)
                stopping = hbtd.service.stopService()
                await deferLater(reactor, 0.2)
                if not handshake_first:
                    await self.in_thread(client.shake_hands)
                answer = await self.in_thread(client.ask, BEAT)
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
                self.assertIn(b"Connection: close\r\n", answer)
                client.socket.close()
                await stopping

    async def test_made_meanwhile(self) -> None:
        """The first answer on a connection that is made while hbtd stops is the last one, too."""
        hbtd, _ = await self.serve(tls=False)
        connections(hbtd).drain()
        client = Client(hbtd, tls=False)
        answer = await self.in_thread(client.ask, BEAT)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\nConnection: close\r\n"), answer)
        client.socket.close()

    async def test_several_at_once(self) -> None:
        """Of heartbeats that arrive together, the last answer alone ends the connection."""
        hbtd, client = await self.serve()
        await self.in_thread(client.shake_hands)
        await self.in_thread(client.ask, BEAT)
        client.socket.sendall(3 * BEAT)
        stopping = hbtd.service.stopService()
        answers = await self.in_thread(client.read)
        self.assertEqual(answers.count(b"HTTP/1.1 200 OK\r\n"), 3)
        self.assertEqual(answers.count(b"Connection: close\r\n"), 1)
        self.assertIn(b"Connection: close\r\n", answers.rpartition(b"HTTP/1.1")[2])
        client.socket.close()
        await stopping

    async def test_at_once(self) -> None:
        """The client of an idle connection sees the end before the reactor has another round."""
        for tls in (False, True):
            hbtd, client = await self.serve(tls=tls)
            await self.in_thread(client.shake_hands)
            await self.in_thread(client.ask, BEAT)
            (connection,) = connections(hbtd)
            self.assertTrue(connection.close_if_quiet())
            client.socket.settimeout(1)
            self.assertEqual(client.read(), b"")
            client.socket.close()

    async def test_idle(self) -> None:
        """An idle client that does not notice is not waited for as long as for one that is late."""
        took = []
        for _ in range(3):  # a busy machine may take its time once
            hbtd, client = await self.serve()
            await self.in_thread(client.shake_hands)
            await self.in_thread(client.ask, BEAT)
            began = reactor.seconds()
            await hbtd.service.stopService()
            took.append(reactor.seconds() - began)
            self.assertEqual(await self.in_thread(client.read), b"")
            if took[-1] < 1.5:
                break
        self.assertLess(min(took), 1.5)

    async def test_silent(self) -> None:
        """One that has just connected, and sends nothing, is waited for two seconds at most."""
        hbtd, _ = await self.serve()
        began = reactor.seconds()
        await hbtd.service.stopService()
        self.assertLess(reactor.seconds() - began, 10)


def connections(hbtd: Hbtd) -> Any:
    """Return the connections of an hbtd."""
    return hbtd.service._connections
