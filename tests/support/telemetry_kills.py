"""hbtd with an SQLite file and a Kafka, killed again and again while nodes come and go."""

import random
import signal
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.store.sqlite import SqliteStore
from hbtd.telemetry import messages
from hbtd.telemetry.log_reader import KAFKA
from tests.support.mock_kafka import consume
from tests.support.processes import HbtdProcess, spawn
from tests.support.running import WebClient, heartbeat, reactor, until
from tests.support.telemetry import by_key, contents

NODES = [f"x2c0s{slot}b0n0" for slot in range(12)]

_HBTD = ("--port=0", "--nosm", "--warntime=1", "--errtime=2", "--interval=1", "--sm_timeout=5")


class KilledPublishers:
    """Short lives of hbtd over one SQLite file and one topic."""

    def __init__(self, test: TestCase, program: Sequence[str], kafka: str, topic: str) -> None:
        """`program` are Python's arguments to run hbtd; `kafka` is the address of the broker."""
        self._test = test
        self._program = program
        self._kafka = kafka
        self._topic = topic
        self._path = str(Path(test.mktemp()).resolve())
        self._random = random.Random(14)
        self._beats = 0
        self._client = WebClient(test)
        self.repeated = 0
        """How many messages Kafka had more than once in the end."""
        self.found = 0
        """How many messages Kafka had in the end."""

    def run(self, *options: str) -> HbtdProcess:
        """Start hbtd."""
        return spawn(
            self._test,
            [
                *(*self._program, *_HBTD, f"--kv_url=sqlite:{self._path}", *options),
                f"--telemetry_host={self._kafka}:{self._topic}",
            ],
        )

    async def live(
        self, *options: str, seconds: float | None = None, end_by: signal.Signals = signal.SIGKILL
    ) -> HbtdProcess:
        """Run hbtd for a while, with heartbeats, and end it at any moment; return what has run."""
        process = self.run(*options)
        if seconds is None:
            seconds = self._random.uniform(0.0, 2.0)
        url = await process.url
        end = reactor.seconds() + seconds
        while reactor.seconds() < end:
            await self.beat(url, self._random.sample(NODES, 3))
            await deferLater(reactor, self._random.uniform(0.0, 0.3))
        process.signal(end_by)
        expected = -signal.SIGKILL if end_by is signal.SIGKILL else 0
        self._test.assertEqual(await process.ended, expected, process.said)
        self._test.assertNotIn("Traceback", process.said)
        return process

    async def beat(self, url: str, nodes: Sequence[str]) -> None:
        """Send heartbeats of nodes, each with a timestamp of its own."""
        for name in nodes:
            self._beats += 1
            status, answer = await self._client.request(
                "POST", f"{url}/hmi/v1/heartbeat", heartbeat(name, f"t{self._beats}")
            )
            self._test.assertEqual(status, 200, answer)

    async def last(self) -> None:
        """Run hbtd once more, until all are dead and Kafka has been told, and stop it in order."""
        process = self.run()
        url = await process.url
        await until(lambda: "accepts messages" in process.said, 60)
        await self.beat(url, NODES[:2])
        await until(lambda: process.said.count("declared dead") >= 2, 60)
        process.signal(signal.SIGTERM)
        self._test.assertEqual(await process.ended, 0, process.said)
        self._test.assertNotIn("were not published", process.said)

    async def check(self) -> None:
        """Check that Kafka has each entry of the log, those of a component in their order."""
        store = SqliteStore(self._path, reactor, reactor.seconds, "test:0")
        await store.open()
        try:
            log = await store.log(0, 10**6)
            cursor = await store.cursor(KAFKA)
        finally:
            await store.close()
        self._test.assertEqual(cursor, log[-1].number)
        expected = by_key(
            (messages.key(each.judgement), messages.value(each.judgement)) for each in log
        )
        found = contents(await deferToThread(consume, self._kafka, self._topic))
        self.found, self.repeated = len(found), len(found) - len(log)
        # Each timestamp is of one heartbeat, so no two transitions have the same message.
        self._test.assertEqual(len({*found}), len(log))
        self._test.assertEqual(by_key(dict.fromkeys(found)), expected)
