"""hbtd as a client whose files are replaced, because servers change their authorities."""

from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import TestCase
from twisted.web.resource import IResource
from twisted.web.server import Site

from hbtd.access.jwks import FIRST_RETRY
from hbtd.net.tls import Identity, ServerOptions
from hbtd.simulator.fake_hsm import FakeHSM
from tests.support.certificates import make_identity, write_identity
from tests.support.issuer import Issuer, JWKSPage, bearer
from tests.support.running import NODE, Hbtd, heartbeat, reactor, start_hbtd, until


class ClientFilesTests(TestCase):
    """A site renews its authority: servers get new certificates, then hbtd gets the new bundle."""

    timeout = 120

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.old, self.new = make_identity("localhost"), make_identity("localhost")
        self.bundle = write_identity(self.old, self.folder)[0]

    def serve(self, page: IResource, identity: Identity, port: int = 0) -> Any:
        """Serve a page by https."""
        listening = reactor.listenSSL(
            port, Site(page), ServerOptions(identity), interface="127.0.0.1"
        )
        self.addCleanup(lambda: maybeDeferred(listening.stopListening))
        return listening

    async def serve_anew(self, listening: Any, page: IResource) -> None:
        """Serve a page on the same port with the new certificate."""
        port = listening.getHost().port
        await maybeDeferred(listening.stopListening)
        self.serve(page, self.new, port)

    async def test_hsm(self) -> None:
        """With a new bundle in `--sm_ca` and a reload, what waited and later deaths are told."""
        hsm = FakeHSM(reactor)
        self.addCleanup(hsm.stop)
        listening = self.serve(hsm.resource(), self.old)
        hbtd = start_hbtd(
            self,
            nosm=False,
            sm_url=f"https://localhost:{listening.getHost().port}/hsm/v1",
            sm_ca=str(self.bundle),
            warntime=1,
            errtime=2,
            interval=1,
        )
        await hbtd.beat()
        # By then the connection is idle, so that it is closed below.
        await until(lambda: hbtd.service.notifier.delivered_count == 1)
        self.assertEqual(self.state(hsm), "Ready")
        await self.serve_anew(listening, hsm.resource())
        # A connection is closed only if no answer is awaited on it.
        await until(lambda: hbtd.service.notifier.pending_count == 0)
        for agent in hbtd.service.core.agents:
            await agent.closeCachedConnections()  # they would be used for as long as they last
        await until(lambda: hbtd.service.tracker.dead == 1, within=30)
        await until(lambda: hbtd.service.notifier.trouble() is not None, within=30)
        self.assertEqual(self.state(hsm), "Ready")
        write_identity(self.new, self.folder)
        hbtd.service.reload()
        await until(lambda: self.state(hsm) == "Standby", within=30)

    def state(self, hsm: FakeHSM) -> str | None:
        """Return the state of the node in HSM."""
        component = hsm.components.get(NODE)
        return None if component is None else component.state

    async def test_notices(self) -> None:
        """The end of an authority is announced at start, and that of another as it is read."""
        soon, sooner = make_identity("soon", days=5), make_identity("sooner", days=0.5)
        write_identity(soon, self.folder)
        with capturedLogs() as events:
            hbtd = start_hbtd(self, sm_ca=str(self.bundle))
            await until(lambda: hbtd.service.access.running)
            write_identity(sooner, self.folder)
            hbtd.service.reload()
        texts = [eventAsText(each) for each in events]
        for name, days in (("soon", 5), ("sooner", 1)):
            (line,) = [text for text in texts if f"The authority CN={name} in --sm_ca" in text]
            self.assertIn(f"in at most {days} days.", line)

    async def test_keys(self) -> None:
        """With a new bundle in `--jwt_ca` and a reload, the issuer's new keys are fetched."""
        first, second = Issuer("RS256", "one"), Issuer("ES256", "two")
        page = JWKSPage(first.jwks())
        listening = self.serve(page, self.old)
        url = f"https://localhost:{listening.getHost().port}/keys"
        hbtd = start_hbtd(self, node_access=f"jwt:{url}", jwt_ca=str(self.bundle))
        tokens = hbtd.service.access.gate._node_tokens
        await until(lambda: tokens is not None and tokens.keys is not None)
        await self.serve_anew(listening, page)
        page.content = second.jwks()
        write_identity(self.new, self.folder)
        hbtd.service.reload()
        status = 0
        deadline = reactor.seconds() + 3 * FIRST_RETRY + 10
        while status != 200 and reactor.seconds() < deadline:
            status = await self.beat(hbtd, second)
            await deferLater(reactor, 0.05)
        self.assertEqual(status, 200)

    async def beat(self, hbtd: Hbtd, issuer: Issuer) -> int:
        """Send a heartbeat with a token; return the status."""
        headers: Any = bearer(issuer.token(NODE))
        response = await hbtd.client.treq.post(
            f"{hbtd.url}/hmi/v1/heartbeat",
            json=heartbeat(),
            headers=headers,
        )
        await response.content()
        return int(response.code)
