"""A planned reboot of 10,000 nodes in maintenance makes no alarm, but for one that stays away."""

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.task import deferLater

from hbtd.formats.nodesets import fold
from hbtd.formats.times import parse_time
from hbtd.tracker.transitions import Transition
from tests.support.event_reader import EventReader
from tests.support.hsm_memory import DIED, KINDS, STARTED, WARNED
from tests.support.many_nodes import INTERVAL, ManyNodesTestCase
from tests.support.replicas_running import until_true
from tests.support.running import reactor, until

LIMIT = 50
"""Seconds from the beginning of the maintenance to its end."""
LATE = 3.0
"""Seconds that a judgement may take to reach HSM on a busy machine."""
PATIENCE = 60.0
"""Seconds more than allowed after which nothing is waited for any more."""
WHOLE_SECOND = 1
"""Seconds after the end of a maintenance from which on silence counts, at most."""


class RebootTests(ManyNodesTestCase):
    """Nodes that are expected back before a maintenance ends."""

    async def test_reboot(self) -> None:
        """Who is back in time was never in alarm; who is not is dead `Errtime` after the end."""
        names, one = self.NAMES, self.NAMES[4321]
        others = [name for name in names if name != one]
        await self.start()
        reader = EventReader(self)
        await reader.connect(self.url)
        known = len(await self.updates())
        wanted = {"XNames": [fold(names)], "Until": "back", "For": LIMIT, "Reason": "reboot"}
        maintenance = await self.ask("POST", "maintenance", wanted, status=201)
        self.assertEqual((maintenance["Number"], maintenance["Back"]), (self.COUNT, True))
        end = parse_time(maintenance["Until"], 0.0)

        self.generator.stop(*names)
        stopped = reactor.seconds()
        await self.until_silent()
        await deferLater(reactor, self.ERRTIME + INTERVAL + LATE)
        seen = await self.generator.counts()
        self.assertEqual(seen["kept"]["outcomes"], {})
        silent = seen["seconds"]
        self.assertEqual([each["message"] for each in (await self.updates())[known:]], [])
        self.generator.resume(*others)
        returning = reactor.seconds()
        # Events cost hbtd less than to be asked again and again. On a machine that is too busy for
        # this test not all are back before the end.
        await until(lambda: reader.count("transition") >= len(others), end - returning)
        back = reactor.seconds()
        left = await self.ask("GET", f"maintenance/{maintenance['Id']}")
        self.assertEqual(left["Number"], 1)

        async def told() -> bool:
            said = await self.ask("GET", f"components/{one}")
            return (said["State"], said["HSM"]["State"]) == ("dead", "told")

        await until_true(told, end - back + self.ERRTIME + PATIENCE)
        excused = await self.deaf()
        updates = (await self.updates())[known:]
        (died,) = [each["applied"] for each in updates if each["message"] == DIED.message]
        print(
            f"\n      {self.COUNT} silent for {silent:.1f} s and more, {returning - stopped:.1f} s"
            f" in all; {len(others)} back in {back - returning:.1f} s, {end - back:.1f} s before"
            f" the end; one told dead {died - end:.1f} s after it; HSM got {len(updates)} updates"
            f" ({self.metered.load['updates']}); {excused:.1f} s excused"
        )
        self.assertGreater(silent, self.ERRTIME + INTERVAL)
        expected = {name: [STARTED] for name in others} | {one: [WARNED, DIED]}
        self.assert_same(
            ((name, KINDS[each["message"]]) for each in updates for name in each["names"]), expected
        )
        self.assert_same(
            (
                (each["XName"], Transition[each["Transition"].upper()])
                for each in reader.read("transition")
            ),
            expected,
        )
        self.assertEqual(reader.read("missed"), [])
        self.assertEqual([each["What"] for each in reader.read("maintenance")], ["set", "ended"])
        self.assertEqual((await self.ask("GET", "guard"))["Statements"], [])
        self.assertGreaterEqual(died - end, self.ERRTIME)
        self.assertLess(died - end, self.ERRTIME + WHOLE_SECOND + INTERVAL + LATE + excused)
        self.assertNotIn("Traceback", self.hbtd.said)

    async def until_silent(self) -> None:
        """Wait until no heartbeat has been answered for a second."""
        deadline = reactor.seconds() + PATIENCE
        while (await self.generator.counts())["kept"]["outcomes"]:
            self.assertLess(reactor.seconds(), deadline)
            await deferLater(reactor, 1.0)

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """Send a request to hbtd, and return its answer."""
        answered, answer = await self.client.request(method, f"{self.url}/hmi/v1/{path}", body)
        self.assertEqual(answered, status, answer)
        return answer

    def assert_same(
        self, said: Iterable[tuple[str, Transition]], expected: Mapping[str, list[Transition]]
    ) -> None:
        """Check that exactly these things were said of nodes, in this order."""
        found: dict[str, list[Transition]] = {}
        for name, what in said:
            found.setdefault(name, []).append(what)
        names = found.keys() | expected.keys()
        wrong = sorted(name for name in names if found.get(name) != expected.get(name))
        self.assertEqual(wrong, [], [found.get(name) for name in wrong[:10]])
