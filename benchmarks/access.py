"""What it costs to know who sends a heartbeat: certificates and JWTs, compared with asking nobody.

Each of the connections is a node's, with credentials of its own, and sends that node's heartbeats,
several at once: so a load generator that can do this is faster than hbtd, which is never idle, and
the rate is hbtd's and not the generator's. (With one at a time it is idle now and then, and what it
costs the kernel to wake the other side, which varies, outweighs what is measured here.)

Run as `python -m benchmarks.access URL CREDENTIALS FOLDER SECONDS` it makes the load: it says
`ready` when all have connected, begins at a line on its standard input, and prints how many it got
answered.
"""

import json
import os
import selectors
import socket
import ssl
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from benchmarks.running import LOAD_CORE, hbtd_process, on_core
from benchmarks.table import Row
from hbtd.simulator.fleet import node_names

_CONNECTIONS = 64
_AT_ONCE = 8
_WAYS = ("any", "cert", "jwt")
_TICK = os.sysconf("SC_CLK_TCK")


def measure(seconds: int, rounds: int) -> list[Row]:
    """Measure all ways in turn, over TLS, as often as `rounds` says."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        _make_credentials(folder)
        cert = f"--tls_cert={folder / 'server.pem'}", f"--tls_key={folder / 'server.pem'}"
        options = ("--nosm", "--port=0", f"--tls_client_ca={folder / 'ca.pem'}", *cert)
        servers = {
            way: stack.enter_context(hbtd_process(*options, f"--node_access={way}{jwks}"))
            for way, jwks in zip(_WAYS, ("", "", f":{folder / 'jwks.json'}"), strict=True)
        }
        samples: dict[str, list[Sample]] = {way: [] for way in _WAYS}
        for _ in range(rounds):
            for way, (url, pid) in servers.items():
                samples[way].append(_sample(url, pid, way, folder, seconds))
    return list(_rows(samples))


class Sample(NamedTuple):
    """What one run of the load found."""

    rate: float
    """Heartbeats a second."""
    busy: float
    """Which part of the time hbtd was at work."""


def _rows(samples: dict[str, list[Sample]]) -> Iterator[Row]:
    rates = {way: median(sample.rate for sample in each) for way, each in samples.items()}
    busy = {way: median(sample.busy for sample in each) for way, each in samples.items()}
    yield Row(
        f"TLS, {_CONNECTIONS} nodes, {_AT_ONCE} heartbeats each at once, --node_access=any:"
        " heartbeats/s",
        f"{rates['any']:,.0f}  (hbtd {busy['any']:.0%} busy)",
    )
    for way in _WAYS[1:]:
        yield Row(
            f"... with {way} ({rates[way]:,.0f}/s; {busy[way]:.0%} busy): rate / that of any",
            f"{rates[way] / rates['any']:.2f}",
            ">= 0.8",
        )


def _sample(url: str, pid: int, way: str, folder: Path, seconds: int) -> Sample:
    """Run the load once."""
    command = [sys.executable, "-m", "benchmarks.access", url, way, str(folder), str(seconds)]
    with subprocess.Popen(
        on_core(LOAD_CORE, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"no load with {way}")
        before = _processor_seconds(pid)
        said, _ = process.communicate("go\n")
    answered = int(said)
    return Sample(answered / seconds, (_processor_seconds(pid) - before) / seconds)


def _processor_seconds(pid: int) -> float:
    """Tell how long a process has kept a processor busy."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _make_credentials(folder: Path) -> None:
    """Write a certificate and a token for each node, and what they are checked with."""
    authority = ec.generate_private_key(ec.SECP256R1())
    _write(folder / "ca.pem", "authority", authority, "authority", authority, is_ca=True)
    _write(folder / "server.pem", "localhost", ec.generate_private_key(ec.SECP256R1()))
    signer = ec.generate_private_key(ec.SECP256R1())
    numbers = signer.public_key().public_numbers()
    x, y = (
        urlsafe_b64encode(each.to_bytes(32, "big")).rstrip(b"=").decode()
        for each in (numbers.x, numbers.y)
    )
    key = {"kty": "EC", "crv": "P-256", "kid": "one", "x": x, "y": y}
    (folder / "jwks.json").write_text(json.dumps({"keys": [key]}))
    for name in node_names(_CONNECTIONS):
        own = ec.generate_private_key(ec.SECP256R1())
        _write(folder / f"{name}.pem", name, own, "authority", authority)
        claims = {
            "sub": f"spiffe://site.example/compute/{name}/workload/heartbeat",
            "aud": ["system-compute"],
            "iss": "https://site.example/issuer",
            "iat": int(time.time()),
            "exp": int(time.time()) + 86400,
        }
        token = jwt.encode(claims, signer, "ES256", {"kid": "one"})
        (folder / f"{name}.jwt").write_text(token)


def _write(
    path: Path,
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str = "",
    issuer_key: ec.EllipticCurvePrivateKey | None = None,
    *,
    is_ca: bool = False,
) -> None:
    """Write a certificate, self-signed if there is no issuer, and its key into one file."""

    def named(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])

    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer or name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(issuer_key or key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + pem)


def _connect(url: str, way: str, folder: Path, name: str) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if way == "cert":
        context.load_cert_chain(folder / f"{name}.pem")
    plain = socket.create_connection(("127.0.0.1", urlsplit(url).port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain)


def _request(way: str, folder: Path, name: str) -> bytes:
    body = (
        f'{{"Component":"{name}","Hostname":"nid000001","NID":"1","Status":"OK",'
        '"Timestamp":"2026-11-23T00:00:00.000000+00:00"}'
    )
    credentials = ""
    if way == "jwt":
        credentials = f"Authorization: Bearer {(folder / f'{name}.jwt').read_text()}\r\n"
    return (
        "POST /hmi/v1/heartbeat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"{credentials}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


class _Node:
    """A node that sends its heartbeats anew when all have been answered."""

    def __init__(self, connection: ssl.SSLSocket, requests: bytes) -> None:
        self.connection = connection
        self.requests = requests
        self._waiting_for = _AT_ONCE

    def read(self) -> int:
        """Read what there is; gives how many answers that is."""
        try:
            answers = self.connection.recv(16384)
        except ssl.SSLWantReadError:
            return 0
        count = answers.count(b"HTTP/1.1 200 OK\r\n")
        if count != answers.count(b"HTTP/1.1 ") or not answers.endswith(b"\r\n\r\n"):
            raise RuntimeError(f"a heartbeat failed: {answers!r}")
        self._waiting_for -= count
        if self._waiting_for == 0:
            self._waiting_for = _AT_ONCE
            self.connection.send(self.requests)
        return count


def _play(url: str, way: str, folder: Path, seconds: float) -> int:
    """Have every node send its heartbeats; gives how many were answered."""
    waiting = selectors.DefaultSelector()
    nodes: list[_Node] = []
    for name in node_names(_CONNECTIONS):
        node = _Node(_connect(url, way, folder, name), _request(way, folder, name) * _AT_ONCE)
        nodes.append(node)
        waiting.register(node.connection, selectors.EVENT_READ, node)
    print("ready", flush=True)
    sys.stdin.readline()
    for node in nodes:
        node.connection.setblocking(False)
        node.connection.send(node.requests)
    answered = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for ready, _ in waiting.select(1.0):
            answered += ready.data.read()
    return answered


if __name__ == "__main__":
    print(_play(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])))
