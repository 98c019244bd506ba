"""Certificates and tokens of hbtd-agent, its addresses and its log."""

import io
import os
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.support.agent import NoLog, SimulatedClock, agent
from tests.support.certificates import make_identity, write_identity


class CredentialsTestCase(SynchronousTestCase):
    """Credentials from files in a directory of the test."""

    def setUp(self):
        self.clock = SimulatedClock(1e9, 2e9)
        self.log = NoLog()
        self.folder = self.mktemp()
        os.mkdir(self.folder)

    def path(self, name):
        """Return the path of a file."""
        return os.path.join(self.folder, name)

    def write(self, name, data):
        """Write a file anew, and rename it into its place."""
        with open(self.path("new"), "wb") as file:
            file.write(data)
        os.rename(self.path("new"), self.path(name))

    def credentials(self, **changed):
        """Return credentials, with some settings changed."""
        given = {"url": "https://hbtd", "xname": "x1000c0s0b0n0", **changed}
        settings = agent.find_settings(given, {}, lambda path: "")
        return agent.Credentials(settings, self.log.say, self.clock)


class TokenTests(CredentialsTestCase):
    """The token."""

    def test_changes(self):
        """Each heartbeat has the token that is in the file now."""
        credentials = self.credentials(token_file=self.path("token"))
        for token in b"first-token\n", b"another-one\r\nsecond line\n", b"  third\n":
            self.write("token", token)
            expected = f"Authorization: Bearer {token.split()[0].decode()}\r\n"
            self.assertEqual(credentials.token(), expected)
            self.assertEqual(credentials.token(), expected)

    def test_not_there_yet(self):
        """A file that comes later is used within ten seconds; nothing is sent without it."""
        credentials = self.credentials(token_file=self.path("token"))
        self.assertRaises(agent.Unusable, credentials.token)
        self.write("token", b"here-it-is")
        self.assertEqual(credentials.token(), "Authorization: Bearer here-it-is\r\n")

    def test_spoilt(self):
        """With a file that has gone, or has no token, the old one stays; the log says so once."""
        self.write("token", b"good-token")
        credentials = self.credentials(token_file=self.path("token"))
        good = credentials.token()
        os.unlink(self.path("token"))
        for spoilt in None, b"", b"\n\n", b"two words", b"\xff\xfe", b"a" * 20_000, b"t\0k":
            if spoilt is not None:
                self.write("token", spoilt)
            for _ in range(3):
                self.clock.now += 20
                self.assertEqual(credentials.token(), good)
        self.assertEqual(len(self.log.lines), 1, self.log.lines)
        self.write("token", b"new-token")
        self.assertEqual(credentials.token(), "Authorization: Bearer new-token\r\n")
        self.assertEqual(self.log.lines[1:], ["Using the new token"])

    def test_none(self):
        """Without the option there is no token."""
        self.assertEqual(self.credentials().token(), "")


