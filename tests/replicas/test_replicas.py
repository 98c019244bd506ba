"""Several replicas on one etcd act as one."""

import json
from functools import partial
from typing import Any

from twisted.internet.defer import fail
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs

from hbtd.store.etcd_format import PARAMS
from hbtd.store.interface import StoreUnusable
from tests.support.hsm_memory import DIED, RESTARTED, STARTED, WARNED, lines
from tests.support.replicas_running import (
    ERRTIME,
    WARNTIME,
    A,
    B,
    C,
    D,
    ReplicasTestCase,
    until_all,
    until_true,
)
from tests.support.running import Hbtd, reactor, until

HASTY = {"warntime": 1, "errtime": 2}
"""Parameters with which components die soon."""


def warntime(hbtd: Hbtd) -> int:
    """Return a replica's `warntime`."""
    return hbtd.service.params.current.warntime


def has_warntime(expected: int, hbtd: Hbtd) -> bool:
    """Return whether a replica has this `warntime`."""
    return warntime(hbtd) == expected


def beats(hbtd: Hbtd, name: str = A) -> bool:
    """Return whether a component is heartbeating, as a replica sees it."""
    return hbtd.service.monitor.heartbeating([name]) == [True]


def is_silent(hbtd: Hbtd, name: str) -> bool:
    """Return whether a component is not heartbeating, as a replica sees it."""
    return not beats(hbtd, name)


class ParamsTests(ReplicasTestCase):
    """All replicas have the same parameters."""

    async def shown(self, hbtd: Hbtd) -> Any:
        """Return the answer of a replica to `GET /params`."""
        _, params = await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/params")
        return params

    async def test_patch(self):
        """A PATCH on any replica shows in the others' GET within a second."""
        replicas = await self.replicas(3)
        for number, patched in enumerate(replicas):
            await patched.patch(Warntime=str(100 + number), Debug="0x1")
            expected = 100 + number
            await until_all(replicas, partial(has_warntime, expected), within=1.0)
            for other in replicas:
                self.assertEqual((await self.shown(other))["Warntime"], str(expected))

    async def test_two_patches(self):
        """Of simultaneous changes of different parameters, none is lost."""
        one, other = await self.replicas(2)
        await one.patch(Warntime="50")
        await other.patch(Errtime="70", Interval="3")

        def changed(each: Hbtd) -> bool:
            params = each.service.params.current
            return (params.warntime, params.errtime, params.interval) == (50, 70, 3)

        await until_all((one, other), changed)

    async def test_the_last_counts(self):
        """Of simultaneous changes of one parameter, the same one takes effect everywhere."""
        replicas = await self.replicas(3)
        for number in range(12):
            await replicas[number % 3].patch(Warntime=str(20 + number))
        await until(lambda: len({warntime(each) for each in replicas}) == 1)
        stored = await self.client.get(PARAMS)
        assert stored is not None
        self.assertEqual(json.loads(stored.value)["Warntime"], str(warntime(replicas[0])))

    async def test_joining(self):
        """A replica that joins others adopts their parameters, and does not change them."""
        (one,) = await self.replicas(1)
        await one.patch(Warntime="33", Sm_retries="9")
        other = await self.replica(warntime=44, errtime=55)
        self.assertEqual(warntime(other), 33)
        self.assertEqual(other.service.params.current.errtime, ERRTIME)
        self.assertEqual(other.service.params.current.sm_retries, 9)
        shown = await self.shown(other)
        self.assertEqual(shown["Port"], str(other.service.params.current.port))
        self.assertEqual(warntime(one), 33)

    async def test_alone(self):
        """The first replica keeps its command line's parameters, whatever etcd has."""
        (one,) = await self.replicas(1)
        await one.patch(Warntime="33")
        await one.service.stopService()
        other = await self.replica(warntime=44, errtime=55)
        self.assertEqual(warntime(other), 44)

        async def written() -> bool:
            found = await self.client.get(PARAMS)
            return found is not None and b'"Warntime":"44"' in found.value

        await until_true(written)

    async def test_as_they_are_shown(self):
        """The parameters in etcd are the bytes of `GET /params`."""
        (one,) = await self.replicas(1)
        await one.patch(Warntime="0x21")
        response = await one.client.treq.get(f"{one.url}/hmi/v1/params", timeout=20)
        shown = await response.content()

        async def as_shown() -> bool:
            stored = await self.ctl("get", "params", "--print-value-only")
            return stored == shown.decode() + "\n"

        await until_true(as_shown)
        names = list(json.loads(shown))
        self.assertEqual(names[:3], ["Debug", "Nosm", "Use_telemetry"])
        self.assertTrue(all(isinstance(value, str) for value in json.loads(shown).values()))

    async def test_written_by_others(self):
        """Invalid parameters written by other clients are ignored."""
        (one,) = await self.replicas(1)
        before = one.service.params.current
        with capturedLogs() as events:
            for value in ("nonsense", "[1]", '{"Warntime": 7}', '{"Warntime": "-1", "x": {}}'):
                await self.ctl("put", "params", value)
            await self.ctl("put", "params", '{"errtime": "77", "Port": "1", "Sm_url": null}')
            await until(lambda: one.service.params.current.errtime == 77)
        self.assertEqual(one.service.params.current.warntime, before.warntime)
        self.assertEqual(one.service.params.current.port, before.port)
        self.assertEqual(one.service.params.current.sm_url, before.sm_url)
        self.assertEqual(len(lines(events, "warn")), 1, lines(events, "warn"))


