"""TLS clients that others have written: OpenSSL's, curl, Go's and Java's."""

import os
import shutil
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from tests.support.certificates import make_identity, write_identity
from tests.support.http_memory import BEAT, head
from tests.support.processes import CHECKOUT
from tests.support.running import Hbtd, reactor, start_hbtd, until

CLIENTS = CHECKOUT / "tests" / "support" / "clients"
PARAMS = head("GET /hmi/v1/params")
LAST = head("GET /hmi/v1/params", "Connection: close")
JSON_BEAT = BEAT.partition(b"\r\n\r\n")[2].decode()


class Conversation(ProcessProtocol):
    """A program that reads its standard input."""

    def __init__(self) -> None:
        self.said = ""
        """Its output, on both standard streams."""
        self.status: int | None = None
        """Its exit status, `None` while it runs."""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Collect the output."""
        self.said += data.decode("utf-8", "replace")

    def processEnded(self, reason: Failure) -> None:
        """Note how it has ended."""
        error: Any = reason.value
        self.status = 0 if isinstance(error, ProcessDone) else error.exitCode or -error.signal

    def say(self, data: bytes) -> None:
        """Write to its standard input."""
        assert self.transport is not None
        self.transport.write(data)

    async def until_said(self, words: str, times: int = 1) -> None:
        """Wait until it has said something, so many times; fail if it ends before."""
        try:
            await until(lambda: self.said.count(words) >= times or self.status is not None)
        except AssertionError as error:
            raise AssertionError(f"{words!r} not in {self.said}") from error
        assert self.said.count(words) >= times, self.said

    async def until_ended(self) -> None:
        """Wait until it has ended."""
        await until(lambda: self.status is not None)

    def finish(self) -> None:
        """End it."""
        if self.status is None and self.transport is not None:
            self.transport.signalProcess("KILL")


class InteroperabilityTestCase(TestCase):
    """hbtd with a certificate that clients can verify."""

    timeout = 240
    program = ""
    hbtd: Hbtd

    def setUp(self) -> None:
        """Start hbtd, if there is the program that talks with it."""
        if shutil.which(self.program) is None:
            raise SkipTest(f"there is no {self.program} here")
        cert, key = write_identity(make_identity("localhost"), Path(self.mktemp()))
        self.authority = str(cert.resolve())
        self.hbtd = start_hbtd(self, tls_cert=str(cert), tls_key=str(key))
        self.place = self.hbtd.url.removeprefix("https://")

    @property
    def beats(self) -> int:
        """How many heartbeats have arrived."""
        return self.hbtd.service.tracker.beats

    @property
    def refused(self) -> int:
        """How many handshakes have been refused."""
        return self.hbtd.service.access.refusals.counts["tls"]

    async def run_client(self, *arguments: str, **environ: str) -> tuple[str, int]:
        """Run the program until it ends; return its output and exit status."""
        out, err, status = await getProcessOutputAndValue(
            shutil.which(self.program), arguments, {**os.environ, **environ}
        )
        return (out + err).decode("utf-8", "replace"), status


class OpenSSLTests(InteroperabilityTestCase):
    """The client of OpenSSL."""

    program = "openssl"

    def converse(self, *options: str) -> Conversation:
        """Connect."""
        conversation = Conversation()
        arguments = ("s_client", "-connect", self.place, "-CAfile", self.authority, *options)
        path = shutil.which(self.program)
        assert path is not None
        reactor.spawnProcess(conversation, path, [self.program, *arguments], env=os.environ)
        self.addCleanup(until, lambda: conversation.status is not None)
        self.addCleanup(conversation.finish)
        return conversation

    async def exchange(self, *options: str) -> Conversation:
        """Connect, have a request of each lane answered, and end in good order."""
        beats = self.beats
        conversation = self.converse(*options)
        await conversation.until_said("Verify return code: 0 (ok)")
        conversation.say(BEAT)
        await conversation.until_said("HTTP/1.1 200 OK")
        conversation.say(LAST)
        await conversation.until_said("HTTP/1.1 200 OK", 2)
        await conversation.until_ended()
        self.assertEqual(self.beats, beats + 1)
        self.assertEqual(conversation.status, 0, conversation.said)
        self.assertNotIn("unexpected eof", conversation.said)
        return conversation

    async def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken, with the strongest suites first."""
        for option, version in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
            said = (await self.exchange(option)).said
            self.assertRegex(said, rf"New, {version}, Cipher is \S+")
            self.assertIn("Secure Renegotiation IS", said)
        self.assertEqual(self.refused, 0)

    async def test_old_version(self) -> None:
        """TLS 1.1 is refused, in words that OpenSSL passes on."""
        conversation = self.converse("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        await conversation.until_ended()
        self.assertIn("alert protocol version", conversation.said)
        self.assertEqual((conversation.status, self.refused), (1, 1))

    async def test_cipher_suites(self) -> None:
        """Suites that are authenticated and forward secret are served, and no others."""
        for suite in (
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ):
            said = (await self.exchange("-tls1_2", "-cipher", suite)).said
            self.assertIn(f"Cipher is {suite}", said)
        for suite in (
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
        ):
            said = (await self.exchange("-tls1_3", "-ciphersuites", suite)).said
            self.assertIn(f"Cipher is {suite}", said)
        for suite in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "AES256-GCM-SHA384"):
            conversation = self.converse("-tls1_2", "-cipher", suite)
            await conversation.until_ended()
            self.assertIn("alert handshake failure", conversation.said)
        self.assertEqual(self.refused, 3)

    async def test_alpn(self) -> None:
        """HTTP/1.1 is agreed on if it is offered; a client that offers others alone may try."""
        said = (await self.exchange("-alpn", "h2,http/1.1")).said
        self.assertIn("ALPN protocol: http/1.1", said)
        for options in ((), ("-alpn", "h2")):
            said = (await self.exchange(*options)).said
            self.assertIn("No ALPN negotiated", said)

    async def test_resumption(self) -> None:
        """No session is resumed: each connection has a handshake of its own."""
        conversation = self.converse("-tls1_2", "-reconnect")
        await conversation.until_said("Verify return code: 0 (ok)", 6)
        said = conversation.said
        self.assertEqual((said.count("New, TLSv1.2"), said.count("Reused,")), (6, 0), said)
        session = self.mktemp()
        self.assertNotIn("TLS session ticket:", said)
        # OpenSSL hands out two tickets with TLS 1.3, though it knows nothing of them later.
        said = (await self.exchange("-tls1_3", "-sess_out", session)).said
        self.assertEqual(said.count("New Session Ticket"), 2)
        said = (await self.exchange("-tls1_3", "-sess_in", session)).said
        self.assertIn("New, TLSv1.3", said)
        self.assertNotIn("Reused,", said)
        self.assertEqual(self.refused, 0)

    async def test_renegotiation(self) -> None:
        """Renegotiation is refused, which OpenSSL takes for the end."""
        conversation = self.converse("-tls1_2")
        await conversation.until_said("Verify return code: 0 (ok)")
        conversation.say(b"R\n")
        await conversation.until_said("RENEGOTIATING")
        await conversation.until_ended()
        self.assertIn("no renegotiation", conversation.said)

    async def test_key_update(self) -> None:
        """Keys are updated, in one direction or in both, between requests."""
        conversation = self.converse("-tls1_3")
        await conversation.until_said("Verify return code: 0 (ok)")
        for number, line in enumerate((b"K\n", b"k\n", b"K\n"), 1):
            conversation.say(line)
            await conversation.until_said("KEYUPDATE", number)
            conversation.say(BEAT)
            await conversation.until_said("HTTP/1.1 200 OK", number)
        self.assertEqual(self.beats, 3)


