"""hbtd and an HSM that ends to accept its certificate or its token, for one reason or another."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from twisted.internet.task import deferLater
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import TestCase

from hbtd.net.tls import Identity
from tests.support.certificates import make_identity, revocation_list, write_identity
from tests.support.logged import said
from tests.support.running import NODE, reactor, start_hbtd, until
from tests.support.strict_hsm import StrictHSM

OTHER = "x1000c0s0b0n1"
TOKENS = ("the-first-token", "the-second-token")
SECOND = 1 / 86_400
"""In days."""


class RefusalTests(TestCase):
    """A node dies while HSM refuses hbtd, and another one goes on."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.folder = Path(self.mktemp()).resolve()
        self.clients = make_identity("clients", days=60)
        self.hsm = StrictHSM(self, self.folder / "hsm", TOKENS[0])
        await self.hsm.serve(self.clients, revocation_list(self.clients))
        self.token = self.folder / "own-token"
        self.token.write_text(TOKENS[0])
        self.token.chmod(0o600)

    def certify(self, days: float = 60.0) -> Identity:
        """Give hbtd a new certificate."""
        identity = make_identity("hbtd", self.clients, days)
        write_identity(identity, self.folder / "own")
        return identity

    async def outage(
        self, spoil: Callable[[], Awaitable[None]], why: str, mend: Callable[[], object]
    ) -> None:
        """Have HSM refuse hbtd while a node dies; check what is told, logged and kept.

        `spoil` has hbtd be refused, with `why` in the reason; `mend` gives it other credentials.
        """
        with capturedLogs() as events:
            hbtd = self.hbtd = start_hbtd(
                self,
                nosm=False,
                sm_url=self.hsm.url,
                sm_ca=str(self.hsm.bundle),
                sm_cert=str(self.folder / "own" / "cert.pem"),
                sm_key=str(self.folder / "own" / "key.pem"),
                sm_token=str(self.token),
                warntime=2,
                errtime=3,
                interval=1,
            )
            for name in (NODE, OTHER):
                self.assertEqual(await hbtd.beat(name), 200)
            await until(lambda: self.hsm.told(NODE) == self.hsm.told(OTHER) == ["Ready"])
            await spoil()
            await self.beat_until(lambda: hbtd.service.tracker.dead)
            await self.beat_until(lambda: why in str(hbtd.service.notifier.trouble()))
            self.assertEqual(hbtd.service.notifier.pending_count, 1)
            mend()
            hbtd.service.reload()
            await self.beat_until(lambda: not hbtd.service.notifier.pending_count)
        self.assertEqual(self.hsm.told(NODE)[-1], "Standby")
        self.assertEqual(self.hsm.told(NODE).count("Standby"), 1)
        self.assertNotIn("Standby", self.hsm.told(OTHER))
        # Beside the outage: a comparison that failed, and that a certificate expires.
        loud = said(events, LogLevel.warn, LogLevel.error, LogLevel.critical)
        self.assertEqual(len(loud), len(set(loud)), loud)
        self.assertLessEqual(len(loud), 4, loud)
        (outage,) = [line for line in loud if "accepts no updates; hbtd keeps them" in line]
        self.assertIn(why, outage)
        for line in said(events, *LogLevel.iterconstants()):
            self.assertNotIn("\n", line)
            for token in TOKENS:
                self.assertNotIn(token, line)

    async def beat_until(self, condition: Callable[[], object], *names: str) -> None:
        """Have nodes beat until a condition is true: the living one, unless there are `names`."""
        end = reactor.seconds() + 60
        while not condition():
            self.assertLess(reactor.seconds(), end, self.hbtd.service.notifier.trouble())
            for name in names or [OTHER]:
                self.assertEqual(await self.hbtd.beat(name), 200)
            await deferLater(reactor, 0.1)

    async def test_revoked(self) -> None:
        """A certificate that has been revoked is refused; with another one all is told."""
        own = self.certify()

        async def revoke() -> None:
            await self.hsm.serve(self.clients, revocation_list(self.clients, own))

        await self.outage(revoke, "certificate revoked", self.certify)

    async def test_expired(self) -> None:
        """A certificate that has expired meanwhile is refused; with another one all is told."""
        own = self.certify(days=5 * SECOND)

        async def expire() -> None:
            ends = own.chain[0].not_valid_after_utc.timestamp()
            await self.beat_until(lambda: reactor.seconds() > ends + 1, NODE, OTHER)
            self.hsm.drop()

        await self.outage(expire, "certificate expired", self.certify)

    async def test_token_expired(self) -> None:
        """A token that HSM no longer takes is refused; with the next one all is told."""
        self.certify()

        async def expire() -> None:
            self.hsm.set_token(TOKENS[1])

        await self.outage(expire, "401", lambda: self.token.write_text(TOKENS[1]))
