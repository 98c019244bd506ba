"""Replicas of this release beside those of earlier ones, which write less to etcd.

These are taken from the history of the git repository.
"""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fleet import Fleet, node_names
from hbtd.store.etcd_log_format import LOG, LOG_END, as_entry, read_stored
from hbtd.store.interface import LogEntry
from tests.support.balancer import Balancer
from tests.support.hsm_memory import DIED, KINDS, STARTED, WARNED
from tests.support.processes import CHECKOUT
from tests.support.replicas_running import OwnReplicasTestCase, Spawned, until_true
from tests.support.running import reactor, until

WITHOUT_LOG = "1eb6c4c68533e46d883fbd1a2f7a9340c8d1360f"
"""The last commit whose replicas wrote no log."""

WITHOUT_NAMES = "eb107b136f284dfa5011fe73cb4506dbf99ab2db"
"""The last commit whose replicas stored neither host names and NIDs nor when HSM was told."""

NODES, DOOMED = 200, 5
WARNTIME, ERRTIME, INTERVAL = 5, 10, 1
PERIOD = 2.0
LATE = 5.0
"""Seconds that a death may be told late, because another replica has begun to lead."""


def unpack(commit: str, folder: Path) -> None:
    """Put the package of a commit into a folder; raise `SkipTest` if there is no such commit."""
    folder.mkdir()
    try:
        archive = subprocess.run(
            ["git", "archive", commit, "hbtd"], cwd=CHECKOUT, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SkipTest(f"the earlier release is not to be had from git: {error}") from error
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)


class RollingTests(OwnReplicasTestCase):
    """Replicas are replaced, one after the other, by those of the other release."""

    timeout = 300
    commit = WITHOUT_LOG
    logs = False
    """Whether the earlier release writes a log."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Unpack the earlier release, and start etcd and an HSM whose updates are recorded."""
        self.earlier = Path(self.mktemp()).absolute()
        unpack(self.commit, self.earlier)
        etcd = await self.start()
        self.heard: dict[str, list[tuple[float, Any]]] = {}
        self.begin(etcd.address, on_update=self.note)
        self.balancer = Balancer()
        self.client = self.connect(etcd.address)
        self.etcd = etcd

    def note(self, update: Update) -> None:
        """Record an update for each of its components."""
        for name in update.names:
            self.heard.setdefault(name, []).append((reactor.seconds(), KINDS[update.message]))

    async def join(self, release: Path) -> Spawned:
        """Start a replica of a release, and send it heartbeats."""
        options = f"--warntime={WARNTIME}", f"--errtime={ERRTIME}", f"--interval={INTERVAL}"
        replica = await self.spawned(*options, cwd=release)
        self.balancer.ports.append(self.port_of(replica))
        return replica

    @staticmethod
    def port_of(replica: Spawned) -> int:
        """Return the port of a replica."""
        return int(replica.url.rpartition(":")[2])

    async def replace(self, replicas: list[Spawned], release: Path) -> None:
        """Replace all replicas, the leader first, by those of another release."""
        for old in list(replicas):
            replicas.append(await self.join(release))
            self.balancer.ports.remove(self.port_of(old))
            replicas.remove(old)
            old.process.signal(signal.SIGTERM)
            await old.process.ended
            self.assertNotIn("Traceback", old.process.said)

        async def one_leads() -> bool:
            return any([await each.leads() for each in replicas])

        await until_true(one_leads)

    async def all_died(self, names: Sequence[str]) -> None:
        """Wait until HSM has been told in time that nodes, which are killed now, have died."""
        await until(
            lambda: all(self.heard[name][-1][1] is DIED for name in names),
            within=ERRTIME + WARNTIME + INTERVAL + LATE,
        )

    async def logged(self) -> list[LogEntry]:
        """Return the log."""
        items = (await self.client.range(LOG, LOG_END)).items
        return [as_entry(each) for item in items for each in read_stored(item.key, item.value)]

    async def test_rolling(self):
        """Upgraded, downgraded and upgraded again: deaths are told in time, and no others.

        This release logs what it judges, with rising numbers.
        """
        replicas = [await self.join(self.earlier) for _ in range(2)]
        names = node_names(NODES)
        doomed = [names[start : start + DOOMED] for start in range(0, 4 * DOOMED, DOOMED)]
        fleet = Fleet(
            reactor, self.balancer, "http://hbtd", names,
            random=Random(1), period=PERIOD, timeout=2.0, connections=8,
        )  # fmt: skip
        fleet.startService()
        self.addCleanup(fleet.stopService)
        await until(lambda: len(self.heard) == NODES, within=30)
        self.assertEqual(len(await self.logged()), NODES if self.logs else 0)
        fleet.kill(doomed[0])
        await self.replace(replicas, CHECKOUT)
        await self.all_died(doomed[0])
        fleet.kill(doomed[1])
        await self.all_died(doomed[1])
        first = await self.logged()
        self.assertLessEqual(set(doomed[1]), {each.judgement.component for each in first})
        fleet.kill(doomed[2])
        await self.replace(replicas, self.earlier)
        await self.all_died(doomed[2])
        await self.replace(replicas, CHECKOUT)
        fleet.kill(doomed[3])
        await self.all_died(doomed[3])
        await deferLater(reactor, WARNTIME + INTERVAL)
        log = await self.logged()
        self.assertEqual(log[: len(first)], first)
        numbers = [each.number for each in log]
        self.assertTrue(all(one < other for one, other in pairwise(numbers)), numbers)
        died = [e.judgement.component for e in log if e.judgement.transition is DIED]
        logged = doomed if self.logs else (doomed[1], doomed[3])
        self.assertLessEqual({name for some in logged for name in some}, set(died))
        for each in replicas:
            await self.asked(each, doomed)
        self.assertEqual(list(self.faults({name for some in doomed for name in some})), [])
        for each in replicas:
            self.assertNotIn("Traceback", each.process.said)
            self.assertNotIn(" error ", each.process.said)
        await deferToThread(self.etcd.etcdctl, "endpoint", "health")

    async def asked(self, replica: Spawned, doomed: Sequence[Sequence[str]]) -> None:
        """Check what a replica of this release answers about nodes that have died."""
        names = ",".join(name for some in doomed for name in some)
        _, answer = await replica.get(f"components?state=dead&names={names}")
        found = {component["XName"]: component for component in answer["Components"]}
        self.assertEqual(len(found), 4 * DOOMED)
        for number, some in enumerate(doomed):
            for name in some:
                # Those that died while the earlier release judged are told of without a time.
                told, ours = found[name]["HSM"], number in (1, 3)
                self.assertIn(told["State"], ("told",) if ours else ("told", "unknown"), told)
                self.assertTrue(told["At"] or not ours, told)
        # This release heard it, and the earlier one has not touched what was stored of it.
        status, one = await replica.get(f"components/nid{DOOMED + 1:06}")
        self.assertEqual((status, one.get("XName"), one.get("State")), (200, doomed[1][0], "dead"))

    def faults(self, doomed: set[str]) -> Iterator[str]:
        """Return what HSM should not have got, in words."""
        for name, told in self.heard.items():
            kinds = [what for _, what in told]
            distinct = [kinds[0], *(other for one, other in pairwise(kinds) if one is not other)]
            expected = [STARTED, WARNED, DIED] if name in doomed else [STARTED]
            if distinct != expected:
                yield f"{name}: HSM was told {distinct}"


class LoggingTests(RollingTests):
    """The same with a release that writes a log, with fewer fields."""

    commit = WITHOUT_NAMES
    logs = True
