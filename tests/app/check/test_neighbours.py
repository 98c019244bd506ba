"""What a check finds out about the neighbours, and that they are told nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from hbtd.app.check.findings import Findings
from hbtd.app.check.neighbours import Neighbours
from hbtd.config.params import Params
from tests.support.certificates import make_identity, write_identity
from tests.support.etcd_running import EVERYTHING, EtcdTestCase
from tests.support.issuer import Issuer, JWKSPage
from tests.support.running import reactor, start_hsm

ALONE = Params(kv_url="mem:", nosm=True, use_telemetry=False)


class NeighboursTestCase(TestCase):
    """Neighbours on ports of this host."""

    timeout = 120

    async def check(self, **params: Any) -> list[str]:
        """Check the neighbours that parameters name; return what is found, which is no error."""
        said: list[str] = []
        findings = Findings(said.append)
        await Neighbours(replace(ALONE, **params), reactor, findings).check()
        self.assertEqual(findings.status, 0)
        return said

    def listen(self, factory: Any, tls: CertificateOptions | None = None) -> int:
        """Listen on a port until the test ends, and return its number."""
        if tls is None:
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, factory, tls, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)


class AnswersTests(NeighboursTestCase):
    """HSM, Kafka and the issuer."""

    async def test_hsm(self) -> None:
        """An HSM that is ready answers; one that is not says so, and a silent one is given up."""
        hsm = start_hsm(self)
        self.assertEqual(
            await self.check(nosm=False, sm_url=hsm.url), [f"ok: --sm_url: {hsm.url} answers"]
        )
        silent = f"http://127.0.0.1:{self.listen(Factory.forProtocol(Protocol))}/hsm"
        (line,) = await self.check(nosm=False, sm_url=silent, sm_timeout=1)
        self.assertIn("HSM did not answer within 1 s; hbtd starts without it", line)
        page = f"http://127.0.0.1:{self.listen(Site(Resource(), timeout=5))}/hsm"
        (line,) = await self.check(nosm=False, sm_url=page)
        self.assertIn("HSM is not ready: 404", line)
        self.assertEqual(hsm.hsm.updates, [])

    async def test_certificate(self) -> None:
        """A server whose authority --sm_ca does not have is a warning that names the option."""
        folder = Path(self.mktemp())
        other, _ = write_identity(make_identity("localhost"), folder / "other")
        mine = make_identity("localhost")
        cert, _ = write_identity(mine, folder / "mine")
        page = Resource()
        page.putChild(b"hsm", Resource())
        tls = CertificateOptions(**mine.arguments())
        url = f"https://localhost:{self.listen(Site(page, timeout=5), tls)}/hsm"
        (line,) = await self.check(nosm=False, sm_url=url, sm_ca=str(other))
        self.assertIn("--sm_ca", line)
        (line,) = await self.check(nosm=False, sm_url=url, sm_ca=str(cert))
        self.assertIn("HSM is not ready: 404", line)  # it was asked

    async def test_unusable_file(self) -> None:
        """With a file that can't be used nobody is asked: that is an error elsewhere."""
        self.assertEqual(await self.check(nosm=False, sm_ca="/nowhere/ca.pem"), [])

    async def test_kafka(self) -> None:
        """A Kafka that accepts a connection answers; it is sent nothing."""
        received: list[bytes] = []

        class Broker(Protocol):
            def dataReceived(self, data: bytes) -> None:
                received.append(data)

        host = f"127.0.0.1:{self.listen(Factory.forProtocol(Broker))}:topic"
        said = await self.check(use_telemetry=True, telemetry_host=host)
        self.assertIn(f"ok: --telemetry_host: {host} answers", said)
        self.assertEqual(received, [])

    async def test_issuer(self) -> None:
        """An issuer that has keys answers; something else there is a warning."""
        for content, words in ((Issuer().jwks(), " answers"), (b"{}", "hbtd starts without it")):
            page = JWKSPage(content)
            root = Resource()
            root.putChild(b"keys", page)
            url = f"http://127.0.0.1:{self.listen(Site(root, timeout=5))}/keys"
            said = await self.check(node_access=f"jwt:{url}")
            self.assertIn(url, said[-1])
            self.assertTrue(said[-1].endswith(words), said)


class EtcdTests(EtcdTestCase, NeighboursTestCase):
    """etcd."""

    async def test_etcd(self) -> None:
        """Each member is asked for itself, and has no other keys afterwards, nor revisions."""
        before = await self.client.range(*EVERYTHING)
        up, down = self.etcd.address, "http://127.0.0.1:1"
        said = await self.check(kv_url=f"{up},{down}")
        self.assertIn(f"ok: --kv_url: {up} answers", said)
        (line,) = [line for line in said if down in line]
        self.assertTrue(line.startswith("warning: "))
        self.assertEqual(await self.client.range(*EVERYTHING), before)
