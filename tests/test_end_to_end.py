"""hbtd as a whole on real sockets, with a fake HSM and librdkafka's Kafka broker."""

import json

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.simulator.fake_hsm import FakeHSM
from tests.support.mock_kafka import MockBroker, consume
from tests.support.running import NODE, Hbtd, reactor, start_hbtd, start_hsm, until


class LifeOfANodeTests(TestCase):
    """A node that starts, goes quiet, comes back and dies."""

    timeout = 120

    async def test_a_whole_life(self) -> None:
        """Each transition reaches HSM in time and with its exact bytes, and Kafka in order."""
        broker = MockBroker()
        self.addCleanup(broker.close)
        broker.create_topic("hbtd-life", partitions=4)
        running = start_hsm(self)
        hbtd = start_hbtd(
            self,
            nosm=False,
            sm_url=running.url,
            warntime=2,
            errtime=4,
            interval=1,
            use_telemetry=True,
            telemetry_host=f"{broker.address}:hbtd-life",
        )
        hsm = running.hsm
        await until(lambda: hbtd.service.notifier.hsm_ready and hbtd.service.publisher.connected)

        # The times at which something is due, and how late it may be.
        began = reactor.seconds()
        await hbtd.beat(timestamp="first")
        await self._told(hsm, 1, due=began, late=0.5)
        beaten = reactor.seconds()
        await hbtd.beat(timestamp="second")
        await self._told(hsm, 2, due=beaten + 2, late=1.5)
        beaten = reactor.seconds()
        await hbtd.beat(timestamp="third")
        await self._told(hsm, 3, due=beaten, late=0.5)
        await self._told(hsm, 4, due=beaten + 2, late=1.5)
        await self._told(hsm, 5, due=beaten + 4, late=1.5)
        beaten = reactor.seconds()
        await hbtd.beat(timestamp="fourth")
        await self._told(hsm, 6, due=beaten, late=0.5)

        said = [
            ("Ready", "OK", "Heartbeat started", "Heartbeat started.", "first"),
            (
                "Ready",
                "Warning",
                "Heartbeat stopped -- might be dead",
                "Heartbeat stopped, node may be dead.",
                "second",
            ),
            ("Ready", "OK", "Heartbeat restarted", "Heartbeat re-started.", "third"),
            (
                "Ready",
                "Warning",
                "Heartbeat stopped -- might be dead",
                "Heartbeat stopped, node may be dead.",
                "third",
            ),
            (
                "Standby",
                "Alert",
                "Heartbeat stopped -- declared dead",
                "Heartbeat stopped, node is dead.",
                "third",
            ),
            ("Ready", "OK", "Heartbeat started", "Heartbeat started.", "fourth"),
        ]
        self.assertEqual(
            [update.body.decode() for update in hsm.updates],
            [
                f'{{"ComponentIDs":["{NODE}"],"State":"{state}","Flag":"{flag}",'
                f'"ExtendedInfo":{{"ID":"","Message":"{message}","Flag":""}}}}'
                for state, flag, message, _, _ in said
            ],
        )
        for update in hsm.updates:
            self.assertEqual(update.content_type, "application/json")
            self.assertRegex(update.user_agent, r"^hbtd/\S+ \(\S+\)$")
        messages = await deferToThread(consume, broker.address, "hbtd-life", len(said), 15.0)
        self.assertEqual(
            [(message.key, (message.value or b"").decode()) for message in messages],
            [
                (
                    NODE.encode(),
                    f'{{"MessageID":"Heartbeat Change Notification","ID":"{NODE}",'
                    f'"NewState":"{state}","NewFlag":"{flag}","LastHBTimeStamp":"{timestamp}",'
                    f'"Info":"{info}"}}',
                )
                for state, flag, _, info, timestamp in said
            ],
        )

    async def _told(self, hsm: FakeHSM, count: int, due: float, late: float) -> None:
        await until(lambda: len(hsm.updates) >= count and hsm.updates[-1].status, within=20)
        self.assertEqual(len(hsm.updates), count)
        told = hsm.updates[-1].received
        self.assertGreaterEqual(told, due, "told before it was due")
        self.assertLessEqual(told, due + late, "told too late")