class RecordsTests(ReplicasTestCase):
    """The data in etcd, and data that other clients put there."""

    async def test_bytes(self):
        """A record in etcd is, byte for byte, that of the original hbtd."""
        (one,) = await self.replicas(1, **HASTY)
        before = int(reactor.seconds()) - 1
        await one.beat(A, "2026-11-23T00:00:00Z")
        await self.is_told(A, STARTED)
        key, value = (await self.ctl("get", A)).splitlines()
        self.assertEqual(key, A)
        fields = json.loads(value)
        heard = fields["Last_hb_rcv_time"]
        self.assertEqual(
            value,
            f'{{"Component":"{A}","Last_hb_rcv_time":"{heard}",'
            '"Last_hb_timestamp":"2026-11-23T00:00:00Z","Last_hb_status":"OK","Had_warning":""}',
        )
        self.assertEqual(heard, format(int(heard, 16), "x"))
        self.assertTrue(before <= int(heard, 16) <= reactor.seconds() + 1, heard)
        self.assertEqual(await self.ctl("get", "HBTD_HEALTH_KEY"), "HBTD_HEALTH_KEY\nHBTD_OK\n")
        (life,) = (await self.ctl("get", "--prefix", "hbtd_lifekey-", "--keys-only")).split()
        self.assertTrue(life.removeprefix("hbtd_lifekey-").isdigit())
        self.assertEqual((await self.ctl("get", life, "--print-value-only")).strip(), "1")
        await self.is_told(A, STARTED, WARNED)
        fields = json.loads(await self.ctl("get", A, "--print-value-only"))
        self.assertEqual(fields["Had_warning"], "WN")
        # By observed seconds, of which a moment may not have counted: it may be in the next second.
        self.assertIn(int(fields["Last_hb_rcv_time"], 16) - int(heard, 16), (0, 1))
        await self.is_told(A, STARTED, WARNED, DIED)
        self.assertEqual(await self.ctl("get", A), "")
        self.assertIn('"DIED"', await self.ctl("get", f"hbtd/judgement/{A}"))

    async def test_by_hand(self):
        """A component with a record written by hand is tracked, warned about, declared dead."""
        leader, follower = await self.replicas(2, **HASTY)
        record = {
            "Component": A,
            "Last_hb_rcv_time": format(int(reactor.seconds()), "x"),
            "Last_hb_timestamp": "then",
            "Last_hb_status": "OK",
            "Had_warning": "",
        }
        await self.ctl("put", A, json.dumps(record))
        await until_all((leader, follower), beats)
        await self.is_told(A, STARTED, WARNED, DIED)
        await until_all((leader, follower), lambda each: not beats(each))

    async def test_by_hand_before(self):
        """Components whose records existed before the first replica started are tracked, too."""
        await self.ctl("put", A, json.dumps({"Last_hb_rcv_time": "6a000000"}))
        await self.ctl("put", B, json.dumps({"Had_warning": "WG", "more": [1, 2]}))
        await self.replicas(1, **HASTY)
        await self.is_told(A, WARNED, DIED)
        self.assertEqual(self.told(B), [DIED])

    async def test_unusable(self):
        """Invalid records are skipped, counted, and logged once; the others are tracked."""
        odd = {
            A: "nonsense",
            B: '{"Last_hb_rcv_time": 5}',
            C: '{"Last_hb_rcv_time": "nothing hexadecimal"}',
            "x1000c0s0b0n0extra": "{}",
            "X0": "{}",
            "x01": "{}",
            "x0\xff": "{}",
        }
        (one,) = await self.replicas(1)
        with capturedLogs() as events:
            for _ in range(2):
                for key, value in odd.items():
                    await self.ctl("put", key, value)
            await self.ctl("put", D, "{}")
            await self.is_told(D, STARTED)
            skipped = len(odd) - 1  # "X0" is nobody's
            store: Any = one.service.store
            self.assertEqual(store.mirror.skipped_count, 2 * skipped)
        warnings = lines(events, "warn")
        self.assertEqual(len(warnings), skipped, warnings)
        for name in (A, B, C):
            self.assertEqual(len([each for each in warnings if name in each]), 1)
        response = await one.client.treq.get(f"{one.url}/metrics", timeout=20)
        self.assertIn(f"hbtd_store_skipped_total {2 * skipped}.0", await response.text())

    async def test_known_after_a_restart(self):
        """Components heard before all replicas stopped are not judged to have started again."""
        (one,) = await self.replicas(1, **HASTY)
        await one.beat(A)
        await self.is_told(A, STARTED)
        await one.service.stopService()
        other = await self.replica(**HASTY)
        self.assertEqual(other.service.monitor.heartbeating([A]), [True])
        await other.beat(A)
        await self.is_told(A, STARTED, WARNED)


