"""What hbtd trusts and presents as a client, while its files are replaced."""

from pathlib import Path
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import ResponseNeverReceived
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from hbtd.net.bodies import read_body
from hbtd.net.client_credentials import ClientCredentials, RenewedAgent
from hbtd.net.http_client import BoundedPool
from hbtd.net.tls import Identity, ServerOptions, TLSUnusable
from hbtd.runtime.watched_files import PERIOD, FileWatcher
from tests.support.certificates import make_identity, write_identity
from tests.support.running import reactor, until


class Page(Resource):
    """A page that notes who asks, and on which connection; it may answer late."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str | None] = []
        self.transports: list[Any] = []
        self.waiting: list[Any] = []
        self.late = False

    def render_GET(self, request: Any) -> Any:
        """Answer, now or later."""
        transport = request.channel.transport
        shown = transport.getPeerCertificate()
        self.names.append(None if shown is None else shown.get_subject().CN)
        self.transports.append(transport)
        if self.late:
            self.waiting.append(request)
            return NOT_DONE_YET
        return b"hello"

    def answer(self) -> None:
        """Answer the requests that wait."""
        for request in self.waiting:
            request.write(b"hello")
            request.finish()


class RenewalTestCase(TestCase):
    """A server on a local port, and a client whose files may be replaced."""

    timeout = 120

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.ca = make_identity("localhost")
        self.client_ca = make_identity("clients")
        self.page = Page()
        self.bundle = str(write_identity(self.ca, self.folder / "ca")[0])
        self.present("old")
        self.listen(self.ca)
        self.credentials = ClientCredentials("etcd", "--kv_ca", self.bundle, "--kv_cert", *self.own)
        self.agent = RenewedAgent(reactor, self.credentials, lambda: BoundedPool(reactor))
        self.addCleanup(self.agent.closeCachedConnections)
        self.watcher = FileWatcher(Clock(), self.credentials.watched)

    def listen(self, identity: Identity) -> None:
        """Start a server with a certificate."""
        site = Site(self.page)
        options = ServerOptions(identity, self.client_ca.chain)
        served: Any = TLSMemoryBIOFactory(options, False, site)
        served.noisy = False
        port: Any = reactor.listenTCP(0, served, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port

    def present(self, name: str) -> None:
        """Write a certificate and a key for the client."""
        identity = make_identity(name, self.client_ca)
        cert, key = write_identity(identity, self.folder / "own")
        self.own = (str(cert), str(key))

    def get(self) -> Deferred[bytes]:
        """Make a request; return a Deferred of the body."""

        async def get() -> bytes:
            http = HTTPClient(self.agent)
            response = await http.get(f"https://localhost:{self.port}/", unbuffered=True)
            return await read_body(response, 100)

        return Deferred.fromCoroutine(get())


class RenewedAgentTests(RenewalTestCase):
    """Connections are made anew with other certificates."""

    async def test_closed_while_in_use(self) -> None:
        """A connection that is in use when idle ones are closed is closed when it becomes idle."""
        self.page.late = True
        answer = self.get()
        await until(lambda: self.page.waiting)
        await self.agent.closeCachedConnections()
        self.page.answer()
        self.assertEqual(await answer, b"hello")
        await until(lambda: self.page.transports[0].disconnected)

    async def test_certificate(self) -> None:
        """A new certificate is presented on a new connection; the old connection is closed."""
        await self.get()
        await self.get()
        first, second = self.page.transports
        self.assertIs(first, second)
        self.present("new")
        with capturedLogs() as events:
            outcomes = self.watcher.reload()
        texts = [eventAsText(e, includeTimestamp=False, includeSystem=False) for e in events]
        cert, key = self.own
        self.assertEqual(texts, [])  # it is for the caller to log what `reload` returns
        (_, said) = outcomes
        begin = f"The certificate in --kv_cert={cert} and its key in {key} accepted, changed since"
        self.assertEqual(said[: len(begin)], begin)
        self.assertRegex(said, r"look \(valid until 20\S+, SHA-256 fingerprint (\w\w:){31}\w\w\)$")
        await self.get()
        self.assertEqual(self.page.names, ["old", "old", "new"])
        await until(lambda: first.disconnected)

    async def test_without_signal(self) -> None:
        """It is noticed without a signal, too, at the next check of files."""
        clock = Clock()
        watcher = FileWatcher(clock, self.credentials.watched)
        watcher.startService()
        self.addCleanup(watcher.stopService)
        await self.get()
        self.present("new")
        clock.advance(PERIOD)
        await self.get()
        self.assertEqual(self.page.names, ["old", "new"])

    async def test_authorities(self) -> None:
        """New authorities are trusted, and old ones no more."""
        await self.get()
        other = make_identity("localhost")
        write_identity(other, self.folder / "ca")
        self.watcher.reload()
        with self.assertRaises(ResponseNeverReceived):
            await self.get()
        self.listen(other)
        await self.get()

    async def test_in_progress(self) -> None:
        """A request in progress ends well on its old connection, which is closed then."""
        self.page.late = True
        slow = self.get()
        await until(lambda: self.page.waiting)
        self.present("new")
        self.watcher.reload()
        self.page.late = False
        await self.get()
        self.assertEqual(self.page.names, ["old", "new"])
        self.page.answer()
        self.assertEqual(await slow, b"hello")
        await until(lambda: self.page.transports[0].disconnected)
        await self.get()
        self.assertIs(self.page.transports[2], self.page.transports[1])

    async def test_unchanged(self) -> None:
        """Files that are read again without a change leave the connections as they are."""
        await self.get()
        self.watcher.reload()
        await self.get()
        first, second = self.page.transports
        self.assertIs(first, second)

    async def test_unusable(self) -> None:
        """With files that can't be used, the old certificates stay in use."""
        Path(self.own[0]).write_bytes(b"")
        Path(self.bundle).unlink()
        self.watcher.reload()
        await self.get()
        self.assertEqual(self.page.names, ["old"])


