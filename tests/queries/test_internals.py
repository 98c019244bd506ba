"""The description of hbtd's parts."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from hbtd.queries.internals import (
    MOST_ADDRESSES,
    describe_connections,
    described,
    without_credentials,
)
from hbtd.runtime.distribution import Distribution
from hbtd.server.states import State


class ConnectionsTests(SynchronousTestCase):
    """Connections in the description."""

    def test_many(self):
        """Only the addresses with the most connections are listed, and work is in portions."""
        hosts = Counter({f"10.0.{n // 250}.{n % 250}": n + 1 for n in range(12_000)})
        present = [
            SimpleNamespace(in_fast_lane=bool(n % 3), state=State.IDLE) for n in range(12_000)
        ]

        class Factory:
            of_hosts, idle_closed = hosts, 4
            limits = SimpleNamespace(connections=50_000)

            def __iter__(self) -> Any:
                return iter(present)

        turns = 0

        def turn() -> Deferred[None]:
            nonlocal turns
            turns += 1
            return succeed(None)

        factory: Any = Factory()
        said = self.successResultOf(Deferred.fromCoroutine(describe_connections(factory, turn)))
        self.assertEqual(turns, 12)
        self.assertEqual((said["Open"], said["Addresses"]), (12_000, 12_000))
        self.assertEqual(said["ByLane"], {"fast": 8000, "ordinary": 4000})
        self.assertEqual(said["ByState"], {"idle": 12_000})
        expected = [
            {"Address": host, "Open": count} for host, count in hosts.most_common(MOST_ADDRESSES)
        ]
        self.assertEqual(said["ByAddress"], expected)


class ValuesTests(SynchronousTestCase):
    """Values in the description."""

    def test_credentials(self):
        """User names and passwords in URLs are left out, and nothing else."""
        options = {"A": "https://me:pass@h/x,http://you@i", "B": "cert:a@b", "C": "jwt:https://h/@"}
        self.assertEqual(
            without_credentials(options),
            {"A": "https://***@h/x,http://***@i", "B": "cert:a@b", "C": "jwt:https://h/@"},
        )

    def test_durations(self):
        """A distribution has its number, mean and longest, which are null without durations."""
        durations = Distribution((1, 10))
        self.assertEqual(
            described(durations), {"Count": 0, "Mean": None, "Longest": None, "Within": {}}
        )
        for seconds in (0.5, 1.0, 6.0):
            durations.add(seconds)
        self.assertEqual(
            described(durations),
            {"Count": 3, "Mean": 2.5, "Longest": 6.0, "Within": {"1": 2, "10": 3}},
        )
