"""hbtd as a process with `sqlite:`: killed, started again, and refused its file."""

import shutil
import signal
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.tracker.transitions import Transition
from tests.support.hsm_memory import KINDS
from tests.support.prepared import run_prepared
from tests.support.processes import HbtdProcess, spawn
from tests.support.running import NODE, RunningHSM, WebClient, heartbeat, reactor, start_hsm, until
from tests.support.tmpfs import fill, small_filesystem

STARTED, WARNED, RESTARTED, DIED = Transition


class SqliteProcessTestCase(TestCase):
    """Starts one process after another, on the same file."""

    timeout = 240

    def setUp(self) -> None:
        """Choose a file that does not exist."""
        self.path = Path(self.mktemp()).resolve()
        self.client = WebClient(self)

    @property
    def base(self) -> tuple[str, ...]:
        """The options that each process has."""
        return (
            f"--kv_url=sqlite:{self.path}",
            *("--port=0", "--tls=no", "--use_telemetry=no"),
            # Few enough that any limit of open files allows for them, which is not said then.
            "--max_connections=100",
        )

    def spawn(self, *options: str) -> HbtdProcess:
        """Start hbtd, by default without HSM."""
        return spawn(self, ["-m", "hbtd", *self.base, *(options or ("--nosm",))])

    async def beat(self, url: str, name: str = NODE) -> None:
        """Send a heartbeat."""
        status, _ = await self.client.request("POST", f"{url}/hmi/v1/heartbeat", heartbeat(name))
        self.assertEqual(status, 200)

    async def heartbeating(self, url: str, name: str = NODE) -> Any:
        """Return whether hbtd says that a node is heartbeating."""
        _, state = await self.client.request("GET", f"{url}/hmi/v1/hbstate/{name}")
        return state["Heartbeating"]

    async def kill(self, process: HbtdProcess) -> None:
        """Kill hbtd, so that it can't stop in order."""
        process.signal(signal.SIGKILL)
        self.assertEqual(await process.ended, -signal.SIGKILL)

    async def refused(self) -> str:
        """Start hbtd, which fails, and return the one line about it."""
        ended, said = await deferToThread(run_prepared, [*self.base, "--nosm"], {})
        self.assertEqual(ended, 75, said)
        lines = [line for line in said.splitlines() if " info " not in line]
        self.assertEqual(len(lines), 1, said)
        self.assertIn(" critical ", lines[0])
        self.assertIn(str(self.path), lines[0])
        return lines[0]


class RestartTests(SqliteProcessTestCase):
    """A kill loses nothing."""

    async def test_killed(self) -> None:
        """Components that were heartbeating still are after hbtd was killed and restarted."""
        process = self.spawn()
        url = await process.url
        await self.beat(url)
        await until(lambda: "Heartbeat started" in process.said)
        await self.kill(process)
        for _ in range(2):
            process = self.spawn()
            url = await process.url
            self.assertTrue(await self.heartbeating(url))
            self.assertFalse(await self.heartbeating(url, "x9c0s0b0n0"))
            self.assertIn("Restored 1 component from the store", process.said)
            await self.beat(url)
            await self.kill(process)
            self.assertNotIn("Heartbeat started", process.said)

    async def test_ended(self) -> None:
        """They are after hbtd was stopped, too, including one heard at the last moment."""
        process = self.spawn()
        url = await process.url
        await self.beat(url)
        process.signal(signal.SIGTERM)
        self.assertEqual(await process.ended, 0, process.said)
        self.assertNotIn("Traceback", process.said)
        url = await self.spawn().url
        self.assertTrue(await self.heartbeating(url))

    async def test_death_told_after_a_kill(self) -> None:
        """A death during an HSM outage is sent by the next process, and so is the node's return."""
        running = start_hsm(self)
        options = (
            f"--sm_url={running.url}",
            "--warntime=1",
            "--errtime=2",
            "--interval=1",
        )
        process = self.spawn(*options)
        url = await process.url
        await self.beat(url)
        await until(lambda: self.told(running) == [STARTED])
        running.hsm.behaviour.ready = False
        running.hsm.behaviour.fail_status = 503
        await until(lambda: f"declared dead: {NODE}" in process.said)
        await self.kill(process)
        self.assertEqual(running.hsm.components[NODE].state, "Ready")
        running.hsm.behaviour.ready = True
        running.hsm.behaviour.fail_status = None
        process = self.spawn(*options)
        url = await process.url
        await until(lambda: running.hsm.components[NODE].state == "Standby")
        self.assertEqual(self.told(running)[-1], DIED)
        self.assertFalse(await self.heartbeating(url))
        await self.kill(process)
        told = len(self.told(running))
        url = await self.spawn(*options).url
        await self.beat(url)
        await until(lambda: STARTED in self.told(running)[told:])
        # The death again, if the process was killed before it had noted that HSM knows of it.
        again = self.told(running)[told:]
        self.assertIn(again[: again.index(STARTED)], ([], [DIED]))

    def told(self, running: RunningHSM) -> list[Transition]:
        """Return the updates that HSM has acknowledged."""
        return [KINDS[each.message] for each in running.hsm.updates if each.status == 204]

    async def test_clear_on_gap(self) -> None:
        """With `clear_on_gap` no component is heartbeating after a restart."""
        process = self.spawn()
        await self.beat(await process.url)
        await until(lambda: "Heartbeat started" in process.said)
        await self.kill(process)
        url = await self.spawn("--nosm", "--clear_on_gap=1").url
        self.assertFalse(await self.heartbeating(url))