class CredentialsTests(SynchronousTestCase):
    """The files, and what is said of them."""

    def test_nothing_to_watch(self) -> None:
        """The system's authorities, and none, need no files."""
        for trust in ("system", "insecure"):
            credentials = ClientCredentials("HSM", "--sm_ca", trust)
            self.assertEqual((credentials.watched, list(credentials.expiring())), ([], []))

    def test_missing(self) -> None:
        """A file that can't be used is named."""
        missing = str(Path(self.mktemp()).resolve())
        cert, key = write_identity(make_identity("hbtd"), Path(self.mktemp()).resolve())
        for trust, own, key_path in ((missing, "", ""), ("system", missing, str(key))):
            with self.assertRaisesRegex(TLSUnusable, missing):
                ClientCredentials("HSM", "--sm_ca", trust, "--x", own, key_path)
        ClientCredentials("HSM", "--sm_ca", str(cert), "--x", str(cert), str(key))

    def test_expiring(self) -> None:
        """The certificates in use are those of the files, as they were read last."""
        folder = Path(self.mktemp()).resolve()
        cert, key = write_identity(make_identity("hbtd", make_identity("ca")), folder / "own")
        bundle, _ = write_identity(make_identity("authority"), folder / "ca")
        credentials = ClientCredentials(
            "etcd", "--kv_ca", str(bundle), "--kv_cert", str(cert), str(key)
        )
        self.assertEqual(
            [each.what for each in credentials.expiring()],
            [
                "The authority CN=authority in --kv_ca",
                "hbtd's certificate in --kv_cert",
                "Certificate 2 in the chain of hbtd's certificate in --kv_cert (CN=ca)",
            ],
        )
        write_identity(make_identity("other"), folder / "ca")
        with capturedLogs() as events:
            FileWatcher(Clock(), credentials.watched).reload()
        self.assertFalse([e for e in events if e["log_level"] is LogLevel.error])
        self.assertEqual(
            next(iter(credentials.expiring())).what, "The authority CN=other in --kv_ca"
        )
