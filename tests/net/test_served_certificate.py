"""Certificates that are replaced while they are served."""

import json
import signal
import ssl
import time
from collections.abc import Sequence
from http.client import HTTPSConnection
from pathlib import Path
from socket import socket
from threading import Event, Lock
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread, deferToThreadPool
from twisted.logger import LogLevel, capturedLogs
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from hbtd.net.served_certificate import ClientFiles, ServedCertificate, serve_files, serve_identity
from hbtd.net.tls import Identity, TLSUnusable
from hbtd.runtime.watched_files import PERIOD, FileWatcher, WatchedFiles
from hbtd.simulator.fleet import node_names
from tests.support.certificates import make_identity, write_identity
from tests.support.logged import said
from tests.support.processes import MEMORY, HbtdProcess, spawn
from tests.support.running import heartbeat, reactor, until

CONNECTIONS = 64


class FilesTests(SynchronousTestCase):
    """A certificate and its key in files that change."""

    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()
        self.old, self.new = make_identity("localhost"), make_identity("localhost")
        self.cert, self.key = write_identity(self.old, self.folder)
        self.served = serve_files(str(self.cert), str(self.key))
        self.clock = Clock()
        self.watch = FileWatcher(self.clock, self.served.watched)
        self.watch.startService()
        self.addCleanup(self.watch.stopService)
        self.socket = socket()
        self.addCleanup(self.socket.close)

    def assert_serves(self, identity: Identity) -> None:
        """Check that new connections get this certificate."""
        self.assertEqual(self.served.identity.chain, identity.chain)
        connection = self.served.accept(self.socket)
        shown = connection.get_certificate()
        assert shown is not None
        self.assertEqual(shown.to_cryptography(), identity.chain[0])

    def assert_read_again(self, events: Any, identity: Identity) -> None:
        """Check that one line names the options, the files and the certificate in them."""
        until = identity.expires.isoformat()
        self.assertEqual(
            said(events, LogLevel.info),
            [
                f"The certificate in --tls_cert={self.cert} and its key in --tls_key={self.key}"
                f" were read again (valid until {until}, SHA-256 fingerprint"
                f" {identity.fingerprint})."
            ],
        )

    def test_replaced(self) -> None:
        """A new pair is served within ten seconds, without a signal."""
        self.assert_serves(self.old)
        write_identity(self.new, self.folder)
        self.assert_serves(self.old)
        with capturedLogs() as events:
            self.clock.advance(PERIOD)
        self.assert_serves(self.new)
        self.assert_read_again(events, self.new)

    def test_half_written(self) -> None:
        """A half-replaced pair is not served; if it is soon complete, nothing is logged."""
        other = self.folder / "other"
        cert, key = write_identity(self.new, other)
        with capturedLogs() as events:
            for path, content in (
                (self.key, key.read_bytes()),
                (self.cert, cert.read_bytes()[:100]),
                (self.cert, b""),
            ):
                path.write_bytes(content)
                self.clock.advance(PERIOD)
                self.assert_serves(self.old)
            self.cert.write_bytes(cert.read_bytes())
            self.clock.advance(PERIOD)
        self.assert_serves(self.new)
        self.assertEqual(said(events, LogLevel.warn, LogLevel.error), [])

    def test_stays_wrong(self) -> None:
        """A pair that stays wrong is reported once, and the old one is still served."""
        _, key = write_identity(self.new, self.folder / "other")
        self.key.write_bytes(key.read_bytes())
        with capturedLogs() as events:
            self.clock.pump([PERIOD] * 10)
        (line,) = said(events, LogLevel.error)
        self.assertIn(f"{self.key} is not the key of the certificate in {self.cert}", line)
        self.assertIn("the old ones stay", line)
        self.assert_serves(self.old)
        write_identity(self.old, self.folder)
        with capturedLogs() as events:
            self.clock.pump([PERIOD] * 3)
        self.assertEqual(said(events, LogLevel.error), [])

    def test_not_yet(self) -> None:
        """A certificate that is not valid yet is served once it is; nothing has to change."""
        soon = make_identity("localhost", begins=1.5 / 86400)
        write_identity(soon, self.folder)
        with capturedLogs() as events:
            self.clock.pump([PERIOD] * 5)
        self.assert_serves(self.old)
        (line,) = said(events, LogLevel.error)
        self.assertIn("is not valid before", line)
        time.sleep(max(0.0, soon.chain[0].not_valid_before_utc.timestamp() - time.time()) + 0.01)
        with capturedLogs() as events:
            self.clock.advance(PERIOD)
        self.assert_serves(soon)
        self.assert_read_again(events, soon)

    def test_told_to(self) -> None:
        """A reload reads the files at once, and reports at once what is wrong."""
        write_identity(self.new, self.folder)
        self.watch.reload()
        self.assert_serves(self.new)
        write_identity(make_identity("localhost", days=-1), self.folder)
        for _ in range(2):
            with capturedLogs() as events:
                self.watch.reload()
            (line,) = said(events, LogLevel.error)
            self.assertIn("expired", line)
            self.assert_serves(self.new)

    def test_unforeseen(self) -> None:
        """An unexpected error is logged, and the other files are read."""
        calls: list[str] = []

        def load() -> str:
            calls.append("once more")
            if len(calls) > 1:
                raise ZeroDivisionError
            return "first"

        odd = WatchedFiles("An odd file", [], load, TLSUnusable)
        write_identity(self.new, self.folder)
        FileWatcher(self.clock, [odd, *self.served.watched]).reload()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(odd.current, "first")
        self.assert_serves(self.new)

    def test_removed(self) -> None:
        """A certificate whose files were removed is still served."""
        self.cert.unlink()
        self.key.unlink()
        with capturedLogs() as events:
            self.clock.pump([PERIOD] * 5)
        self.assertEqual(len(said(events, LogLevel.error)), 1)
        self.assert_serves(self.old)

    def test_authorities(self) -> None:
        """The authorities of clients are read again, beside a certificate that does not change."""
        one, _ = write_identity(make_identity("one"), self.folder / "ca")
        served = serve_identity(self.old, ClientFiles(str(one)))
        self.assertEqual(self.asked_for(served), "one")
        write_identity(make_identity("two"), self.folder / "ca")
        served.watched[0].reload_if_changed()
        self.assertEqual(self.asked_for(served), "two")

    def test_authorities_alone(self) -> None:
        """The authorities are read again also while the certificate and key can't be used."""
        one, _ = write_identity(make_identity("one"), self.folder / "ca")
        served = serve_files(str(self.cert), str(self.key), ClientFiles(str(one)))
        changes: list[str] = []
        served.on_new_authorities(lambda: changes.append(self.asked_for(served)))
        self.key.unlink()
        write_identity(make_identity("two"), self.folder / "ca")
        watch = FileWatcher(self.clock, served.watched)
        for _ in range(2):
            watch.reload()
            self.assertEqual(changes, ["two"])
        self.assertEqual(served.identity.chain, self.old.chain)

    def asked_for(self, served: ServedCertificate) -> str:
        """Return the name of the one authority whose certificates clients may present."""
        connection = served.accept(self.socket)
        (authority,) = connection.get_client_ca_list()
        return str(authority.CN)


