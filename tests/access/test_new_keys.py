"""An issuer that changes its key while nodes beat: nobody who beats is told dead."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.server import Site

from hbtd.simulator.fake_hsm import FakeHSM
from tests.support.issuer import Issuer, JWKSPage, bearer
from tests.support.running import heartbeat, reactor, start_hbtd, start_hsm, until

LIVING, DYING = "x1000c0s0b0n0", "x1000c0s0b0n1"
ERRTIME = 9
"""Seconds; longer than a node is refused, much shorter than the keys stay if nobody asks."""


class NewKeyTests(TestCase):
    """Nodes show JWTs, whose key is fetched from a URL."""

    timeout = 240

    async def test_same_id(self) -> None:
        """With a new key under the old ID, who beats stays alive, and who is silent is told dead.

        The nodes get new tokens at once, and are refused until hbtd has the new key.
        """
        running = start_hsm(self)
        first, second = Issuer(), Issuer("ES256", "one", ec.generate_private_key(ec.SECP256R1()))
        page = JWKSPage(first.jwks())
        listening = reactor.listenTCP(0, Site(page), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        hbtd = start_hbtd(
            self,
            nosm=False,
            sm_url=running.url,
            tls=False,
            node_access=f"jwt:http://127.0.0.1:{listening.getHost().port}/keys",
            warntime=ERRTIME - 1,
            errtime=ERRTIME,
            interval=1,
        )

        async def beat(name: str, issuer: Issuer) -> int:
            headers: Any = bearer(issuer.token(name))
            response = await hbtd.client.treq.post(
                f"{hbtd.url}/hmi/v1/heartbeat",
                json=heartbeat(name),
                headers=headers,
            )
            await response.content()
            return int(response.code)

        await until(lambda: page.asked)
        deadline = reactor.seconds() + 10
        while await beat(LIVING, first) != 200:
            self.assertLess(reactor.seconds(), deadline)
            await deferLater(reactor, 0.05)
        self.assertEqual(await beat(DYING, first), 200)
        await until(lambda: len(running.hsm.components) == 2)

        page.content = second.jwks()
        changed = reactor.seconds()
        statuses = []
        while reactor.seconds() - changed < ERRTIME + 3:
            statuses.append(await beat(LIVING, second))
            await deferLater(reactor, 0.5)
        self.assertEqual((statuses[0], statuses[-1]), (401, 200))
        self.assertEqual(running.hsm.components[LIVING].state, "Ready")
        self.assertEqual(states(running.hsm, LIVING), ["Ready"])
        await until(lambda: running.hsm.components[DYING].state == "Standby")


def states(hsm: FakeHSM, name: str) -> list[str]:
    """Return the states of a component that HSM was told of, in order."""
    return [update.state for update in hsm.updates if name in update.names]