class GapTests(ReplicasTestCase):
    """`clear_on_gap` drops records when no replica was running."""

    async def test_alone(self):
        """With it, the first replica drops all records, in memory and in etcd."""
        await self.ctl("put", A, "{}")
        one = await self.replica(clear_on_gap=True)
        self.assertEqual(one.service.monitor.heartbeating([A]), [False])
        await until(lambda: one.service.monitor.leading)
        await one.beat(B)
        await self.is_told(B, STARTED)
        self.assertEqual((await self.ctl("get", "x", "--prefix", "--keys-only")).split(), [B])
        self.assertEqual(self.told(A), [])

    async def test_not_alone(self):
        """With it, a replica that joins another one drops nothing."""
        (one,) = await self.replicas(1, warntime=20, errtime=40)
        await one.beat(A)
        await self.is_told(A, STARTED)
        other = await self.replica(clear_on_gap=True)
        for each in (one, other):
            self.assertEqual(each.service.monitor.heartbeating([A]), [True])


class WorkTests(ReplicasTestCase):
    """Any replica takes any heartbeat, and one of them judges."""

    async def test_one_leads(self):
        """Of several replicas one leads."""
        replicas = await self.replicas(3)
        self.assertEqual([each.service.monitor.leading for each in replicas], [True, False, False])

    async def test_story_on_a_follower(self):
        """All starts that a follower hears are sent to HSM, once each and soon."""
        leader, follower = await self.replicas(2, **HASTY)
        began = reactor.seconds()
        await follower.beat(A)
        await self.is_told(A, STARTED)
        self.assertLess(reactor.seconds() - began, 1.5)
        await until(lambda: leader.service.monitor.heartbeating([A]) == [True])
        await self.is_told(A, STARTED, WARNED)
        await until(lambda: follower.service.tracker.warned == 1)
        began = reactor.seconds()
        await follower.beat(A)
        await self.is_told(A, STARTED, WARNED, RESTARTED)
        self.assertLess(reactor.seconds() - began, 1.5)
        await self.is_told(A, STARTED, WARNED, RESTARTED, WARNED, DIED)
        await until(lambda: follower.service.tracker.dead == 1)
        self.assertEqual(follower.service.monitor.heartbeating([A]), [False])
        await follower.beat(A)
        await self.is_told(A, STARTED, WARNED, RESTARTED, WARNED, DIED, STARTED)
        self.assertTrue(follower.service.monitor.judged.total() == 0)

    async def test_in_no_cabinet(self):
        """Replicas also share heartbeats of components outside of cabinets."""
        leader, follower = await self.replicas(2, **HASTY)
        names = ("all", "d1w2", "p3", "s0", "sms5")
        for name in names:
            await follower.beat(name)
        for name in names:
            await until(partial(beats, leader, name))
        for name in names:
            await self.is_told(name, STARTED, WARNED, DIED)
            await until(partial(is_silent, follower, name))

    async def test_changing_replicas(self):
        """A component whose heartbeats alternate between replicas is never warned about."""
        replicas = await self.replicas(3)
        for number in range(8):
            await replicas[number % 3].beat(A)
            await deferLater(reactor, WARNTIME / 3)
        self.assertEqual(self.told(A), [STARTED])
        for each in replicas:
            self.assertEqual(each.service.monitor.heartbeating([A]), [True])

    async def test_requests_are_answered(self):
        """A follower's request to the leader is removed from etcd once it is granted."""
        _, follower = await self.replicas(2)
        await follower.beat(A)
        await self.is_told(A, STARTED)

        async def answered() -> bool:
            return not await self.ctl("get", "hbtd/request/", "--prefix")

        await until_true(answered)

    async def forget(self, hbtd: Hbtd, name: str) -> None:
        """Let a replica forget a component."""
        status, _ = await hbtd.client.request("DELETE", f"{hbtd.url}/hmi/v1/heartbeat/{name}")
        self.assertEqual(status, 204)

    async def test_forgotten_by_a_follower(self):
        """A component that a follower is asked to forget is forgotten by all, without an alarm."""
        replicas = await self.replicas(3, **HASTY)
        _, one, other = replicas
        await one.beat(A)
        await other.beat(B)
        await self.is_told(A, STARTED)
        await self.is_told(B, STARTED)
        await self.forget(one, A)
        await until_all(replicas, lambda each: not beats(each), within=2)
        await self.is_told(B, STARTED, WARNED, DIED)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(await self.ctl("get", A), "")
        self.assertEqual(await self.ctl("get", "hbtd/request/", "--prefix"), "")

    async def test_goodbye_that_comes_to_nothing(self):
        """A component that is back before it could be forgotten is not forgotten later."""
        leader, follower = await self.replicas(2, warntime=20, errtime=30)
        await leader.beat(A)
        await follower.beat(A)
        await self.is_told(A, STARTED)
        store: Any = leader.service.store
        forget, store.forget = store.forget, lambda xname: fail(StoreUnusable("not now"))
        await follower.client.request("DELETE", f"{follower.url}/hmi/v1/heartbeat/{A}")
        await until(lambda: A not in leader.service.tracker)
        await leader.beat(A)
        store.forget = forget

        async def answered() -> bool:
            return not await self.ctl("get", "hbtd/request/", "--prefix")

        await until_true(answered, within=10)
        await leader.service.stopService()
        await until(lambda: follower.service.monitor.leading)
        await until(lambda: A in follower.service.tracker)

    async def test_beat_and_goodbye_on_different_replicas(self):
        """A component is forgotten although another replica is to write its last heartbeat."""
        replicas = await self.replicas(3)
        for hearing, leaving, name in ((1, 2, A), (1, 0, B), (0, 1, C)):
            await replicas[hearing].beat(name)
            await self.is_told(name, STARTED)
            await replicas[hearing].beat(name)
            await self.forget(replicas[leaving], name)
        await deferLater(reactor, ERRTIME + 2)
        for name in (A, B, C):
            self.assertEqual(self.told(name), [STARTED], name)

    async def test_leader_ends(self):
        """When the leader stops another leads at once, and no component is warned about."""
        leader, one, other = await self.replicas(3)
        await leader.beat(A)
        await one.beat(B)
        await self.is_told(A, STARTED)
        await self.is_told(B, STARTED)
        stopping = leader.service.stopService()
        began = reactor.seconds()
        while not (one.service.monitor.leading or other.service.monitor.leading):
            await one.beat(A)
            await other.beat(B)
            await deferLater(reactor, 0.1)
            self.assertLess(reactor.seconds() - began, 3)
        await stopping
        await one.beat(A)
        await deferLater(reactor, WARNTIME / 2)
        self.assertEqual((self.told(A), self.told(B)), ([STARTED], [STARTED]))
        await self.is_told(A, STARTED, WARNED, DIED)
