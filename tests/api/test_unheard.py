"""Components whose heartbeats may wait to be read are judged later."""

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from hbtd.config.params import Params
from hbtd.tracker.components import Unheard
from tests.support.http_memory import (
    BEAT,
    XNAME,
    Connection,
    TimedAPITestCase,
    chunked,
    head,
    parse_responses,
)

WARNTIME, ERRTIME, INTERVAL = Params().warntime, Params().errtime, Params().interval
BODY = BEAT.partition(b"\r\n\r\n")[2]
ORDINARY = head("POST /v1/heartbeat", "Transfer-Encoding: chunked") + chunked(BODY)
"""A heartbeat that is none for the fast lane."""


class UnheardTests(TimedAPITestCase):
    """From where a heartbeat came, and what follows from it."""

    def beat(self, host: str, *requests: bytes) -> None:
        """Send heartbeats on one connection from an IPv4 address, and close it."""
        transport = StringTransport(peerAddress=IPv4Address("TCP", host, 40000))
        connection = Connection(self.factory, transport)
        connection.send(*requests)
        answers = parse_responses(connection.received())
        self.assertEqual([each.status for each in answers], [200] * len(requests))
        connection.hang_up()

    def judged(self) -> tuple[int, int, int]:
        """Return how many are healthy, warned about and dead."""
        return self.tracker.healthy, self.tracker.warned, self.tracker.dead

    def test_address(self) -> None:
        """While the address of its last heartbeat waits, a component is judged `Errtime` later."""
        for request in (BEAT, ORDINARY):
            self.beat("10.0.0.1", BEAT)
            self.beat("10.0.0.2", request)
            self.unheard = Unheard({"10.0.0.1"})
            self.pass_time(WARNTIME + INTERVAL + 1)
            self.assertEqual(self.judged(), (0, 1, 0))
            self.beat("10.0.0.1", request)
            self.unheard = Unheard({"10.0.0.1"})
            self.pass_time(ERRTIME)
            self.assertEqual(self.judged(), (1, 0, 0))
            self.pass_time(WARNTIME + INTERVAL)
            self.assertEqual(self.judged(), (0, 1, 0))
            self.pass_time(ERRTIME - WARNTIME)
            self.assertEqual(self.judged(), (0, 0, 1))

    def test_last_address(self) -> None:
        """Where the last heartbeat came from counts, not where earlier ones did."""
        for request in (BEAT, ORDINARY):
            for sources, expected in (({"10.0.0.1"}, (0, 1, 0)), ({"10.0.0.2"}, (1, 0, 0))):
                self.beat("10.0.0.1", BEAT)
                self.beat("10.0.0.2", request)
                self.unheard = Unheard(sources)
                self.pass_time(WARNTIME + INTERVAL + 1)
                self.assertEqual(self.judged(), expected, (request, sources))
                self.tracker.forget(XNAME)

    def test_address_waits_no_longer(self) -> None:
        """Once its address does not wait any more, a component is judged at the next sweep."""
        self.beat("10.0.0.1", BEAT)
        self.unheard = Unheard({"10.0.0.1"})
        self.pass_time(ERRTIME + INTERVAL)
        self.assertEqual(self.judged(), (1, 0, 0))
        self.unheard = Unheard()
        self.pass_time(INTERVAL + 1)
        self.assertEqual(self.judged(), (0, 0, 1))

    def test_fresh_connections(self) -> None:
        """When nobody can connect, only those that connect for each heartbeat are judged later."""
        for request in (BEAT, ORDINARY):
            for count, expected in ((1, (1, 0, 0)), (2, (0, 0, 1))):
                self.beat("10.0.0.1", *[request] * count)
                self.unheard = Unheard(fresh=True)
                self.pass_time(ERRTIME + INTERVAL)
                self.assertEqual(self.judged(), expected, (request, count))
                self.tracker.forget(XNAME)
