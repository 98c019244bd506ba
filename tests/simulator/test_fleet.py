"""A fleet's nodes send heartbeats on their own schedules, fall silent, and return."""

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.server import Site

from hbtd.formats import xnames
from hbtd.net.tls import Identity, ServerOptions
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fleet import MOST_NODES, Fleet, node_names
from hbtd.simulator.statistics import Latency, Statistics
from tests.support.certificates import make_identity, write_identity
from tests.support.fleet_memory import URL, FleetTestCase, Recorder

FIELDS = ["Component", "Hostname", "NID", "Status", "Timestamp"]


class NameTests(SynchronousTestCase):
    """Nodes are named as on a real machine."""

    def test_million(self):
        """A million nodes all have different, valid names in normal form."""
        names = node_names(1_000_000)
        self.assertEqual(len(set(names)), 1_000_000)
        self.assertEqual(
            {xnames.component_type(name) for name in [*names[::999], names[-1]]}, {"Node"}
        )
        self.assertEqual(names[:5], [xnames.parse(name) for name in names[:5]])

    def test_order(self):
        """Boards, slots, chassis and cabinets fill up in that order."""
        names = node_names(513)
        picked = [names[index] for index in (0, 3, 4, 8, 64, 512)]
        self.assertEqual(
            picked,
            [
                "x1000c0s0b0n0",
                "x1000c0s0b0n3",
                "x1000c0s0b1n0",
                "x1000c0s1b0n0",
                "x1000c1s0b0n0",
                "x1001c0s0b0n0",
            ],
        )

    def test_limits(self):
        """There are no names for less than none, or for more than cabinets can hold."""
        self.assertEqual(node_names(0), [])
        for count in (-1, MOST_NODES + 1):
            with self.assertRaises(ValueError):
                node_names(count)


class HeartbeatTests(FleetTestCase):
    """The contents and times of heartbeats."""

    def test_body(self):
        """A heartbeat has the five fields, all strings; its timestamp has a UTC offset."""
        self.fleet(2).startService()
        self.advance(1)
        beats = {beat["Component"]: beat for _, beat in self.recorder.beats}
        self.assertEqual(sorted(beats), node_names(2))
        second = beats[node_names(2)[1]]
        self.assertEqual(list(second), FIELDS)
        self.assertEqual(
            (second["Hostname"], second["NID"], second["Status"]), ("nid000002", "2", "OK")
        )
        stamp = datetime.fromisoformat(second["Timestamp"])
        self.assertEqual(stamp.utcoffset(), timedelta(0))
        self.assertTrue(0 <= stamp.timestamp() - 1_700_000_000 <= 1, stamp)

    def test_request(self):
        """A heartbeat is POSTed below the base URL, as JSON."""
        fleet = Fleet(
            self.clock, self.endpoint, f"{URL}/apis/", node_names(1), random=Random(1), period=1
        )
        fleet.startService()
        self.advance(1)
        request = self.recorder.requests[0]
        self.assertEqual((request.method, request.uri), (b"POST", b"/apis/hmi/v1/heartbeat"))
        self.assertEqual(request.getHeader("host"), "hbtd.example:28500")
        self.assertEqual(request.getHeader("content-type"), "application/json")

    def test_spread(self):
        """The first heartbeats are spread over a period, one from each node."""
        self.fleet(200).startService()
        self.advance(0.5)
        self.assertTrue(70 < len(self.recorder.beats) < 130, len(self.recorder.beats))
        self.advance(0.5)
        self.assertEqual(sorted(self.recorder.names()), sorted(node_names(200)))

    def test_period(self):
        """Each node keeps its period; jitter shifts single heartbeats and does not accumulate."""
        self.fleet(5, jitter=0.2).startService()
        self.advance(20)
        for name in node_names(5):
            times = self.recorder.times(name)
            self.assertTrue(19 <= len(times) <= 21, len(times))
            gaps = [later - earlier for earlier, later in pairwise(times)]
            self.assertTrue(0.58 < min(gaps) < 0.95 and 1.05 < max(gaps) < 1.42, gaps)

    def test_repeatable(self):
        """The same seed makes the same run; another seed makes another."""
        runs = []
        for seed in (1, 1, 2):
            self.setUp()
            self.fleet(20, random=Random(seed), jitter=0.1).startService()
            self.advance(3)
            runs.append(self.recorder.beats)
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_overslept(self):
        """After a stall each node sends one heartbeat, not one for every period missed."""
        fleet = self.fleet(3)
        fleet.startService()
        self.advance(1)
        self.clock.advance(7.5)
        self.endpoint.flush()
        self.assertEqual(len(self.recorder.beats), 6)
        self.advance(1)
        self.assertEqual(len(self.recorder.beats), 9)

    def test_on_answer(self):
        """Whoever asked for it is told of each answer: which node, and how long it took."""
        answers = []
        fleet = self.fleet(2, on_answer=lambda name, seconds: answers.append((name, seconds)))
        self.recorder.hang = True
        fleet.startService()
        self.advance(1)
        self.assertEqual(answers, [])
        self.clock.advance(0.5)
        self.recorder.requests[0].finish()
        self.endpoint.flush()
        ((name, seconds),) = answers
        self.assertEqual(name, self.recorder.names()[0])
        self.assertAlmostEqual(seconds, self.clock.seconds() - self.recorder.beats[0][0], delta=0.1)

    def test_statistics(self):
        """Heartbeats are counted as sent and answered."""
        fleet = self.fleet(10)
        fleet.startService()
        self.advance(2)
        statistics = fleet.statistics
        self.assertEqual((statistics.sent, statistics.answered, statistics.failed), (20, 20, 0))

    def test_bad_arguments(self):
        """Numbers out of range are refused."""
        for options in ({"period": 0}, {"jitter": 1}, {"connections": 0}, {"timeout": 0}):
            with self.assertRaises(ValueError):
                self.fleet(1, **options)

    def test_start_and_stop(self):
        """A stopped fleet is silent, holds no connection and no timer, and can start again."""
        fleet = self.fleet(20)
        fleet.startService()
        fleet.startService()
        self.advance(1)
        stopped = fleet.stopService()
        self.advance(0.01)
        self.successResultOf(stopped)
        self.assertEqual((self.endpoint.open(), self.clock.getDelayedCalls()), (0, []))
        fleet.startService()
        self.advance(1)
        self.assertEqual(len(self.recorder.beats), 40)

    def test_stop_without_start(self):
        """A fleet that was never started can be stopped."""
        self.successResultOf(self.fleet().stopService())


