"""The cost of authenticating nodes: certificates and JWTs, compared with no authentication.

Each connection belongs to a node with credentials of its own and sends that node's heartbeats,
several at a time. So hbtd is never idle, and the rate is hbtd's, not the load generator's. (With
one at a time hbtd is idle now and then, and the kernel's cost of waking processes, which varies,
outweighs what is measured here.)

Run as `python -m benchmarks.access URL CREDENTIALS FOLDER SECONDS` it is the load generator: it
prints `ready` when all nodes are connected, begins when it reads a line from standard input, and
prints the number of heartbeats that were answered.
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
    """Measure all kinds of credentials in turn over TLS, `seconds` each, in so many rounds."""
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
    """The result of one run of the load."""

    rate: float
    """Heartbeats per second."""
    busy: float
    """The share of the time that hbtd was busy."""


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
    """Run the load once for `seconds`."""
    command = [sys.executable, "-m", "benchmarks.access", url, way, str(folder), str(seconds)]
    with subprocess.Popen(
        on_core(LOAD_CORE, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"no load with {way}")
        before = processor_seconds(pid)
        output, _ = process.communicate("go\n")
    answered = int(output)
    return Sample(answered / seconds, (processor_seconds(pid) - before) / seconds)


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _make_credentials(folder: Path) -> None:
    """Write a certificate and a token for each node, and the CA and keys that verify them."""
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
    """Write a certificate, self-signed if there is no issuer, and its key to one file."""

    def subject(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])

    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject(name))
        .issuer_name(subject(issuer or name))
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
    port = urlsplit(url).port
    assert port is not None
    plain = socket.create_connection(("127.0.0.1", port))
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
    """A node that sends its next heartbeats when all have been answered."""

    def __init__(self, connection: ssl.SSLSocket, requests: bytes) -> None:
        self.connection = connection
        self.requests = requests
        self._unanswered = _AT_ONCE

    def read(self) -> int:
        """Read the answers that have come; return their number."""
        try:
            answers = self.connection.recv(16384)
        except ssl.SSLWantReadError:
            return 0
        count = answers.count(b"HTTP/1.1 200 OK\r\n")
        if count != answers.count(b"HTTP/1.1 ") or not answers.endswith(b"\r\n\r\n"):
            raise RuntimeError(f"a heartbeat failed: {answers!r}")
        self._unanswered -= count
        if self._unanswered == 0:
            self._unanswered = _AT_ONCE
            self.connection.send(self.requests)
        return count


def _run_load(url: str, way: str, folder: Path, seconds: float) -> int:
    """Send every node's heartbeats for `seconds`; return the number of answers."""
    selector = selectors.DefaultSelector()
    nodes: list[_Node] = []
    for name in node_names(_CONNECTIONS):
        node = _Node(_connect(url, way, folder, name), _request(way, folder, name) * _AT_ONCE)
        nodes.append(node)
        selector.register(node.connection, selectors.EVENT_READ, node)
    print("ready", flush=True)
    sys.stdin.readline()
    for node in nodes:
        node.connection.setblocking(False)
        node.connection.send(node.requests)
    answered = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for ready, _ in selector.select(1.0):
            answered += ready.data.read()
    return answered


if __name__ == "__main__":
    print(_run_load(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])))
