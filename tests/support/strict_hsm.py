"""An HSM over TLS that asks for a certificate and a bearer token, both of which may change."""

from pathlib import Path
from typing import Any

from cryptography.x509 import CertificateRevocationList
from twisted.internet.defer import maybeDeferred
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import TestCase
from twisted.web.server import Site

from hbtd.net.tls import Identity
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.simulator.guards import StrictServerOptions, TokenGuard
from tests.support.certificates import make_identity, write_identity
from tests.support.running import reactor


class StrictHSM:
    """A fake HSM on a port of this host that stays the same, until the test ends."""

    def __init__(self, test: TestCase, folder: Path, token: str) -> None:
        """Make it, with its files in `folder`; `serve` has it listen."""
        self.hsm = FakeHSM(reactor)
        """What it serves, with all that it was told."""
        self._identity = make_identity("localhost", days=60)
        self.bundle = write_identity(self._identity, folder)[0]
        """The path of the bundle by which it is trusted."""
        self._token = folder / "token"
        self.set_token(token)
        self._factory = WrappingFactory(Site(TokenGuard(self.hsm.resource(), self._token)))
        self._port: Any = None
        self._number = 0
        test.addCleanup(self.hsm.stop)
        test.addCleanup(self._stop)

    @property
    def url(self) -> str:
        """The value of `sm_url`."""
        return f"https://localhost:{self._number}/hsm/v1"

    def set_token(self, token: str) -> None:
        """Have it take no other token, from the next request on."""
        self._token.write_text(token)

    async def serve(self, authority: Identity, *lists: CertificateRevocationList) -> None:
        """Serve clients that the authority has certified, and that no list revokes.

        All connections are closed: clients have to prove anew who they are.
        """
        await self._stop()
        self.drop()
        self._port = reactor.listenSSL(
            self._number,
            self._factory,
            StrictServerOptions(self._identity, authority.chain, lists),
            interface="127.0.0.1",
        )
        self._number = self._port.getHost().port

    def drop(self) -> None:
        """Close all connections."""
        for each in list(self._factory.protocols):
            assert isinstance(each, ProtocolWrapper)
            each.abortConnection()

    def told(self, name: str) -> list[str]:
        """Return the states that it was told of a component, and has taken, in order."""
        return [
            update.state
            for update in self.hsm.updates
            if update.applied is not None and name in update.names
        ]

    async def _stop(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
