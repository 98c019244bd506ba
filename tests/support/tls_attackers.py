"""Hostile TLS clients on real sockets: `python -m tests.support.tls_attackers PORT KIND COUNT`.

It attacks as often as is asked for, and then prints what it has seen, counted, as JSON.
"""

import json
import random
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from threading import Lock, Thread

from OpenSSL import SSL

from tests.support.attackers import beat
from tests.support.tls_records import (
    HANDSHAKE,
    HELLO,
    KEY_UPDATE_REQUEST,
    OldRecordWriter,
    RecordWriter,
    context_with_secrets,
)

_THREADS = 4
_TIMEOUT = 30.0

_AT_ONCE = 25
"""Attempts of a thread that are open at once, where they stay open."""

_PER_CONNECTION = 500
"""Renegotiations and KeyUpdates on a connection, apart from the one that gets them by thousands."""

_BEAT = beat("x1000c0s0b0n2")
_DOCUMENT = b"GET /hmi/v1/openapi.json HTTP/1.1\r\nHost: h\r\n\r\n"
_PIPELINED = 3
"""Documents that are asked for at once, which is more than a socket takes."""

_RESET = struct.pack("ii", 1, 0)


class Attack:
    """Attacks of all kinds, of which each does a number of attempts."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen: Counter[str] = Counter()
        """What has happened how often."""
        self._lock = Lock()
        self._numbers = count()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self._context.wrap_bio(incoming, outgoing)
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        self._hello = outgoing.read()

    def halves(self, attempts: int) -> None:
        """Begin handshakes, and stop somewhere: within the first message, or behind it."""
        opened: list[socket.socket] = []
        for number in range(attempts):
            client = self._connect(opened)
            whole = number % 2
            client.sendall(self._hello if whole else self._hello[: 1 + number % 200])
            if whole:
                client.recv(1)
                self._note("answered")
            self._note("begun")
            self._close_some(opened, attempts - number)

    def renegotiations(self, attempts: int) -> None:
        """Ask for new handshakes on TLS 1.2 connections, then send a heartbeat on each."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
        for size in _shares(attempts, _PER_CONNECTION):
            client, tls = self._shake_hands(context)
            writer = OldRecordWriter(tls)
            records = b"".join(writer.record(HELLO, HANDSHAKE) for _ in range(size))
            client.sendall(records + writer.record(_BEAT))
            self._note("asked", size)
            # OpenSSL would give up after a few of the alerts by which it is refused.
            data = b""
            while 23 not in (kinds := _kinds(data)):
                received = client.recv(65536)
                if not received:
                    break
                data += received
            self._note("refused", kinds.count(21))
            self._note("still answered", 23 in kinds)
            client.close()

    def key_updates(self, attempts: int) -> None:
        """Update keys on TLS 1.3 connections, by thousands on one, then send a heartbeat."""
        secrets: list[bytes] = []
        context = context_with_secrets(secrets)
        first = attempts * 2 // 3
        for size in (first, *_shares(attempts - first, _PER_CONNECTION)):
            secrets.clear()
            client, tls = self._shake_hands(context)
            writer = RecordWriter(secrets[0])
            records = b"".join(writer.update_keys(KEY_UPDATE_REQUEST) for _ in range(size))
            client.sendall(records + writer.record(_BEAT))
            self._note("updated", size)
            answer = b""
            while not answer:
                try:
                    answer = tls.recv(16384)
                except SSL.WantReadError:
                    tls.bio_write(client.recv(65536))
            self._note("still answered", answer.startswith(b"HTTP/1.1 200"))
            client.close()

    def garbage(self, attempts: int) -> None:
        """Send what is no TLS: anything, records that are none, and plain HTTP."""
        chosen = random.Random(attempts)
        for number in range(attempts):
            data = chosen.randbytes(chosen.randint(1, 600))
            if number % 3 == 1:
                data = b"\x16\x03\x01" + data
            elif number % 3 == 2:
                data = _BEAT
            client = self._connect()
            with suppress(ConnectionError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                received = client.recv(65536)
                self._note("told" if b" 400 " in received else "ended")
            self._note("sent")
            client.close()

    def unannounced(self, attempts: int) -> None:
        """Send heartbeats, and end connections without saying so by TLS, or cut them off."""
        for number in range(attempts):
            client = self._connect()
            with self._context.wrap_socket(client) as tls:
                tls.sendall(_BEAT)
                self._note("answered", tls.recv(1000).startswith(b"HTTP/1.1 200"))
                if number % 2:
                    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def unread(self, attempts: int) -> None:
        """Ask for documents without end, and read nothing."""
        opened: list[socket.socket] = []
        for number in range(attempts):
            client = self._context.wrap_socket(self._connect(small=True))
            opened.append(client)
            client.sendall(_DOCUMENT * _PIPELINED)
            self._note("asked")
            self._close_some(opened, attempts - number)

    def _note(self, what: str, often: int = 1) -> None:
        with self._lock:
            self.seen[what] += often

    def _connect(
        self, opened: list[socket.socket] | None = None, *, small: bool = False
    ) -> socket.socket:
        client = socket.socket()
        client.settimeout(_TIMEOUT)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if small:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        # Of several addresses, as one has too few ports.
        client.bind((f"127.0.0.{2 + next(self._numbers) % 8}", 0))
        client.connect(("127.0.0.1", self._port))
        if opened is not None:
            opened.append(client)
        return client

    def _close_some(self, opened: list[socket.socket], left: int) -> None:
        if len(opened) < _AT_ONCE and left > 1:
            return
        for number, client in enumerate(opened):
            if number % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()
        opened.clear()

    def _shake_hands(self, context: SSL.Context) -> tuple[socket.socket, SSL.Connection]:
        client = self._connect()
        tls = SSL.Connection(context, None)
        tls.set_connect_state()
        while True:
            try:
                tls.do_handshake()
            except SSL.WantReadError:
                with suppress(SSL.WantReadError):
                    client.sendall(tls.bio_read(65536))
                tls.bio_write(client.recv(65536))
            else:
                break
        with suppress(SSL.WantReadError):
            client.sendall(tls.bio_read(65536))
        return client, tls


def _kinds(data: bytes) -> list[int]:
    """Return the kinds of the records that some bytes begin with."""
    kinds, at = [], 0
    while at + 5 <= len(data):
        kinds.append(data[at])
        at += 5 + int.from_bytes(data[at + 3 : at + 5], "big")
    return kinds


def _shares(total: int, most: int) -> list[int]:
    return [min(most, total - begin) for begin in range(0, total, most)]


def _attack(port: int, kind: str, attempts: int) -> None:
    attack = Attack(port)
    single = kind in ("key_updates", "renegotiations")
    threads = 1 if single else _THREADS
    failures: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as failure:  # noqa: BLE001  # which is raised below
            failures.append(failure)

    running = []
    for size in _shares(attempts, -(-attempts // threads)):
        thread = Thread(target=run, args=[partial(getattr(attack, kind), size)])
        thread.start()
        running.append(thread)
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]
    print(json.dumps(attack.seen))


if __name__ == "__main__":
    _attack(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
