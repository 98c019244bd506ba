"""The two lanes beside each other, to be compared."""

import re
from typing import Any

from hbtd.api.fastlane import FastLane
from hbtd.app.service import HbtdService
from hbtd.server.factory import ConnectionFactory
from hbtd.tracker.forgotten import Forgotten
from tests.support.http_memory import APITestCase, Connection, start_in_memory

_DATE = re.compile(rb"\r\nDate: [ -~]{29}\r\n")


def without_dates(answers: bytes) -> bytes:
    """Return answers whose dates are all the same."""
    return _DATE.sub(b"\r\nDate: then\r\n", answers)


def listener(started: tuple[HbtdService, Any]) -> Any:
    """Return the factory of a service in memory."""
    return started[1].tcpServers[0][1]


def state(service):
    """Return everything that requests may change, except for times."""
    tracker = service.tracker
    healthy = [
        (name, each.timestamp, each.status, each.identity)
        for name, each in tracker._healthy.items()
    ]
    judged = dict(service.monitor.judged)
    return healthy, tracker.beats, tracker.warned, tracker.dead, judged, service.params.current


def _without_names(state):
    healthy, *others = state
    return [each[:-1] for each in healthy], *others


def start_over(service):
    """Undo earlier examples, so that each one is independent of the others."""
    tracker = service.tracker
    for name in list(tracker._healthy):
        tracker.forget(name)
    tracker.beats = 0
    service.monitor.judged.clear()
    service.monitor._forgotten = Forgotten()


class LanesTestCase(APITestCase):
    """A test with three services: the fast lane, the ordinary one, and twisted.web by itself."""

    def setUp(self):
        """Start all three."""
        first, second, third = (start_in_memory(self) for _ in range(3))
        self.lane: FastLane = listener(first).lane
        self.lanes: list[tuple[HbtdService, Any]] = [
            (first[0], listener(first)),
            (second[0], ConnectionFactory(listener(second).site, None, second[1])),
            (third[0], listener(third).site),
        ]

    def converse(self, factory, pieces):
        """Send pieces; return the answers without dates, and whether the server hung up."""
        connection = Connection(factory)
        connection.send(*pieces)
        answers = without_dates(connection.received())
        closed = connection.closed
        connection.hang_up()
        return answers, closed

    def assert_same(self, *pieces):
        """Check that all services have the same answers, and the same state after them.

        Return the answers, and whether the connection was closed.
        """
        outcomes = [self.converse(factory, pieces) for _, factory in self.lanes]
        self.assertEqual(outcomes[0], outcomes[1], pieces)
        self.assertEqual(outcomes[1], outcomes[2], pieces)
        states = [state(service) for service, _ in self.lanes]
        self.assertEqual(states[0], states[1], pieces)
        # To twisted.web by itself no connection is new, so names are looked at more seldom.
        self.assertEqual(_without_names(states[1]), _without_names(states[2]), pieces)
        self.assertEqual(self.flushLoggedErrors(), [])
        return outcomes[0]