class CurlTests(InteroperabilityTestCase):
    """curl."""

    program = "curl"

    async def curl(self, *arguments: str) -> tuple[str, int]:
        """Run curl, which says what it does; return its output and exit status."""
        return await self.run_client(
            "-v", "--max-time", "20", "--cacert", self.authority, *arguments
        )

    async def test_alpn(self) -> None:
        """With ALPN and without it, requests of both lanes are answered on one connection."""
        url = self.hbtd.url
        for options, words in (
            ((), "ALPN: server accepted http/1.1"),
            (("--http1.1",), "ALPN: server accepted http/1.1"),
            (("--no-alpn",), "Re-using existing connection"),
        ):
            beats = self.beats
            said, status = await self.curl(
                *(*options, "-d", JSON_BEAT, f"{url}/hmi/v1/heartbeat", "--next", *options),
                *("--cacert", self.authority, "-v", f"{url}/hmi/v1/params"),
            )
            self.assertEqual(status, 0, said)
            self.assertIn(words.lower().replace("-", ""), said.lower().replace("-", ""))
            self.assertEqual(said.count("< HTTP/1.1 200"), 2, said)
            self.assertEqual(said.lower().replace("-", "").count("reusing existing conn"), 1, said)
            self.assertEqual(self.beats, beats + 1)

    async def test_http_1_0(self) -> None:
        """HTTP/1.0 is answered in both lanes, and the connection ends in good order."""
        said, status = await self.curl(
            *("--http1.0", "-d", JSON_BEAT, f"{self.hbtd.url}/hmi/v1/heartbeat")
        )
        self.assertEqual((status, self.beats), (0, 1), said)
        self.assertIn("< HTTP/1.0 200", said)
        said, status = await self.curl("--http1.0", f"{self.hbtd.url}/hmi/v1/params")
        self.assertEqual(status, 0, said)
        self.assertIn('"Warntime"', said)

    async def test_plain_http(self) -> None:
        """Plain HTTP gets an answer that says what is wrong."""
        said, status = await self.curl(f"http://{self.place}/hmi/v1/params")
        self.assertEqual(status, 0, said)
        self.assertIn("< HTTP/1.1 400", said)
        self.assertIn("Plain HTTP was sent to a port that speaks HTTPS", said)
        self.assertEqual(self.refused, 1)

    async def test_unknown_authority(self) -> None:
        """A client that does not trust the certificate says so, and that is counted."""
        said, status = await self.run_client(f"{self.hbtd.url}/hmi/v1/params")
        self.assertEqual(status, 60, said)
        await until(lambda: self.refused == 1)

    async def test_old_version(self) -> None:
        """TLS 1.1 is refused."""
        said, status = await self.curl(
            *("--tls-max", "1.1", "--ciphers", "ALL:@SECLEVEL=0", f"{self.hbtd.url}/hmi/v1/params")
        )
        self.assertEqual((status, self.refused), (35, 1), said)