class Load:
    """Nodes that send heartbeats without a pause, each on its own persistent connection.

    They run in threads. A node whose heartbeat or connection fails does not try again.
    """

    def __init__(self, test: TestCase, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._pool = ThreadPool(CONNECTIONS, CONNECTIONS)
        self._pool.start()
        test.addCleanup(self._pool.stop)
        self._connecting = Lock()
        """So many handshakes at a time, of one address, may be more than hbtd lets wait."""
        self._over = Event()
        test.addCleanup(self._over.set)
        self._answered: dict[str, int] = {}

    def start(self, names: Sequence[str]) -> None:
        """Start these nodes."""
        self._nodes = [deferToThreadPool(reactor, self._pool, self._beat, each) for each in names]

    async def stop(self) -> set[bytes]:
        """Stop the nodes; return the certificates they were served, or raise a node's error."""
        self._over.set()
        return set(await gatherResults(self._nodes, consumeErrors=True))

    async def more(self) -> None:
        """Wait until each node has had a few more responses."""
        before = dict(self._answered)
        names = node_names(CONNECTIONS)
        await until(
            lambda: (
                any(node.called for node in self._nodes)
                or all(self._answered.get(n, 0) >= before.get(n, 0) + 5 for n in names)
            ),
            within=60,
        )

    def _beat(self, name: str) -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection("localhost", self._port, context=context, timeout=60)
        with self._connecting:
            connection.connect()
        connection.auto_open = 0  # no second one
        body = json.dumps(heartbeat(name))
        while not self._over.is_set():
            connection.request("POST", "/hmi/v1/heartbeat", body)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise AssertionError(f"status {response.status}")
            self._answered[name] = self._answered.get(name, 0) + 1
        shown = connection.sock.getpeercert(binary_form=True)
        connection.close()
        assert isinstance(shown, bytes)
        return shown


class UnderLoadTests(TestCase):
    """The certificate of a busy process is replaced."""

    timeout = 240

    async def shown(self, url: str) -> str:
        """Return the certificate that a new connection gets."""
        address = ("localhost", int(url.rpartition(":")[2]))
        return await deferToThread(ssl.get_server_certificate, address)

    async def tell(self, process: HbtdProcess, answer: str) -> None:
        """Send SIGHUP, and wait for a line of the log."""
        before = process.said.count(answer)
        process.signal(signal.SIGHUP)
        await until(lambda: process.said.count(answer) > before)

    async def test_sixty_four_connections(self) -> None:
        """No request fails, no connection is closed, and new ones get the new certificate."""
        folder = Path(self.mktemp()).resolve()
        first = make_identity("localhost")
        cert, key = write_identity(first, folder)
        process = spawn(self, ["-m", "hbtd", *MEMORY, f"--tls_cert={cert}", f"--tls_key={key}"])
        url = await process.url
        load = Load(self, url)
        load.start(node_names(CONNECTIONS))
        await load.more()
        self.assertEqual(await self.shown(url), _pem(first))
        for number in range(5):
            identity = make_identity("localhost")
            if number % 2:
                # Half a pair, and a reload.
                key.write_bytes(write_identity(identity, folder / "other")[1].read_bytes())
                await self.tell(process, "can't be used as they are now")
            write_identity(identity, folder)
            await self.tell(process, "accepted, changed since the last look (valid until ")
            self.assertEqual(await self.shown(url), _pem(identity))
            await load.more()
        self.assertEqual(await load.stop(), {first.chain[0].public_bytes(Encoding.DER)})
        self.assertNotIn("Traceback", process.said)
        self.assertNotIn("PRIVATE", process.said)
        process.signal(signal.SIGTERM)
        self.assertEqual(await process.ended, 0)

    async def test_nothing_to_read(self) -> None:
        """SIGHUP does not end an hbtd without files."""
        process = spawn(self, ["-m", "hbtd", *MEMORY])
        await process.url
        process.signal(signal.SIGHUP)
        await until(lambda: "Change by SIGHUP: certificates" in process.said)
        self.assertRegex(process.said, r"The open-file limit is \d+;")
        process.signal(signal.SIGTERM)
        self.assertEqual(await process.ended, 0)


def _pem(identity: Identity) -> str:
    return identity.chain[0].public_bytes(Encoding.PEM).decode()