class RefusalTests(SqliteProcessTestCase):
    """Files that can't be used."""

    async def test_in_use(self) -> None:
        """A second process on the same file exits with status 1; the first one goes on."""
        first = self.spawn()
        url = await first.url
        await self.beat(url)
        # Else both components may be in one line.
        await until(lambda: "Heartbeat started" in first.said)
        self.assertIn(f"{self.path} is in use by another hbtd", await self.refused())
        await self.beat(url, "x1c0s0b0n0")
        await until(lambda: "Heartbeat started: x1c0s0b0n0" in first.said)
        _, health = await self.client.request("GET", f"{url}/hmi/v1/health")
        self.assertEqual(health["KvStore"], "Initialization key present: HBTD_OK")
        await self.kill(first)
        url = await self.spawn().url
        self.assertTrue(await self.heartbeating(url, "x1c0s0b0n0"))

    async def test_damaged(self) -> None:
        """With a damaged file it exits with status 1, and leaves the file as it is."""
        process = self.spawn()
        url = await process.url
        for number in range(100):
            await self.beat(url, f"x{number}c0s0b0n0")
        process.signal(signal.SIGTERM)
        await process.ended
        damaged = bytearray(self.path.read_bytes())
        damaged[4096 : 4096 * 4] = bytes(4096 * 3)
        self.path.write_bytes(damaged)
        before = sha256(damaged).hexdigest()
        for _ in range(2):
            self.assertIn("damaged", await self.refused())
            self.assertEqual(sha256(self.path.read_bytes()).hexdigest(), before)

    async def test_something_else(self) -> None:
        """With a text file or a directory it exits with status 75."""
        self.path.write_text("text " * 1000)
        self.assertIn("this is not an SQLite file", await self.refused())
        self.assertEqual(self.path.read_text(), "text " * 1000)
        self.path.unlink()
        self.path.mkdir()
        self.assertIn("unable to open", await self.refused())


class TroubleTests(SqliteProcessTestCase):
    """A disk that is full for a while, and a file that is removed."""

    async def ready(self, url: str) -> int:
        """Return the status of the readiness probe."""
        status, _ = await self.client.request("GET", f"{url}/hmi/v1/readiness")
        return status

    async def test_removed(self) -> None:
        """A file that is removed under a running hbtd is there again before long, whole."""
        process = self.spawn()
        url = await process.url
        await self.beat(url)
        await until(lambda: "Heartbeat started" in process.said)
        for each in self.path.parent.glob(f"{self.path.name}*"):
            each.unlink()
        await until(lambda: "was removed, and has been written anew" in process.said)
        self.assertEqual(await self.ready(url), 204)
        await self.kill(process)
        url = await self.spawn().url
        self.assertTrue(await self.heartbeating(url))

    async def test_directory_removed(self) -> None:
        """Without its directory hbtd is not ready and says why, until there is one again."""
        folder = self.path
        folder.mkdir()
        self.path = folder / "hbtd.sqlite"
        process = self.spawn()
        url = await process.url
        await self.beat(url)
        await until(lambda: "Heartbeat started" in process.said)
        shutil.rmtree(folder)
        await until(lambda: "was removed, and can't be written anew" in process.said)
        _, health = await self.client.request("GET", f"{url}/hmi/v1/health")
        self.assertIn(f"{self.path}: the file was removed", health["KvStore"])
        self.assertIn(f"; there is no directory {folder}: create it", health["KvStore"])
        began = reactor.seconds()
        while await self.ready(url) == 204:
            self.assertLess(reactor.seconds() - began, 30)
            await deferLater(reactor, 0.05)
        folder.mkdir()
        await until(lambda: "The store can be used again" in process.said)
        self.assertEqual(await self.ready(url), 204)
        await self.kill(process)
        url = await self.spawn().url
        self.assertTrue(await self.heartbeating(url))

    async def test_disk_full(self) -> None:
        """It takes heartbeats, is not ready after some seconds, and sends all judgements later."""
        where = small_filesystem(self, 1200)
        self.path = where / "hbtd.db"
        running = start_hsm(self)
        process = self.spawn(f"--sm_url={running.url}")
        url = await process.url
        await self.beat(url)
        await until(lambda: NODE in running.hsm.components)
        filler = fill(where)
        began = reactor.seconds()
        names = [f"x{number}c0s{slot}b0n0" for number in range(10) for slot in range(60)]
        for name in names:
            await self.beat(url, name)
        await until(lambda: "The store can't be used" in process.said)
        while await self.ready(url) == 204:
            self.assertLess(reactor.seconds() - began, 30, process.said)
            await deferLater(reactor, 0.05)
        self.assertGreater(reactor.seconds() - began, 3.5)
        _, health = await self.client.request("GET", f"{url}/hmi/v1/health")
        self.assertIn(str(self.path), health["KvStore"])
        self.assertTrue(await self.heartbeating(url, names[-1]))
        filler.unlink()
        await until(lambda: all(name in running.hsm.components for name in names))
        self.assertEqual(await self.ready(url), 204)
        self.assertEqual(process.said.count("The store can't be used"), 1, process.said)
        await self.kill(process)
        url = await self.spawn().url
        self.assertTrue(await self.heartbeating(url, names[-1]))