class SilenceTests(FleetTestCase):
    """Nodes lose power, hang, and return."""

    def setUp(self):
        super().setUp()
        self.names = node_names(4)
        self.nodes = self.fleet(4)
        self.nodes.startService()
        self.advance(1)

    def beats_within(self, seconds: float) -> list[str]:
        """Return the sorted components of the heartbeats in the next `seconds`."""
        before = len(self.recorder.beats)
        self.advance(seconds)
        return sorted(self.recorder.names()[before:])

    def test_kill(self):
        """Killed nodes are silent; the others are unaffected."""
        self.nodes.kill(self.names[:2])
        self.assertEqual(self.nodes.killed, set(self.names[:2]))
        self.assertEqual(self.nodes.beating, set(self.names[2:]))
        self.assertEqual(self.beats_within(1), self.names[2:])

    def test_revive_killed(self):
        """A killed node that is revived sends a heartbeat at once, and then every period."""
        name = self.names[0]
        self.nodes.kill([name])
        self.advance(2.37)
        self.nodes.revive([name])
        self.endpoint.flush()
        revived = self.clock.seconds()
        self.advance(2.5)
        self.assertEqual(self.nodes.beating, set(self.names))
        for expected, when in zip((0, 1, 2), self.recorder.times(name)[1:], strict=True):
            self.assertTrue(abs(when - revived - expected) < 0.02, (revived, when))

    def test_freeze_and_revive(self):
        """A frozen node is silent; when revived it resumes its old schedule."""
        name = self.names[0]
        first = self.recorder.times(name)[0]
        self.nodes.freeze([name])
        self.assertEqual(self.nodes.frozen, {name})
        self.assertEqual(self.beats_within(3), sorted(self.names[1:] * 3))
        self.nodes.revive([name])
        self.advance(1)
        (again,) = self.recorder.times(name)[1:]
        self.assertTrue(abs(again - first - 4) < 0.02, (first, again))

    def test_kill_frozen(self):
        """A frozen node can be killed; a killed one can't be frozen."""
        name = self.names[0]
        self.nodes.freeze([name])
        self.nodes.kill([name])
        self.nodes.freeze([name])
        self.assertEqual((self.nodes.killed, self.nodes.frozen), ({name}, set()))

    def test_revive_beating(self):
        """Reviving a node that sends heartbeats changes nothing."""
        self.nodes.revive(self.names)
        self.assertEqual(self.beats_within(1), self.names)

    def test_unknown(self):
        """No node is changed when one of the names is unknown."""
        for change in (self.nodes.kill, self.nodes.freeze, self.nodes.revive):
            with self.assertRaises(KeyError):
                change([self.names[0], "x9"])
        self.assertEqual(self.nodes.beating, set(self.names))

    def test_killed_before_start(self):
        """A node that is killed before the fleet starts stays silent until revived."""
        fleet = self.fleet(2)
        fleet.kill(self.names[:1])
        self.nodes.stopService()
        fleet.startService()
        self.assertEqual(self.beats_within(1), self.names[1:2])
        fleet.revive(self.names[:1])
        self.assertEqual(self.beats_within(0.01), self.names[:1])

    def test_pick(self):
        """A random share of the nodes that send heartbeats, or of any others, is picked."""
        fleet = self.fleet(100)
        fleet.kill(node_names(10))
        picked = fleet.pick(0.5)
        self.assertEqual(len(set(picked)), 45)
        self.assertTrue(set(picked) <= fleet.beating)
        self.assertEqual(sorted(fleet.pick(1, among=fleet.killed)), node_names(10))
        self.assertEqual(fleet.pick(0), [])
        with self.assertRaises(ValueError):
            fleet.pick(1.1)

    def test_in_flight(self):
        """A heartbeat that waits is dropped when its node is killed, but not when it is frozen."""
        self.nodes.stopService()
        self.recorder.hang = True
        fleet = self.fleet(3, connections=1, period=100, timeout=1000)
        fleet.startService()
        self.advance(100)
        first, *waiting = dict.fromkeys(self.recorder.names()[4:] + self.names[:3])
        fleet.kill([first, waiting[0]])
        fleet.freeze([waiting[1]])
        self.recorder.hang = False
        request = self.recorder.requests[-1]
        request.finish()
        self.assertEqual(self.beats_within(1), [waiting[1]])
        self.assertEqual((fleet.statistics.sent, fleet.statistics.answered), (2, 2))


