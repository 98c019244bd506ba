"""`hbtd --health`: whether the hbtd that runs with the same options lives."""

import contextlib
import signal
import socket
import ssl
import sys
from subprocess import run
from threading import Thread
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from hbtd.app.health_check import why_not_alive
from hbtd.config.params import Params
from tests.support.certificates import make_identity, write_identity
from tests.support.processes import CHECKOUT, MEMORY, spawn
from tests.support.running import reactor, start_hbtd
from tests.support.short_paths import short_folder


class LivingTests(TestCase):
    """An hbtd that answers is alive, however it listens."""

    async def ask(self, listen: str = "", **params: Any) -> str:
        """Start hbtd; return why it is not alive."""
        service = start_hbtd(self, listen=listen.format(port=0), **params).service
        assert service.port is not None
        port = getattr(service.port.getHost(), "port", 0)
        given = Params(**params, port=port or 1, listen=listen.format(port=port))
        return await deferToThread(why_not_alive, given)

    async def test_ports(self) -> None:
        """Behind a port it is, with TLS and without, on all addresses and on one."""
        for tls in (True, False):
            for address in ("", "127.0.0.1", "::1"):
                self.assertEqual(await self.ask(tls=tls, address=address), "", (tls, address))

    async def test_endpoints(self) -> None:
        """Behind an endpoint of Twisted's it is, also where a proxy is expected."""
        path = short_folder(self) / "hbtd:socket"
        for listen in (
            "tcp:{port}",
            "tcp:{port}:interface=127.0.0.1",
            "tcp:port={port}:interface=127.0.0.1",
            "tcp6:{port}:interface=\\:\\:1",
            "haproxy:tcp:{port}",
            f"unix:{path}".replace("hbtd:", r"hbtd\:"),
        ):
            access = "any" if listen.startswith("haproxy") else "loopback"
            self.assertEqual(await self.ask(listen, operator_access=access), "", listen)

    async def test_own_certificate(self) -> None:
        """Whose certificate it has does not matter, nor that clients may present theirs."""
        cert, key = write_identity(make_identity("elsewhere.example"), short_folder(self))
        for listen in ("", "tcp:{port}"):
            self.assertEqual(
                await self.ask(
                    listen, tls_cert=str(cert), tls_key=str(key), tls_client_ca=str(cert)
                ),
                "",
            )


class NotLivingTests(TestCase):
    """Whoever does not answer as hbtd does is not alive, and the reason names the address."""

    def listening(self) -> tuple[socket.socket, int]:
        """Return a socket that listens until the test ends, and its port."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        return listening, listening.getsockname()[1]

    def test_nobody(self) -> None:
        """Where nobody listens, nobody lives."""
        listening, port = self.listening()
        listening.close()
        for params in (Params(port=port), Params(listen=f"unix:{short_folder(self)}/none")):
            self.assertRegex(why_not_alive(params), r"^no answer from (localhost:|/).*: \[Errno")

    def test_silent(self) -> None:
        """Whoever accepts connections and says nothing, as a stopped process does, is not alive."""
        self.patch(sys.modules["hbtd.app.health_check"], "_SECONDS", 0.2)
        _, port = self.listening()
        params = Params(address="127.0.0.1", port=port)
        for tls in (True, False):
            reason = why_not_alive(Params(address="127.0.0.1", port=port, tls=tls))
            self.assertRegex(reason, "^no answer from 127.0.0.1:.* timed out$", params)

    async def test_another_server(self) -> None:
        """A server that has no such path is not hbtd, and one without TLS neither."""
        port = reactor.listenTCP(0, Site(Resource()), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        plain = await deferToThread(
            why_not_alive, Params(address="127.0.0.1", port=number, tls=False)
        )
        self.assertIn("answers 404 to GET /hmi/v1/liveness, not 204", plain)
        reason = await deferToThread(why_not_alive, Params(address="127.0.0.1", port=number))
        self.assertRegex(reason, "^no (TLS with|answer from) 127.0.0.1:")

    def test_unknown(self) -> None:
        """A free port, and a socket that another program has made, can't be asked."""
        self.assertIn("with the port '0'", why_not_alive(Params(port=0)))
        reason = why_not_alive(Params(listen="systemd:domain=INET:index=0"))
        self.assertIn("can't ask a systemd endpoint", reason)


class StrangerTests(SynchronousTestCase):
    """A server that wants a certificate, which the health check has not."""

    def test_refused_in_handshake(self) -> None:
        """An hbtd that ends strangers in the handshake lives; without authorities none does so."""
        cert, key = write_identity(make_identity("localhost"), short_folder(self))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        context.load_verify_locations(cert)
        context.verify_mode = ssl.CERT_REQUIRED
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)

        def refuse() -> None:
            for _ in range(2):
                accepted, _address = listening.accept()
                with contextlib.suppress(ssl.SSLError):
                    context.wrap_socket(accepted, server_side=True)

        thread = Thread(target=refuse, daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        asked = Params(address="127.0.0.1", port=port)
        closed = Params(address="127.0.0.1", port=port, tls_client_ca=str(cert))
        self.assertRegex(why_not_alive(asked), "^no TLS with .*CERTIFICATE_REQUIRED")
        self.assertEqual(why_not_alive(closed), "")
        thread.join(10)


class CommandTests(TestCase):
    """The command, as a container's health check executes it."""

    def health(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """Run the command; return its status, and what it has said."""
        done = run(
            [sys.executable, "-m", "hbtd", *arguments],
            env={"PYTHONPATH": str(CHECKOUT), **environ},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.stdout, "")
        return done.returncode, done.stderr

    async def test_statuses(self) -> None:
        """The status is 0 while hbtd lives; else it is 1, also if the options can't be used."""
        process = spawn(self, ["-m", "hbtd", *MEMORY])
        port = (await process.url).rpartition(":")[2]
        alive = await deferToThread(self.health, "--health", f"--port={port}")
        self.assertEqual(alive, (0, ""))
        alive = await deferToThread(self.health, "--health", HBTD_PORT=port, HBTD_KV_URL="mem:")
        self.assertEqual(alive, (0, ""))
        status, said = await deferToThread(self.health, "--port=x", "--health")
        self.assertEqual(status, 1)
        self.assertRegex(said, "^hbtd: --port='x' can't be used")
        process.signal(signal.SIGTERM)
        await process.ended
        status, said = await deferToThread(self.health, "--health", f"--port={port}")
        self.assertEqual(status, 1)
        self.assertRegex(said, f"^hbtd: no answer from localhost:{port}: .*\n$")
