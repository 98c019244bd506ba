"""hbtd and an HSM that asks for a certificate and a token, both of which change."""

from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import TestCase
from twisted.web.server import Site

from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.simulator.guards import StrictServerOptions, TokenGuard
from tests.support.certificates import make_identity, write_identity
from tests.support.processes import spawn
from tests.support.running import reactor, start_hbtd, until


class HSMCredentialsTests(TestCase):
    """An HSM over TLS, and hbtd; both have files that are replaced."""

    timeout = 120

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.server = make_identity("localhost")
        self.bundle = write_identity(self.server, self.folder / "server")[0]
        self.clients, self.others = make_identity("clients"), make_identity("others")
        self.hsm = FakeHSM(reactor)
        self.addCleanup(self.hsm.stop)
        self.theirs, self.ours = self.folder / "theirs", self.folder / "ours"
        for path in (self.theirs, self.ours):
            path.write_text("first-token\n")
            path.chmod(0o600)

    def serve(self, authority: Any, port: int = 0) -> Any:
        """Serve HSM to clients that an authority has certified, and that have the token."""
        listening = reactor.listenSSL(
            port,
            Site(TokenGuard(self.hsm.resource(), self.theirs)),
            StrictServerOptions(self.server, authority.chain),
            interface="127.0.0.1",
        )
        self.addCleanup(lambda: maybeDeferred(listening.stopListening))
        return listening

    def states(self) -> list[str]:
        """Return the states that HSM was told of the node, in order."""
        return [update.state for update in self.hsm.updates if update.applied]

    async def test_rotated(self) -> None:
        """A death judged while HSM refuses hbtd is told once, when both credentials are replaced.

        Nothing that hbtd logs or shows has a token.
        """
        cert, key = write_identity(make_identity("hbtd", self.clients), self.folder / "own")
        listening = self.serve(self.clients)
        with capturedLogs() as events:
            hbtd = start_hbtd(
                self,
                nosm=False,
                sm_url=f"https://localhost:{listening.getHost().port}/hsm/v1",
                sm_ca=str(self.bundle),
                sm_cert=str(cert),
                sm_key=str(key),
                sm_token=str(self.ours),
                warntime=1,
                errtime=2,
                interval=1,
            )
            await hbtd.beat()
            await until(lambda: self.states() == ["Ready"])
            # The authority of clients changes: hbtd's certificate is one of a stranger by now.
            port = listening.getHost().port
            await maybeDeferred(listening.stopListening)
            for agent in hbtd.service.core.agents:
                await agent.closeCachedConnections()
            self.serve(self.others, port)
            self.theirs.write_text("second-token")
            await until(lambda: hbtd.service.tracker.dead == 1, within=30)
            await until(lambda: "--sm_cert" in str(hbtd.service.notifier.trouble()), within=30)
            write_identity(make_identity("hbtd", self.others), self.folder / "own")
            hbtd.service.reload()
            await until(lambda: "401" in str(hbtd.service.notifier.trouble()), within=30)
            self.assertEqual(hbtd.service.notifier.pending_count, 1)
            self.ours.write_text("second-token")
            await until(lambda: "Standby" in self.states(), within=30)
            await until(lambda: hbtd.service.notifier.pending_count == 0)
        self.assertEqual([state for state in self.states() if state == "Standby"], ["Standby"])
        self.assertEqual(hbtd.service.tracker.dead, 1)
        lines = [eventAsText(each) for each in events]
        begin = f"The contents of --sm_token={self.ours}"
        self.assertTrue(any(f"{begin} accepted, unchanged since" in line for line in lines))
        self.assertTrue(any(f"{begin} were read again" in line for line in lines))
        shown = "\n".join([*lines, await self.shown(hbtd)])
        self.assertNotIn("first-token", shown)
        self.assertNotIn("second-token", shown)

    async def shown(self, hbtd: Any) -> str:
        """Return all that hbtd tells of itself."""
        texts = []
        for path in ("internals", "health", "params"):
            response = await hbtd.client.treq.get(f"{hbtd.url}/hmi/v1/{path}", reactor=reactor)
            texts.append(await response.text())
        return "\n".join(texts)


class SimulatorTests(TestCase):
    """The simulator's HSM as a process, with its options for certificates and tokens."""

    timeout = 120

    async def test_process(self) -> None:
        """`--check` says whether HSM takes hbtd's certificate and token."""
        folder = Path(self.mktemp()).resolve()
        server, clients = make_identity("localhost"), make_identity("clients")
        bundle, server_key = write_identity(server, folder / "server")
        ca, _ = write_identity(clients, folder / "clients")
        cert, key = write_identity(make_identity("hbtd", clients), folder / "own")
        token, wrong = folder / "token", folder / "wrong"
        for path in (token, wrong, key):
            path.touch()
            path.chmod(0o600)
        token.write_text("the-right-token")
        wrong.write_text("the-wrong-token")
        hsm = spawn(
            self,
            [
                *("-m", "hbtd.simulator", "hsm", "--port=0", f"--tls_cert={bundle}"),
                *(f"--tls_key={server_key}", f"--tls_client_ca={ca}", f"--token={token}"),
            ],
        )
        hsm.url.addErrback(lambda failure: None)  # it serves no hbtd
        await until(lambda: "listening on" in hsm.said and "\n" in hsm.said)
        url = hsm.said.split()[-1]
        for path, finding in (
            (token, f"ok: --sm_url: {url} answers"),
            (wrong, f"warning: --sm_url: {url}: HSM is not ready: 401"),
        ):
            check = spawn(
                self,
                [
                    *("-m", "hbtd", "--check", "--kv_url=mem:", "--port=0", "--use_telemetry=no"),
                    *(f"--sm_url={url.replace('127.0.0.1', 'localhost')}", f"--sm_ca={bundle}"),
                    *(f"--sm_cert={cert}", f"--sm_key={key}", f"--sm_token={path}"),
                ],
            )
            check.url.addErrback(lambda failure: None)
            self.assertEqual(await check.ended, 0, check.said)
            self.assertIn(finding.replace("127.0.0.1", "localhost"), check.said)
            self.assertIn(f"ok: --sm_token: {path}", check.said)
            self.assertNotIn("the-right-token", check.said)
            self.assertNotIn("the-wrong-token", check.said)
