"""HSM's table, in which others write what is not true, is put right within two comparisons."""

import signal
import socket
from collections.abc import Iterable
from pathlib import Path
from random import Random

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fleet import node_names
from hbtd.simulator.hsm_table import ComponentState
from tests.faults.crowd import numbers
from tests.support.hsm_memory import DIED as DIED_UPDATE
from tests.support.load_generator import Generator
from tests.support.mixed_fleet import (
    DIED,
    ERRTIME,
    INTERVAL,
    LATE,
    LEASE,
    NAMES,
    PERIOD,
    SEED,
    MixedFleetTestCase,
)
from tests.support.replicas_running import Spawned, until_true
from tests.support.running import WebClient, reactor, start_hsm, until
from tests.support.service_manager import ServiceManager
from tests.support.steady_load import Load

SYNC = 20
"""Seconds between two comparisons."""
PAUSE = 10
"""Seconds between the two looks of one."""
RIGHT = 2 * (SYNC + PAUSE) + LATE
"""Seconds within which the table is right: two comparisons."""


class ManyComponentsTests(TestCase):
    """A machine of ten thousand nodes, a few of which are dead."""

    timeout = 300

    COUNT, DEAD, WRONG = 10_000, 50, 500
    WARNTIME, ERRTIME = 15, 20

    async def test_five_hundred_wrong(self) -> None:
        """What is wrong about 500 of them is right after two comparisons; no living one is dead."""
        random = Random(SEED)
        names = node_names(self.COUNT)
        dying = set(random.sample(names, self.DEAD))
        false: list[tuple[str, str]] = []
        stopped: dict[str, float] = {}
        deaths: dict[str, float] = {}

        def note(update: Update) -> None:
            if update.message != DIED_UPDATE.message:
                return
            for name in update.names:
                if name in stopped:
                    deaths.setdefault(name, reactor.seconds() - stopped[name])
                else:
                    false.append((name, update.message))

        hsm = start_hsm(self, on_update=note)
        listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.addCleanup(listening.close)
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        process = ServiceManager(self).start(
            *("-m", "hbtd", "--use_telemetry=no", "--tls=no", f"--interval={INTERVAL}"),
            *(f"--warntime={self.WARNTIME}", f"--errtime={self.ERRTIME}"),
            *(f"--sm_url={hsm.url}", f"--sm_sync={SYNC}", f"--kv_url=sqlite:{directory}/store"),
            passed=listening,
        )
        url = await process.url
        load = Load(False, self.COUNT, self.COUNT // 10, self.COUNT / 5, 0, 0)
        generator = Generator(self, listening.getsockname()[1], load)
        rows = hsm.hsm.table.rows
        await until(lambda: len(rows) == self.COUNT, 60)
        for name in dying:
            stopped[name] = reactor.seconds()
            generator.stop(name)
        await until(lambda: len(deaths) == self.DEAD, 2 * self.ERRTIME)
        slowest = max(deaths.values())

        client = WebClient(self)
        # Each second in which hbtd is deaf on a busy machine is followed by as long a standstill.
        excused = 2 * (await numbers(client, url))["deaf_seconds_total"]
        before = await self.comparisons(client, url)
        updates = len(hsm.hsm.updates)
        living = [name for name in names if name not in dying]
        wrong = random.sample(living, self.WRONG - 10)
        words = (("Standby", "Alert"), ("Ready", "Warning"), ("Off", "OK"))
        falsified = {name: ComponentState(*random.choice(words)) for name in wrong}
        falsified |= {name: ComponentState("Ready", "OK") for name in sorted(dying)[:10]}
        hsm.hsm.table.force(falsified)
        began = reactor.seconds()

        def right() -> bool:
            return all(
                (rows[name].state, rows[name].flag)
                == (("Standby", "Alert") if name in dying else ("Ready", "OK"))
                for name in names
            )

        await until(right, RIGHT)
        took = reactor.seconds() - began
        comparisons = await self.comparisons(client, url) - before
        seen = await generator.counts()
        print(
            f"\n      {len(falsified)} of {self.COUNT} wrong: right after {took:.0f} s and"
            f" {comparisons} comparisons, of two looks each, and"
            f" {len(hsm.hsm.updates) - updates} updates;"
            f" deaths told within {slowest:.1f} s; {seen['kept']['outcomes']}"
        )
        self.assertEqual(false, [])
        self.assertLess(slowest, self.ERRTIME + INTERVAL + LATE + excused)
        # Not one for each component.
        self.assertLess(len(hsm.hsm.updates) - updates, self.WRONG / 5)

    async def comparisons(self, client: WebClient, url: str) -> int:
        """Return how many comparisons have ended."""
        status, body = await client.request("GET", f"{url}/hmi/v1/reconcile")
        self.assertEqual(status, 200)
        return int(body["Ended"])


class MixedTableTests(MixedFleetTestCase):
    """Originals and replicas that take turns, beside others that write HSM's table."""

    timeout = 480

    async def test_mixed(self) -> None:
        """After an upgrade, a kill and a downgrade the table is the truth within two looks."""
        try:
            await self.disturb()
        finally:
            await self.silence()

    async def disturb(self) -> None:
        """Have all that happen while the nodes send heartbeats."""
        figures: list[str] = []
        doomed = [NAMES[start : start + 3] for start in range(0, 9, 3)]

        # The upgrade: the table was falsified while an original had the lock.
        one = await self.original()
        await until(lambda: len(self.hsm.table.rows) == len(NAMES))
        self.falsify(NAMES[10:20])
        first = await self.ours(f"--sm_sync={SYNC}")
        second = await self.ours(f"--sm_sync={SYNC}")
        self.kill(one)
        leader, other = await self.leader(first, second)
        self.die(doomed[0])
        await self.dead(doomed[0], extra=LEASE)
        figures.append(f"upgraded {await self.right():.0f} s")

        # The leader is killed; living nodes are called dead, and dead ones living.
        self.end(leader, signal.SIGKILL)
        self.die(doomed[1])
        self.falsify(NAMES[20:30])
        self.hsm.table.force({doomed[0][0]: ComponentState("Ready", "OK")})
        await until_true(other.leads, within=LEASE + 4 * INTERVAL + LATE)
        await self.dead(doomed[1], extra=LEASE + ERRTIME)
        figures.append(f"killed {await self.right():.0f} s")

        # The downgrade, and the upgrade after it.
        two = await self.original()
        await deferLater(reactor, 2 * INTERVAL)
        self.end(other, signal.SIGTERM)
        self.die(doomed[2])
        await self.dead(doomed[2], extra=INTERVAL)
        self.falsify(NAMES[30:40])
        third = await self.ours(f"--sm_sync={SYNC}")
        self.kill(two)
        await until_true(third.leads, within=LEASE + 4 * INTERVAL + LATE)
        figures.append(f"downgraded, upgraded {await self.right():.0f} s")

        print(f"\nseed {SEED}: {'; '.join(figures)}")
        for name, told in self.telling.items():
            living = [each for each in told if each.at < self.died.get(name, float("inf"))]
            self.assertNotIn(DIED, [each.what for each in living], name)

    async def leader(self, one: Spawned, other: Spawned) -> tuple[Spawned, Spawned]:
        """Wait for one of two replicas to lead; return the leader, and the other one."""

        async def led() -> bool:
            return await one.leads() or await other.leads()

        await until_true(led, within=LEASE + 4 * INTERVAL + LATE)
        return (one, other) if await one.leads() else (other, one)

    def falsify(self, names: Iterable[str]) -> None:
        """Have somebody write into HSM's table what is not true of living nodes."""
        for number, name in enumerate(names):
            word = (("Standby", "Alert"), ("Ready", "Warning"), ("Off", "OK"))[number % 3]
            self.hsm.table.force({name: ComponentState(*word)})

    async def right(self) -> float:
        """Wait until HSM's table is the truth; return the seconds that it took."""
        began = reactor.seconds()
        await deferLater(reactor, PERIOD)

        def wrong() -> dict[str, ComponentState]:
            return {
                name: row
                for name, row in self.hsm.table.rows.items()
                if (row.state, row.flag)
                != (("Standby", "Alert") if name in self.died else ("Ready", "OK"))
            }

        try:
            await until(lambda: not wrong(), RIGHT)
        except AssertionError:
            self.fail(f"still wrong: {wrong()}")
        seconds: float = reactor.seconds() - began
        return seconds