class TroubleWithHSMTests(TestCase):
    """Whatever HSM does, it has the right states in the end."""

    timeout = 240

    async def test_one_trouble_after_another(self) -> None:
        """HSM fails, hangs, resets, sends garbage, rejects a name, and recovers."""
        broker = MockBroker()
        self.addCleanup(broker.close)
        broker.create_topic("hbtd-trouble", partitions=1)
        running = start_hsm(self)
        hbtd = start_hbtd(
            self,
            use_telemetry=True,
            telemetry_host=f"{broker.address}:hbtd-trouble",
            nosm=False,
            sm_url=running.url,
            sm_timeout=1,
            sm_retries=1,
            warntime=1,
            errtime=2,
            interval=1,
        )
        hsm, notifier = running.hsm, hbtd.service.notifier
        await until(lambda: notifier.hsm_ready and hbtd.service.publisher.connected)
        nodes = [f"x1c0s{slot}b0n0" for slot in range(40)]
        refused = nodes[7]
        hsm.behaviour.refuse = {refused}
        for trouble in ({"fail_status": 500}, {"hang": True}, {"reset": True}, {"garbage": True}):
            for name, value in trouble.items():
                setattr(hsm.behaviour, name, value)
            # All components send heartbeats, and one in three goes on to do so.
            for turn in range(3):
                await self._beat(hbtd, nodes[:: 1 if turn == 0 else 3])
                await deferLater(reactor, 0.5)
            for name in trouble:
                setattr(hsm.behaviour, name, None if name == "fail_status" else False)
        others = [node for node in nodes if node != refused]
        await until(
            lambda: all(
                node in hsm.components and hsm.components[node].state == "Standby"
                for node in others
            ),
            within=40,
        )
        # Which is proven by another attempt after HSM has accepted something.
        await until(lambda: notifier.rejected_count)
        self.assertNotIn(refused, hsm.components)
        self.assertEqual(notifier.rejected_count, 1)
        self.assertEqual(notifier.set_aside_count, 1)

        # Kafka has every judgement in its order; HSM must have heard some of them in that order.
        publisher = hbtd.service.publisher
        await until(lambda: publisher.pending_count == 0)
        messages = await deferToThread(
            consume, broker.address, "hbtd-trouble", publisher.published_count, 15.0
        )
        judged: dict[str, list[str]] = {}
        for message in messages:
            told = json.loads(message.value or b"")
            judged.setdefault(told["ID"], []).append(told["NewState"] + told["NewFlag"])
        for update in hsm.updates:
            for name in update.names:
                self.assertIn(
                    update.state + update.flag, judged[name], "said after something newer"
                )
                while judged[name][0] != update.state + update.flag:
                    judged[name].pop(0)

    async def _beat(self, hbtd: Hbtd, nodes: list[str]) -> None:
        for node in nodes:
            self.assertEqual(await hbtd.beat(node), 200)


class ParametersTests(TestCase):
    """Parameters take effect at once."""

    timeout = 120

    async def test_hsm_moves(self) -> None:
        """With another `Sm_url`, later updates go to that HSM, once it is ready."""
        old, new = start_hsm(self), start_hsm(self)
        hbtd = start_hbtd(self, nosm=False, sm_url=old.url)
        await until(lambda: hbtd.service.notifier.hsm_ready)
        await hbtd.beat("x1c0s0b0n0")
        await until(lambda: old.hsm.components)
        await hbtd.patch(Sm_url=new.url)
        await hbtd.beat("x1c0s1b0n0")
        await until(lambda: new.hsm.components)
        self.assertEqual(list(old.hsm.components), ["x1c0s0b0n0"])
        self.assertEqual(list(new.hsm.components), ["x1c0s1b0n0"])

    async def test_nosm_is_lifted(self) -> None:
        """Judgements made while `nosm` was set are sent once it is not."""
        running = start_hsm(self)
        hbtd = start_hbtd(self, nosm=True, sm_url=running.url)
        await hbtd.beat()
        await until(lambda: hbtd.service.notifier.pending_count == 1)
        self.assertEqual(running.hsm.updates, [])
        await hbtd.patch(Nosm="0")
        await until(lambda: NODE in running.hsm.components)

    async def test_new_times_and_interval(self) -> None:
        """New times apply from the next sweep on, which a new interval brings forward."""
        hbtd = start_hbtd(self, warntime=1000, errtime=2000, interval=1000)
        await hbtd.beat()
        await hbtd.patch(Interval="1", Warntime="1")
        await until(lambda: hbtd.service.tracker.warned == 1)

    async def test_telemetry_comes_and_goes(self) -> None:
        """It connects to Kafka when it is named, and disconnects when it is switched off."""
        broker = MockBroker()
        self.addCleanup(broker.close)
        broker.create_topic("hbtd-switch", partitions=1)
        hbtd = start_hbtd(self)
        publisher = hbtd.service.publisher
        await hbtd.beat("x1c0s0b0n0")
        await until(lambda: hbtd.service.notifier.pending_count == 1)
        self.assertEqual(await self._bus(hbtd), "Not Connected")
        await hbtd.patch(Use_telemetry="1", Telemetry_host=f"{broker.address}:hbtd-switch")
        await until(lambda: publisher.connected)
        self.assertEqual(await self._bus(hbtd), "Connected and OPEN")
        await hbtd.beat("x1c0s1b0n0")
        await until(lambda: publisher.published_count == 1)
        await hbtd.patch(Use_telemetry="off")
        await until(lambda: not publisher.connected)
        await hbtd.beat("x1c0s2b0n0")
        self.assertEqual(await self._bus(hbtd), "Not Connected")
        (message,) = await deferToThread(consume, broker.address, "hbtd-switch", 1, 10.0)
        self.assertEqual(json.loads(message.value or b"")["ID"], "x1c0s1b0n0")

    async def _bus(self, hbtd: Hbtd) -> str:
        _, health = await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/health")
        return str(health["MsgBus"])