class CertificatesTests(CredentialsTestCase):
    """Certificates and keys."""

    def setUp(self):
        super().setUp()
        ca = make_identity("nodes")
        self.first, self.second = (
            write_identity(make_identity(name, ca), self.pathlike(name)) for name in ("a", "b")
        )

    def pathlike(self, name):
        """Return a path for `write_identity`."""
        return Path(self.folder) / name

    def use(self, cert=None, key=None):
        """Put a certificate or a key in place."""
        for name, path in ("cert", cert), ("key", key):
            if path is not None:
                self.write(name, path.read_bytes())

    def test_changes(self):
        """New files make a new context, with which hbtd is connected anew; unchanged ones don't."""
        self.use(*self.first)
        credentials = self.credentials(cert=self.path("cert"), key=self.path("key"))
        first = credentials.context()
        self.assertIs(credentials.context(), first)
        self.use(*self.second)
        second = credentials.context()
        self.assertIsNot(second, first)
        self.assertIs(credentials.context(), second)

    def test_half(self):
        """While half of a pair is new, the old pair is used."""
        self.use(*self.first)
        credentials = self.credentials(cert=self.path("cert"), key=self.path("key"))
        first = credentials.context()
        self.use(cert=self.second[0])
        self.assertIs(credentials.context(), first)
        self.clock.now += 60
        self.assertIs(credentials.context(), first)
        self.assertEqual(len(self.log.lines), 1)
        self.use(key=self.second[1])
        self.assertIsNot(credentials.context(), first)

    def test_not_there_yet(self):
        """Files that come later are used when they are there."""
        credentials = self.credentials(cert=self.path("cert"), key=self.path("key"))
        error = self.assertRaises(agent.Unusable, credentials.context)
        self.assertIn("cert", str(error))
        self.assertRaises(agent.Unusable, credentials.context)
        self.use(*self.first)
        self.assertIsNotNone(credentials.context())

    def test_authority(self):
        """A bundle that is no bundle can't be used; it is tried again."""
        self.write("ca", b"no certificate")
        credentials = self.credentials(ca=self.path("ca"))
        self.assertRaises(agent.Unusable, credentials.context)
        self.write("ca", self.first[0].read_bytes())
        self.assertIsNotNone(credentials.context())

    def use_system(self, file, directory):
        """Let OpenSSL look there for the system's certificates, until the test ends."""
        places = {"SSL_CERT_FILE": file, "SSL_CERT_DIR": directory}
        patched = mock.patch.dict(os.environ, places)
        patched.start()
        self.addCleanup(patched.stop)

    def test_system(self):
        """The system's bundle is read again when it has changed; a spoilt one is not used."""
        self.write("system", self.first[0].read_bytes())
        self.use_system(self.path("system"), "/nowhere")
        credentials = self.credentials()
        first = credentials.context()
        self.assertIs(credentials.context(), first)
        self.assertEqual(len(first.get_ca_certs()), 1)
        for spoilt in b"", b"no certificate", None:
            os.unlink(self.path("system"))
            if spoilt is not None:
                self.write("system", spoilt)
            self.assertIs(credentials.context(), first)
        self.assertEqual(len(self.log.lines), 1, self.log.lines)
        others = make_identity("c", make_identity("others"))
        other, _ = write_identity(others, self.pathlike("c"))
        self.write("system", self.first[0].read_bytes() + other.read_bytes())
        second = credentials.context()
        self.assertEqual(len(second.get_ca_certs()), 2)
        self.assertEqual(self.log.lines[1:], ["Using the new certificates"])

    def test_system_directory(self):
        """So is the system's directory, of which OpenSSL keeps what it has read."""
        os.mkdir(self.path("certs"))
        self.patch(os, "environ", {"SSL_CERT_FILE": "/nowhere", "SSL_CERT_DIR": self.path("certs")})
        credentials = self.credentials()
        first = credentials.context()
        self.assertIs(credentials.context(), first)
        self.write("certs/0a1b2c3d.0", self.first[0].read_bytes())
        self.assertIsNot(credentials.context(), first)

    def test_no_ordinary_file(self):
        """A pipe is not waited for, a device not opened, and what is far too large not read."""
        os.mkfifo(self.path("pipe"))
        self.write("large", b"")
        os.truncate(self.path("large"), 1 << 40)
        said = {
            self.path("pipe"): "is no ordinary file",
            "/dev/null": "is no ordinary file",
            self.path("large"): "has more than",
        }
        for path, words in said.items():
            writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)
            if path == self.path("pipe"):
                os.write(writer, self.first[0].read_bytes() + b"\n")
            for each in (
                self.credentials(token_file=path).token,
                self.credentials(ca=path).context,
                self.credentials(cert=path, key=str(self.first[1])).context,
                self.credentials(cert=str(self.first[0]), key=path).context,
            ):
                self.assertIn(words, str(self.assertRaises(agent.Unusable, each)))
            os.close(writer)

    def test_plain(self):
        """Without TLS there is no context."""
        self.assertIsNone(self.credentials(url="http://hbtd").context())


class Found(agent.Addresses):  # type: ignore[misc]
    """Addresses that are found at once, or never."""

    def __init__(self, addresses, clock, fraction=0.0):
        target = agent.Target("https", "hbtd.example", 28500, "/hmi/v1")
        super().__init__(target, fraction, clock)
        self.known: list[Any] = []
        self.found = addresses

    def look_up(self):
        """Return a thread that has ended."""
        self.known = self.found or self.known
        return mock.Mock()


