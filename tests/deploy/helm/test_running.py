"""hbtd as the chart starts it: what the kubelet, nodes and `helm test` get from it."""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase
from twisted.web.http_headers import Headers

from tests.support.certificates import make_identity, write_identity
from tests.support.etcd_running import needs_etcd
from tests.support.etcd_server import EtcdServer
from tests.support.helm import needs_helm, render
from tests.support.processes import CHECKOUT, HbtdProcess, spawn
from tests.support.running import WebClient, heartbeat, reactor, until

TOKEN = "operators-first-token"


class MountedSecret:
    """A Secret in a directory, as the kubelet mounts it: a link leads to the present files."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = 0
        path.mkdir(parents=True)

    def write(self, files: dict[str, bytes]) -> None:
        """Replace all files at once."""
        self._written += 1
        version = self._path / f"..{self._written}"
        version.mkdir()
        for name, data in files.items():
            (version / name).write_bytes(data)
            (version / name).chmod(0o440)
            if not (self._path / name).is_symlink():
                (self._path / name).symlink_to(f"..data/{name}")
        (self._path / "..new").symlink_to(version.name)
        os.replace(self._path / "..new", self._path / "..data")


def certificate(folder: Path) -> tuple[dict[str, bytes], int]:
    """Make a certificate; return the files of a Secret of it, and its serial number."""
    identity = make_identity("localhost", days=30)
    cert, key = write_identity(identity, folder)
    serial = identity.chain[0].serial_number
    return {"tls.crt": cert.read_bytes(), "tls.key": key.read_bytes()}, serial


@needs_helm
@needs_etcd
class RunningTests(TestCase):
    """A process with the rendered arguments; only paths, addresses and the port are the test's."""

    timeout = 240

    async def setUp(self):  # type: ignore[override]  # trial waits for it
        """Start an etcd, and hbtd on it."""
        self.folder = Path(self.mktemp()).resolve()
        self.etcd = EtcdServer()
        self.addCleanup(deferToThread, self.etcd.close)
        await deferToThread(self.etcd.start)
        self.tls = MountedSecret(self.folder / "etc" / "tls")
        files, self.serial = certificate(self.folder / "first")
        self.tls.write(files)
        self.tokens = MountedSecret(self.folder / "etc" / "tokens")
        self.tokens.write({"tokens": TOKEN.encode()})
        options = {"kv_url": self.etcd.address, "nosm": True}
        self.objects = render({"options": options, "secrets": {"tls": "a", "tokens": "b"}})
        self.containers = {
            each["kind"]: each["spec"].get("template", each)["spec"]["containers"][0]
            for each in self.objects
            if each["kind"] in ("Deployment", "Pod")
        }
        arguments = [
            word.replace("/etc/hbtd", str(self.folder / "etc"))
            for word in self.containers["Deployment"]["args"]
        ]
        self.client = WebClient(self)
        self.hbtd: HbtdProcess = spawn(self, ["-m", "hbtd", *arguments, "--port=0"])
        self.url = await self.hbtd.url

    async def probe(self, name: str) -> int:
        """Ask as the kubelet does; return the status."""
        path = self.containers["Deployment"][f"{name}Probe"]["httpGet"]["path"]
        return (await self.client.request("GET", f"{self.url}{path}"))[0]

    async def until_probe(self, name: str, status: int) -> None:
        """Wait until a probe is answered with a status."""
        deadline = reactor.seconds() + 60
        while await self.probe(name) != status:
            self.assertLess(reactor.seconds(), deadline, f"{name}: not {status} within 60 s")

    async def beat(self) -> int:
        """Send a heartbeat; return the status."""
        url = f"{self.url}/hmi/v1/heartbeat"
        return (await self.client.request("POST", url, heartbeat()))[0]

    async def test_outage(self) -> None:
        """An etcd that is away makes hbtd unready, but neither dead nor deaf."""
        await self.until_probe("startup", 204)
        await self.until_probe("readiness", 204)
        await deferToThread(self.etcd.kill)
        await self.until_probe("readiness", 503)
        self.assertEqual(await self.probe("liveness"), 204)
        self.assertEqual(await self.beat(), 200)
        await deferToThread(self.etcd.start)
        await self.until_probe("readiness", 204)
        self.assertEqual(await self.beat(), 200)

    async def test_rotated(self) -> None:
        """A Secret that is changed counts without a restart: certificate and tokens."""
        self.assertEqual(await self.served(), self.serial)
        files, serial = certificate(self.folder / "second")
        self.tls.write(files)
        self.tokens.write({"tokens": b"operators-second-token"})
        self.assertEqual(await self.patched(TOKEN), 401)
        self.assertEqual(await self.patched("operators-second-token"), 200)
        deadline = reactor.seconds() + 60
        while await self.served() != serial:
            self.assertLess(reactor.seconds(), deadline, "the certificate is the old one")

    async def served(self) -> int:
        """Return the serial number of the certificate that hbtd serves now."""
        _, _, port = self.url.rpartition(":")
        return await deferToThread(_serial, int(port))

    async def patched(self, token: str) -> int:
        """Change a parameter with a token; return the status."""
        response = await self.client.treq.request(
            "PATCH",
            f"{self.url}/hmi/v1/params",
            headers=Headers({"Authorization": [f"Bearer {token}"]}),
            json={"Warntime": "11"},
            timeout=20,
            reactor=reactor,
        )
        await response.content()
        return int(response.code)

    async def test_smoke(self) -> None:
        """What `helm test` runs finds nothing wrong, but without hbtd fails."""
        await self.until_probe("readiness", 204)
        words = self.containers["Pod"]["args"]
        arguments = [f"--url={self.url}" if word.startswith("--url=") else word for word in words]
        out, status = await self.smoke(arguments)
        self.assertEqual(status, 0, out)
        self.hbtd.signal(signal.SIGKILL)
        await until(lambda: self.hbtd.ended.called)
        out, status = await self.smoke(arguments)
        self.assertEqual(status, 3, out)

    async def smoke(self, arguments: Sequence[str]) -> tuple[str, int]:
        """Run hbtd-smoke; return its output and exit status."""
        words = ["-m", "hbtd.smoke", *arguments]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
        result: Any = await getProcessOutputAndValue(sys.executable, words, environ, str(CHECKOUT))
        out, err, status = result
        return (out + err).decode(), int(status)


def _serial(port: int) -> int:
    """Connect over TLS; return the serial number of the certificate there."""
    with socket.create_connection(("localhost", port), timeout=20) as plain:
        plain.settimeout(None)
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), plain)
        connection.set_connect_state()
        connection.do_handshake()
        found = connection.get_peer_certificate()
        assert found is not None
        return found.get_serial_number()