class StatisticsTests(SynchronousTestCase):
    """Latencies are summarised."""

    def test_nothing(self):
        """Without answers all latencies are zero."""
        self.assertEqual(Statistics().latency(), Latency(0, 0, 0))

    def test_percentiles(self):
        """Percentiles cover the latest answers, the maximum covers all."""
        statistics = Statistics()
        statistics.note_answer(500)
        for number in range(20_000):
            statistics.note_answer(number)
        p50, p99, longest = statistics.latency()
        self.assertTrue(abs(p50 - 10_000) <= 1, p50)
        self.assertTrue(abs(p99 - 19_800) <= 1, p99)
        self.assertEqual((longest, statistics.answered), (19_999, 20_001))


class SocketTests(TestCase):
    """Fleets on real sockets."""

    timeout = 120

    def setUp(self):
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.recorder = Recorder(self.reactor.seconds)
        self.site = Site(self.recorder, reactor=reactor)

    def run_fleet(self, url: str, trust: str = "insecure") -> Fleet:
        """Start a fleet with a period of 0.1 s, which is stopped when the test ends."""
        fleet = Fleet(
            self.reactor,
            client_endpoint(self.reactor, url, trust),
            url,
            node_names(20),
            random=Random(1),
            period=0.1,
        )
        fleet.startService()
        self.addCleanup(fleet.stopService)
        return fleet

    def serve(self) -> str:
        """Listen without TLS; return the URL."""
        port = self.reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}"

    def serve_tls(self, identity: Identity) -> str:
        """Listen with TLS; return the URL."""
        options = ServerOptions(identity)
        port = self.reactor.listenSSL(0, self.site, options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"https://localhost:{port.getHost().port}"

    def bundle(self, identity: Identity) -> str:
        """Write a certificate as a PEM bundle; return its path."""
        path, _ = write_identity(identity, Path(self.mktemp()))
        return str(path)

    async def test_tcp(self):
        """Heartbeats are sent over plain HTTP."""
        fleet = self.run_fleet(self.serve())
        await self.recorder.when(60)
        self.assertEqual(set(self.recorder.names()), set(node_names(20)))
        # On a busy machine an answer may take longer than the period; then a heartbeat is left out.
        self.assertLessEqual(set(fleet.statistics.failures), {"last one unanswered"})

    async def test_tls_unverified(self):
        """By default any certificate is trusted."""
        self.run_fleet(self.serve_tls(make_identity("somebody.else.example")))
        await self.recorder.when(40)

    async def test_tls_verified(self):
        """With a bundle, a server whose certificate it signed is trusted."""
        identity = make_identity("localhost")
        self.run_fleet(self.serve_tls(identity), trust=self.bundle(identity))
        await self.recorder.when(40)

    async def test_tls_refused(self):
        """With a bundle, a server whose certificate it did not sign gets no heartbeat."""
        url = self.serve_tls(make_identity("localhost"))
        fleet = self.run_fleet(url, trust=self.bundle(make_identity("localhost")))
        # Another fleet, whose heartbeats arrive, shows that there was time enough.
        self.run_fleet(url)
        await self.recorder.when(60)
        self.assertEqual(fleet.statistics.answered, 0)
        self.assertIn("TLS failed", fleet.statistics.failures)
