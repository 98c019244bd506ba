"""Nodes of an hbtd that publishes on a real Kafka."""

import re
import time
from collections.abc import Mapping, Sequence

from twisted.internet.task import deferLater

from tests.support.running import WebClient, heartbeat, reactor

HBTD = ("-m", "hbtd", "--kv_url=mem:", "--port=0", "--nosm", "--interval=1")
"""The command line of an hbtd that needs nothing but Kafka."""


class Nodes:
    """Nodes that send heartbeats to an hbtd."""

    def __init__(self, client: WebClient, url: str) -> None:
        self._client = client
        self._url = url
        self.longest = 0.0
        """The longest time until a heartbeat was answered, in seconds."""

    async def beat(self, name: str, timestamp: str) -> None:
        """Send a heartbeat."""
        began = time.monotonic()
        status, answer = await self._client.request(
            "POST", f"{self._url}/hmi/v1/heartbeat", heartbeat(name, timestamp)
        )
        assert status == 200, answer
        self.longest = max(self.longest, time.monotonic() - began)

    async def patch(self, **params: str) -> None:
        """Change parameters of hbtd."""
        status, answer = await self._client.request("PATCH", f"{self._url}/hmi/v1/params", params)
        assert status == 200, answer

    async def metrics(self) -> dict[str, float]:
        """Return hbtd's metrics by name."""
        response = await self._client.treq.get(f"{self._url}/metrics", reactor=reactor)
        lines = re.findall(r"^(hbtd_\S+) (\S+)$", await response.text(), re.MULTILINE)
        return {name: float(value) for name, value in lines}

    async def until_published(self, count: int, names: Sequence[str] = ()) -> None:
        """Have nodes beat until Kafka has acknowledged so many messages, which it then has once."""
        deadline = time.monotonic() + 60
        while (found := await self.metrics())["hbtd_kafka_published_total"] < count:
            assert time.monotonic() < deadline, found
            for name in names:
                await self.beat(name, "now")
            await deferLater(reactor, 0.2)

    async def silent_and_told(self) -> Mapping[str, float]:
        """Wait until no node is healthy and all is published; return hbtd's metrics."""
        deadline = time.monotonic() + 10
        while True:
            metrics = await self.metrics()
            if (
                not metrics['hbtd_components{state="healthy"}']
                and not metrics["hbtd_kafka_pending"]
                and metrics["hbtd_kafka_published_total"] == judged(metrics)
            ):
                return metrics
            assert time.monotonic() < deadline, metrics


def judged(metrics: Mapping[str, float]) -> float:
    """Return the number of transitions in hbtd's metrics."""
    return sum(
        value for name, value in metrics.items() if name.startswith("hbtd_transitions_total")
    )
