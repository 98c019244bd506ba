"""Intruders who try every door of an hbtd that serves TLS: one request on each connection."""

import gzip
import json
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from OpenSSL import SSL

from hbtd.net.tls import Identity
from tests.support.certificates import write_identity
from tests.support.http_memory import encode_request
from tests.support.running import heartbeat
from tests.support.tls_records import HANDSHAKE, HELLO, OldRecordWriter

NOTHING = "nothing"
"""What an intruder is answered who does not get through the handshake."""

_TIMEOUT = 30.0
"""Seconds within which hbtd has to do something about an intruder."""

_MIB = 1024 * 1024


class Answer(NamedTuple):
    """The head of an answer."""

    status: str
    """The status, or `NOTHING` if no byte of an answer has arrived."""
    head: str = ""
    """The status line and the headers."""
    why: str = ""
    """What the TLS library said, if there was no answer."""


class Intruder:
    """Somebody with a certificate, or without, who sends requests from an address of its own."""

    def __init__(
        self, port: int, folder: Path, identity: Identity | None = None, source: str = "127.0.0.66"
    ) -> None:
        """Attack a port of 127.0.0.1 from the address `source`; `folder` is for files."""
        self._port = port
        self._source = source
        self._files = None if identity is None else write_identity(identity, folder)
        self.identity = identity

    def connect(self) -> socket.socket:
        """Return a TCP connection."""
        return socket.create_connection(("127.0.0.1", self._port), _TIMEOUT, (self._source, 0))

    def ask(
        self,
        request: bytes,
        version: ssl.TLSVersion | None = None,
    ) -> Answer:
        """Send a request on a connection of its own; return the head of the answer."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version is not None:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
        if self._files is not None:
            context.load_cert_chain(*self._files)
        head = b""
        try:
            with self.connect() as raw, context.wrap_socket(raw) as connection:
                # What is refused early is answered before all of it has been sent.
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(request)
                while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                    head += data
        except (ssl.SSLError, ConnectionError) as error:
            return _answer(head, str(error))
        return _answer(head)

    def request(
        self,
        method: str,
        path: str,
        body: object = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request as `ask` does."""
        return self.ask(encode_request(method, path, body, headers or {}))

    def send_plain(self, data: bytes) -> bytes:
        """Send bytes without TLS; return all that is answered before the connection ends."""
        received = b""
        with self.connect() as raw, suppress(ConnectionError):
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            while piece := raw.recv(65536):
                received += piece
        return received

    def renegotiate(self, beat: bytes) -> tuple[bool, bool]:
        """Ask for a new handshake on a TLS 1.2 connection, then send a heartbeat.

        Return whether hbtd has begun a handshake, and whether it has answered the heartbeat.
        """
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256")
        assert self._files is not None
        context.use_certificate_chain_file(str(self._files[0]))
        context.use_privatekey_file(str(self._files[1]))
        with self.connect() as raw:
            tls = SSL.Connection(context, None)
            tls.set_connect_state()
            while True:
                try:
                    tls.do_handshake()
                    break
                except SSL.WantReadError:
                    with suppress(SSL.WantReadError):
                        raw.sendall(tls.bio_read(65536))
                    tls.bio_write(raw.recv(65536))
            with suppress(SSL.WantReadError):
                raw.sendall(tls.bio_read(65536))
            writer = OldRecordWriter(tls)
            raw.sendall(writer.record(HELLO, HANDSHAKE) + writer.record(beat))
            kinds: list[int] = []
            data = b""
            while 23 not in kinds and (piece := raw.recv(65536)):
                data += piece
                kinds = record_kinds(data)
            return 22 in kinds, 23 in kinds


def record_kinds(data: bytes) -> list[int]:
    """Return the kinds of the TLS records in some bytes: 21 an alert, 22 a handshake, 23 data."""
    kinds, at = [], 0
    while at + 5 <= len(data):
        kinds.append(data[at])
        at += 5 + int.from_bytes(data[at + 3 : at + 5], "big")
    return kinds


def bombs(name: str, token: bytes) -> dict[str, tuple[bytes, str]]:
    """Return requests that are too much, by what they are, with the statuses that are right.

    Heartbeats have a token and a component's name. A body may have 1 MiB at most.
    """
    beat = json.dumps(heartbeat(name)).encode()
    head = b"POST /hmi/v1/heartbeat HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %b\r\n" % token
    states = b"POST /hmi/v1/hbstates HTTP/1.1\r\nHost: h\r\n"
    length, chunks = b"Content-Length: %b\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"
    fields = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    zipped = gzip.compress(b"[" * _MIB)
    # hbtd reads some of a body that is too large, so that its sender reads the answer.
    flood = b" " * (5 * _MIB)
    return {
        "a head of 64 KiB": (head + b"X: " + b"x" * 65536 + b"\r\n\r\n", "431"),
        "200 fields": (head + fields + b"\r\n", "400"),
        "a heartbeat above 64 KiB": (head + length % b"65537" + b" " * 65537, "413"),
        "a flood": (states + length % b"9999999999" + flood, "413"),
        "a flood in one chunk": (states + chunks + b"fffffffff\r\n" + flood, "413"),
        "a length of 5000 digits": (states + length % (b"9" * 5000), "400"),
        "a negative length": (states + length % b"-1", "400"),
        "two lengths": (head + b"Content-Length: 1\r\n" + length % b"2" + b"{}", "400"),
        "length and chunks": (head + b"Content-Length: 4\r\n" + chunks + b"0\r\n\r\n", "400"),
        "compressed": (
            states + b"Content-Encoding: gzip\r\n" + length % b"%d" % len(zipped) + zipped,
            "400",
        ),
        "deep JSON": (states + length % b"200000" + b"[" * 200_000, "400"),
        "bare line feeds": (head.replace(b"\r\n", b"\n") + b"\n" + beat, "400"),
    }


DETOURS = (
    *("/hmi/v1/internals/", "/hmi/v1//internals", "//hmi/v1/internals", "/hmi/v1/./internals"),
    *("/hmi/v1/liveness/../internals", "/hmi/v1/liveness/%2e%2e/internals", "/HMI/V1/internals"),
    *("/hmi/v1/INTERNALS", "/hmi/v1/internals;x", "/hmi/v1/internals%00", "/hmi/v1/%69nternals"),
    *("/hmi%2fv1%2finternals", "/hmi/v1/internals%20", "/hmi/v1\\internals", "/v1/internals?x"),
    *("http://localhost/v1/internals", "/ui/../v1/internals", "/ui/%2e%2e/v1/internals"),
    *("/ui/..%2fv1%2finternals", "/ui/../../../../etc/passwd", "/ui/..%2f..%2fetc%2fpasswd"),
    *("/ui//etc/passwd", "/ui/%00", "/metrics/", "//metrics", "/%6detrics", "/hmi/v1/metrics?a=b"),
)
"""Targets that mean a route which is closed, or a file, to somebody who reads them carelessly."""


def _answer(head: bytes, why: str = "") -> Answer:
    text = head.partition(b"\r\n\r\n")[0].decode("latin-1")
    if not head:
        return Answer(NOTHING, why=why)
    return Answer(text.partition(" ")[2][:3], text, why)
