"""Processes under measurement."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from time import monotonic, sleep

_CORES = sorted(os.sched_getaffinity(0))

SERVER_CORE = _CORES[0]
"""The core of what is measured."""

LOAD_CORE = _CORES[-1]
"""The core of whatever makes load; another one, where there are two."""


def on_core(core: int, command: Sequence[str]) -> list[str]:
    """Pin a command to a core."""
    return ["taskset", "--cpu-list", str(core), *command]


@contextmanager
def hbtd(*options: str) -> Iterator[str]:
    """Run hbtd with the memory store on the server core; gives its URL."""
    with hbtd_process(*options) as (url, _):
        yield url


@contextmanager
def hbtd_process(*options: str) -> Iterator[tuple[str, int]]:
    """Run hbtd on the server core, with the memory store if no other; gives URL and process."""
    command = [sys.executable, "-m", "hbtd", "--kv_url=mem:", "--use_telemetry=no", *options]
    with _serving(on_core(SERVER_CORE, command), r"serves (\S+)") as (url, pid):
        yield url.replace("//[::]", "//localhost"), pid


@contextmanager
def fake_hsm(*options: str) -> Iterator[str]:
    """Run the fake HSM on the load core; gives its base URL."""
    command = [sys.executable, "-m", "hbtd.simulator", "hsm", "--port=0", *options]
    with _serving(on_core(LOAD_CORE, command), r"listening on (\S+)") as (url, _):
        yield url


@contextmanager
def nginx(certificate: str, key: str) -> Iterator[tuple[str, str]]:
    """Run nginx, one worker on the server core, answering 200; gives its plain and TLS URLs."""
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
            " location / { return 200; } } }"
        )
        command = on_core(SERVER_CORE, ["nginx", "-e", "stderr", "-c", str(config)])
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                _wait_for_port(tls)
                yield f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}"
            finally:
                process.terminate()


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
    """Run a server until the block ends; gives where it says that it serves, and its process id."""
    with (
        TemporaryFile() as said,
        subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as process,
    ):
        try:
            deadline = monotonic() + 20
            while True:
                # By position, so that what the process writes is not disturbed.
                text = os.pread(said.fileno(), 65536, 0).decode("utf-8", "replace")
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
