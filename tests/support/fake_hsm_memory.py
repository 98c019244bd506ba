"""A fake HSM in memory, and a client of it."""

from typing import Any

import orjson
import treq
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fake_hsm import FakeHSM

BASE = "http://hsm.example/hsm/v1"


def bulk(*names: str, state: Any = "Ready", flag: Any = "OK", message: str = "hello") -> bytes:
    """Encode a bulk update as hbtd sends it."""
    return orjson.dumps(
        {
            "ComponentIDs": names,
            "State": state,
            "Flag": flag,
            "ExtendedInfo": {"ID": "", "Message": message, "Flag": ""},
        }
    )


class MemoryTestCase(SynchronousTestCase):
    """Provides a fake HSM, its clock, and a client connected to it in memory."""

    def setUp(self):
        self.clock = Clock()
        self.clock.advance(1000)
        self.told: list[Update] = []
        self.hsm = FakeHSM(self.clock, on_update=self.told.append)
        self.client: Any = StubTreq(self.hsm.resource())

    def update(self, body: bytes, base: str = BASE) -> Any:
        """Send a bulk update."""
        return self.client.patch(
            f"{base}/State/Components/BulkStateData",
            data=body,
            headers={"User-Agent": "tester", "Content-Type": "application/json"},
        )

    def advance(self, seconds: float) -> None:
        """Advance the clock and deliver answers."""
        self.clock.advance(seconds)
        self.client.flush()

    def status(self, answer: Deferred[Any]) -> Any:
        """Return the status of an answer, which must have come."""
        return self.successResultOf(answer).code

    def problem(self, answer: Deferred[Any]) -> tuple[int, str]:
        """Return status and detail of an answer, which must be a problem document."""
        response = self.successResultOf(answer)
        self.assertEqual(
            response.headers.getRawHeaders("content-type"), ["application/problem+json"]
        )
        problem = self.successResultOf(treq.json_content(response))
        self.assertEqual(problem["status"], response.code)
        return response.code, problem["detail"]

    def get(self, url: str) -> Any:
        """Return the JSON of a URL, which must answer 200."""
        response = self.successResultOf(self.client.get(url))
        self.assertEqual(response.code, 200)
        return self.successResultOf(treq.json_content(response))
