"""An HSM that asks for a bearer token, which changes."""

from pathlib import Path
from typing import Any

from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.logger import capturedLogs, formatEvent

from hbtd.hsm.client import HSMUnavailable
from hbtd.hsm.fencing import FencedAgent
from hbtd.hsm.readiness import INTERVAL
from hbtd.net.bearer import BearerAgent
from hbtd.net.http_client import PlainAgent, WholeBody
from hbtd.net.own_secrets import SecretFile, read_bearer
from hbtd.simulator.guards import TokenGuard
from tests.support.hsm_memory import DIED, STARTED, StartedTestCase

NODE = "x1000c0s0b0n0"


class TokenTests(StartedTestCase):
    """The notifier, and an HSM that takes one token only."""

    def connect(self) -> HTTPClient:
        """Return an HTTP client that sends the token in a file."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        self.theirs, self.ours = folder / "theirs", folder / "ours"
        self.theirs.write_text("first")
        self.ours.write_text("first")
        self.ours.chmod(0o600)
        self.token = SecretFile("The token", str(self.ours), read_bearer)
        self.conceal = self.token.conceal
        self.stub = RequestTraversalAgent(TokenGuard(self.hsm.resource(), self.theirs))
        agent = FencedAgent(BearerAgent(PlainAgent(self.stub), self.token), lambda: True)
        return HTTPClient(agent, data_to_body_producer=WholeBody)

    def begin(self, **params: object) -> None:
        super().begin(**params)
        self.advance(0.1)

    def told(self) -> list[str]:
        """Return the messages of the transitions that HSM has applied, in order."""
        return [update.message for update in self.hsm.updates if update.applied]

    def test_right(self) -> None:
        """With the right token HSM is ready, and is told."""
        self.tell(STARTED, NODE)
        self.advance(0.1)
        self.assertEqual(self.told(), [STARTED.message])

    def test_rotated(self) -> None:
        """A token that has just been replaced on both sides is used at once, without a pause."""
        self.theirs.write_text("second")
        self.ours.write_text("second")
        with capturedLogs() as events:
            self.tell(STARTED, NODE)
            self.advance(0.1)
        self.assertEqual(self.told(), [STARTED.message])
        self.assertNotIn("warn", [event["log_level"].name for event in events])

    def test_wrong(self) -> None:
        """While the token is wrong HSM is not ready; what waits is told once, with the right one.

        Nothing that is logged meanwhile has a token, although HSM answers with it.
        """
        self.tell(STARTED, NODE)
        self.advance(0.1)
        self.theirs.write_text("second")
        with capturedLogs() as events:
            self.tell(DIED, NODE)
            self.advance(60)
            trouble = self.notifier.trouble()
            self.assertEqual(self.told(), [STARTED.message])
            self.assertEqual(self.notifier.pending_count, 1)
            self.ours.write_text("second")
            self.advance_until(lambda: len(self.told()) == 2, INTERVAL + 1)
        self.advance(60)
        self.assertEqual(self.told(), [STARTED.message, DIED.message])
        self.assertIn("Bearer (a secret)", str(trouble))
        lines = [formatEvent(event) for event in events]
        self.assertTrue(any("401" in line for line in lines), lines)
        self.assertIn("401", str(trouble))
        for shown in (*lines, str(trouble)):
            self.assertNotIn("first", shown)
            self.assertNotIn("second", shown)

    def test_repeated_once(self) -> None:
        """A new token that is refused, too, is not tried a second time for the same request."""
        self.theirs.write_text("third")
        asked: list[str] = []
        render = self.stub._rootResource.render

        def count(request: Any) -> Any:
            asked.append(request.method.decode())
            return render(request)

        self.stub._rootResource.render = count
        self.ours.write_text("second")
        question = self.client.ready()
        self.stub.flush()
        self.failureResultOf(question, HSMUnavailable)
        self.assertEqual(asked, ["GET", "GET"])
        question = self.client.ready()
        self.stub.flush()
        self.failureResultOf(question, HSMUnavailable)
        self.assertEqual(asked, ["GET"] * 3)
