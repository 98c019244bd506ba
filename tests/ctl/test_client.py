"""The client: where hbtd is, whom it trusts, and what becomes of what goes wrong."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hbtd.ctl.client import Client, Settings, Target, parse_url, read_token
from hbtd.ctl.failures import Misused, Unreachable
from tests.support.certificates import make_identity, write_identity
from tests.support.hbtd_stand_in import CommandTestCase, component, free_port, problem, serve
from tests.support.short_paths import short_folder


class UrlTests(SynchronousTestCase):
    """What `--url` may be."""

    def test_urls(self) -> None:
        """A URL has a host, perhaps a port and a path; or it is a Unix socket."""
        for url, target in {
            "https://hbtd.example": Target("https", "hbtd.example", 28500, "/hmi/v1"),
            "http://10.0.0.1:80/": Target("http", "10.0.0.1", 80, "/hmi/v1"),
            "https://[::1]:7": Target("https", "::1", 7, "/hmi/v1"),
            "https://gate/apis/hbtd/v1/": Target("https", "gate", 28500, "/apis/hbtd/v1"),
            "unix:/run/hbtd.sock": Target("unix", "/run/hbtd.sock", 0, "/hmi/v1"),
            "unix:///run/hbtd.sock": Target("unix", "/run/hbtd.sock", 0, "/hmi/v1"),
        }.items():
            self.assertEqual(parse_url(url), target)

    def test_wrong(self) -> None:
        """Anything else is refused, with what would do."""
        for url in ("", "hbtd", "ftp://x", "https://", "https://x:y", "unix:", "https://a:b@c"):
            self.assertIn("can't be used", str(self.assertRaises(Misused, parse_url, url)))


class TokenTests(SynchronousTestCase):
    """What is in a token file."""

    def read(self, text: str) -> str:
        """Return the token in a file."""
        path = self.mktemp()
        with open(path, "w", encoding="latin-1") as file:
            file.write(text)
        return read_token(path)

    def test_forms(self) -> None:
        """A token stands alone, or as in hbtd's own file."""
        self.assertEqual(self.read("3f9c0d4b5a6e7f80\n"), "3f9c0d4b5a6e7f80")
        self.assertEqual(self.read("# mine\n\nalice:0c1d expires=2027-01-31\nx\n"), "0c1d")
        self.assertEqual(self.read("eyJhbGciOi.eyJzdWIi.c2ln"), "eyJhbGciOi.eyJzdWIi.c2ln")

    def test_wrong(self) -> None:
        """A file without a token, or none at all, is refused by its name."""
        for text in ("", "# nothing\n", "t\xf6ken"):
            self.assertRaises(Misused, self.read, text)
        error = self.assertRaises(Misused, read_token, "/nowhere/token")
        self.assertIn("/nowhere/token can't be read: No such file", str(error))