class AddressesTests(SynchronousTestCase):
    """The addresses of hbtd's name."""

    def setUp(self):
        self.clock = SimulatedClock(1e9, 2e9)
        self.all = [(f"10.0.0.{n}", 28500) for n in range(4)]

    def test_spread(self):
        """Nodes prefer addresses as their names have it, a quarter of them each of four."""
        first = [
            Found(self.all, self.clock, agent.fractions(f"x1000c0s{n}b0n0")[1]).ordered(1)[0]
            for n in range(2000)
        ]
        for address in self.all:
            self.assertLess(abs(first.count(address) - 500), 100)

    def test_failed(self):
        """An address that has failed is the last one, for ten minutes."""
        addresses = Found(self.all, self.clock)
        addresses.has_failed(self.all[0])
        self.clock.now += 1
        addresses.has_failed(self.all[1])
        order = [2, 3, 0, 1]
        self.assertEqual(addresses.ordered(1), [self.all[n] for n in order])
        self.clock.now += 601
        self.assertEqual(addresses.ordered(1), self.all)

    def test_silence(self):
        """While no nameserver answers, the addresses found last are used; without any it fails."""
        addresses = Found(self.all, self.clock)
        addresses.ordered(1)
        addresses.found = []
        self.assertEqual(addresses.ordered(1), self.all)
        error = self.assertRaises(agent.Failed, Found([], self.clock).ordered, 0.01)
        self.assertEqual(error.kind, "lookup")

    def test_moved(self):
        """A name that has other addresses now is connected to at one of them."""
        addresses = Found(self.all, self.clock)
        addresses.ordered(1)
        addresses.found = [("10.9.9.9", 28500)]
        self.assertEqual(addresses.ordered(1), [("10.9.9.9", 28500)])

    def test_hanging(self):
        """A look-up that hangs takes no more time than there is, and one thread in all."""
        hanging = threading.Event()
        self.addCleanup(hanging.set)

        def hang(*arguments):
            hanging.wait(20)
            return []

        self.patch(agent.socket, "getaddrinfo", hang)
        target = agent.Target("https", "hbtd.example", 28500, "/hmi/v1")
        addresses = agent.Addresses(target, 0.5, self.clock)
        threads = {addresses.look_up() for _ in range(5)}
        self.assertEqual(len(threads), 1)
        error = self.assertRaises(agent.Failed, addresses.ordered, 0.05)
        self.assertIn("not looked up in time", str(error))

    def test_no_name(self):
        """A name that can't be one is a failure like others."""
        for host in "a" * 300, "..", "x" * 64 + ".example":
            target = agent.Target("https", host, 28500, "/hmi/v1")
            addresses = agent.Addresses(target, 0.5, self.clock)
            error = self.assertRaises(agent.Failed, addresses.ordered, 10)
            self.assertEqual(error.kind, "lookup")


class LogTests(SynchronousTestCase):
    """What hbtd-agent says."""

    def setUp(self):
        self.clock = SimulatedClock(1e9, 2e9)
        self.out = io.StringIO()
        self.patch(sys, "stderr", self.out)

    def lines(self):
        """Return the lines that were written."""
        return self.out.getvalue().splitlines()

    def test_changes(self):
        """There is a line when it fails, one for each other reason, and one when it works."""
        log = agent.Log({}, self.clock)
        log.works("Taken")
        for _ in range(100):
            for kind in "connect", "timeout":
                log.failed(agent.Failed(kind, f"a {kind}"))
        log.works("Taken")
        self.assertEqual(
            self.lines(),
            [
                "Taken",
                "Heartbeats are not taken: a connect",
                "Heartbeats are still not taken: a timeout",
                "Taken",
            ],
        )

    def test_bounded(self):
        """However often that changes, there are ten lines in ten minutes; others are counted."""
        log = agent.Log({"JOURNAL_STREAM": "8:1"}, self.clock)
        for _ in range(3600):
            log.failed(agent.Failed("connect", "refused"))
            log.works("Taken")
            self.clock.now += 1
        self.assertLessEqual(len(self.lines()), 70)
        self.assertTrue(self.lines()[0].startswith("<4>Heartbeats"))
        self.assertIn("lines before this one were left out", self.lines()[10])

    def test_nobody(self):
        """A standard error or a systemd that is not there harms nobody."""
        self.out.close()
        for address in "/nowhere", "@nobody", "", "\0", "x" * 200:
            log = agent.Log({"NOTIFY_SOCKET": address}, self.clock)
            log.works("Taken")
            log.notify("READY=1")

    def test_no_standard_error(self):
        """Started with a standard error that is closed, it goes on without one."""
        with mock.patch("sys.stderr", None):
            agent.Log({}, self.clock).works("Taken")