class GoTests(InteroperabilityTestCase):
    """The client of Go's standard library, which would speak HTTP/2."""

    program = "go"

    async def test_requests(self) -> None:
        """Requests of both lanes are answered, all on one connection."""
        said, status = await self.run_client(
            *("run", str(CLIENTS / "go" / "main.go"), self.hbtd.url, self.authority),
            GO111MODULE="off",
            GOPROXY="off",
            GOTOOLCHAIN="local",
        )
        self.assertEqual(status, 0, said)
        self.assertEqual(said.count('200 HTTP/1.1, TLS 1.3, ALPN "http/1.1", true'), 6, said)
        self.assertEqual(said.count(": 200 HTTP/1.1"), 10, said)
        self.assertIn("connections: 1 fresh, 9 reused", said)
        self.assertEqual((self.beats, self.refused), (4, 0))


class JavaTests(InteroperabilityTestCase):
    """The client of Java's standard library, which would speak HTTP/2."""

    program = "java"

    async def test_requests(self) -> None:
        """Requests of both lanes are answered."""
        said, status = await self.run_client(
            *("-Xshare:auto", str(CLIENTS / "java" / "Client.java"), self.hbtd.url, self.authority)
        )
        self.assertEqual(status, 0, said)
        self.assertEqual(said.count(": 200 HTTP_1_1, TLSv1.3"), 10, said)
        self.assertEqual((self.beats, self.refused), (4, 0))