class ClientTests(CommandTestCase):
    """What the client makes of answers, and of none."""

    def test_unreachable(self) -> None:
        """Nobody listens: status 3, and one line."""
        self.url = f"http://localhost:{free_port()}"
        self.assertEqual(self.hbtctl("status"), 3)
        self.assertEqual(self.out, "")
        self.assertEqual(self.err, f"hbtctl: {self.url} can't be reached: Connection refused\n")

    def test_closed_connection(self) -> None:
        """A connection that the server has closed since the last answer is made anew."""
        self.hbtd.hangs_up = True
        self.hbtd.components = [component(f"x1000c0s{i}b0n0") for i in range(2500)]
        self.assertEqual(self.hbtctl("list", "--no-headers", "--columns", "xname"), 0)
        self.assertEqual(self.out.split(), [c["XName"] for c in self.hbtd.components])
        self.assertEqual(len(self.hbtd.asked), 3)
        self.assertEqual(self.hbtctl("health"), 0)

    def test_unknown_host(self) -> None:
        """A host that does not exist: status 3."""
        self.url = "http://nowhere.invalid:1"
        self.assertEqual(self.hbtctl("status"), 3)
        self.assertIn("http://nowhere.invalid:1 can't be reached: ", self.err)

    def test_silent_server(self) -> None:
        """A server that accepts and says nothing is given up."""
        with _listening() as port:
            self.url = f"http://localhost:{port}"
            self.assertEqual(self.hbtctl("status", "--http-timeout", "0.1"), 3)
        self.assertIn("no answer within 0.1 s", self.err)

    def test_endless_answer(self) -> None:
        """A server that is never silent, and never done, is given up, with TLS and without."""
        identity = make_identity("localhost")
        cert, key = write_identity(identity, Path(self.mktemp()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        begin = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n"
        for scheme in ("http", "https"):
            for start, drop in (
                (begin + b"\r\n", b"x"),
                (begin + b"X: ", b"x"),
                (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            ):
                with _dripping(start, drop, context if scheme == "https" else None) as port:
                    url = f"{scheme}://localhost:{port}"
                    client = Client(Settings(url, ca="insecure", timeout=30.0, longest=0.5))
                    error = self.assertRaises(Unreachable, client.call, "GET", "/params")
                    client.close()
                self.assertIn("no whole answer within 0.5 s", str(error))

    def test_wrong_scheme(self) -> None:
        """TLS to a server without it, and none to one with it, is said to be that."""
        self.assertEqual(self.hbtctl("status", "--url", self.url.replace("http", "https")), 3)
        self.assertIn("it does not speak TLS; try http://", self.err)

    def test_unix_socket(self) -> None:
        """Hbtd can be on a Unix socket."""
        hbtd, self.url = serve(self, path=str(short_folder(self) / "socket"))
        hbtd.components = [component("x1000c0s0b0n0")]
        self.assertEqual(self.hbtctl("list", "--no-headers", "--columns", "xname"), 0)
        self.assertEqual(self.out, "x1000c0s0b0n0\n")

    def test_refused(self) -> None:
        """Without the token: status 4, hbtd's reason, and how to give one."""
        self.hbtd.token = "0c1d2e3f40516273"
        self.assertEqual(self.hbtctl("internals"), 4)
        self.assertEqual(
            self.err,
            "hbtctl: hbtd refuses this: This takes an operator; --token-file gives a token\n",
        )

    def test_token(self) -> None:
        """The token in the file is sent."""
        self.hbtd.token = "0c1d2e3f40516273"
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("alice:0c1d2e3f40516273\n")
        self.assertEqual(self.hbtctl("internals", HBTCTL_TOKEN_FILE=path), 0)
        self.assertEqual(self.hbtctl("internals", "--token-file", path), 0)
        self.assertEqual(self.err, "")

    def test_exposed_token(self) -> None:
        """A token that goes over a network in plain text is warned of."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("0c1d2e3f40516273\n")
        self.hbtctl("status", "--url", "http://nowhere.invalid:1", "--token-file", path)
        self.assertIn("the token goes to http://nowhere.invalid:1 unencrypted", self.err)

    def test_statuses(self) -> None:
        """Each kind of answer has its exit status and one line."""
        for status, body, expected, text in (
            (400, problem(400, "names: no nodeset"), 2, "hbtd says: names: no nodeset"),
            (403, problem(403, "not you"), 4, "hbtd refuses this: not you"),
            (404, problem(404, "no"), 5, "it is an earlier release, or not hbtd"),
            (503, problem(503, "busy"), 5, "hbtd can't do it now: busy; again in 7 s"),
            (500, b"<html>", 5, "hbtd failed: answered 500 to /summary"),
            (502, b"<html>", 3, "can't be reached: a gateway before it answered 502"),
            (504, b"<html>", 3, "can't be reached: a gateway before it answered 504"),
            (302, b"", 5, "redirects to https://login"),
            (
                200,
                b"<html>\x1b[2J",
                5,
                r"the answer is not JSON, so perhaps not hbtd's: <html>\x1b[2J",
            ),
            (200, {"Nothing": 1}, 5, "the answer is not one of this release of hbtd"),
            (200, [1], 5, "the answer is not one of this release of hbtd"),
        ):
            headers = {"Retry-After": "7", "Location": "https://login"}
            self.hbtd.replies["/summary"] = (status, headers, body)
            self.assertEqual(self.hbtctl("status"), expected, text)
            self.assertIn(text, self.err)
            self.assertEqual(self.err.count("\n"), 1)

    def test_hostile_detail(self) -> None:
        """What a server says of an error is escaped as well."""
        self.hbtd.replies["/summary"] = (400, {}, problem(400, "\x1b]0;x\x07\u202e"))
        self.hbtctl("status")
        self.assertEqual(self.err, "hbtctl: hbtd says: \\x1b]0;x\\x07\\u202e\n")


class TlsTests(CommandTestCase):
    """TLS."""

    def setUp(self) -> None:
        """Serve with a certificate of a CA."""
        ca = make_identity("ca")
        self.ca = str(write_identity(ca, Path(self.mktemp()))[0])
        cert, key = write_identity(make_identity("localhost", ca), Path(self.mktemp()))
        self.cert, self.key = str(cert), str(key)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
        context.load_cert_chain(self.cert, self.key)
        context.verify_mode = ssl.CERT_OPTIONAL
        self.hbtd, self.url = serve(self, context)

    def test_trusted(self) -> None:
        """A certificate of the CA that is given is trusted; so is any with `insecure`."""
        self.assertEqual(self.hbtctl("health", "--ca", self.ca), 0)
        self.assertEqual(self.hbtctl("health", HBTCTL_CA=self.ca), 0)
        self.assertEqual(self.hbtctl("health", "--ca", "insecure"), 0)

    def test_not_trusted(self) -> None:
        """By default only the host's CAs are trusted: status 3, and what to do."""
        self.assertEqual(self.hbtctl("health"), 3)
        self.assertIn("its certificate is not trusted", self.err)
        self.assertIn("--ca PATH", self.err)

    def test_other_name(self) -> None:
        """The certificate must be for the name in the URL."""
        self.url = self.url.replace("localhost", "127.0.0.1")
        self.assertEqual(self.hbtctl("health", "--ca", self.ca), 3)
        self.assertIn("not trusted", self.err)

    def test_client_certificate(self) -> None:
        """A client certificate is sent; files that can't be used are named."""
        files = ("--cert", self.cert, "--key", self.key)
        self.assertEqual(self.hbtctl("health", "--ca", self.ca, *files), 0)
        self.assertEqual(self.hbtctl("health", "--ca", self.ca, "--cert", "/nowhere"), 2)
        self.assertIn("--cert /nowhere can't be used: No such file", self.err)
        self.assertEqual(self.hbtctl("health", "--ca", self.ca, "--key", self.key), 2)
        self.assertIn("--key needs --cert", self.err)
        self.assertEqual(self.hbtctl("health", "--ca", self.key), 2)
        self.assertIn("--ca", self.err)

    def test_plain(self) -> None:
        """Plain HTTP to a server with TLS is an error, not a hang."""
        self.assertEqual(self.hbtctl("health", "--url", self.url.replace("https", "http")), 3)
        self.assertIn("can't be reached", self.err)


@contextmanager
def _listening() -> Iterator[int]:
    """Listen on a port, and answer nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@contextmanager
def _dripping(start: bytes, drop: bytes, context: ssl.SSLContext | None) -> Iterator[int]:
    """Return a context manager that serves on a port, for one connection, an answer without end."""
    ended = threading.Event()

    def serve_one() -> None:
        with contextlib.suppress(OSError), server.accept()[0] as plain:
            sock = plain if context is None else context.wrap_socket(plain, server_side=True)
            with sock:
                sock.recv(4096)
                sock.sendall(start)
                # The longest that a broken client could take.
                for _ in range(200):
                    if ended.wait(0.05):
                        return
                    sock.sendall(drop)

    with socket.create_server(("localhost", 0)) as server:
        thread = threading.Thread(target=serve_one)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join()
