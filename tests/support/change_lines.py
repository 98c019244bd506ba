"""A service whose log lines about changes a test looks at."""

import re
from typing import Any

from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs, eventAsText

from tests.support.access_memory import (
    TOKEN,
    AccessTestCase,
    Credential,
    Transport,
)
from tests.support.http_memory import XNAME, Response, loopback_request

NAMED = "0123456789abcdef-alice"
EXPIRED = "0123456789abcdef-bob"


class ChangeTestCase(AccessTestCase):
    """A test of the lines about changes."""

    def setUp(self) -> None:
        super().setUp()
        (self.folder / "tokens").write_text(
            f"{TOKEN}\nalice:{NAMED} expires=2999-01-01\nbob:{EXPIRED} expires=2020-01-01\n"
        )

    def begin(self, **options: Any) -> None:
        """Start a service for operators with tokens, certificates and on this host."""
        options.setdefault("operator_access", "loopback+token:{folder}/tokens+cert:ops")
        options.setdefault("node_access", "cert+jwt:{folder}/jwks.json")
        self.service = self.start(**options)
        self.factory: Any = self.reactor.tcpServers[0][1]

    def lines(
        self, credential: Credential, method: str, path: str, body: object = b""
    ) -> tuple[Response, list[str]]:
        """Send a request; return the answer, and the log's lines that are about changes."""
        transport: StringTransport = Transport(credential)
        with capturedLogs() as events:
            answer = loopback_request(
                self.factory, method, path, body, credential.headers, transport
            )
        texts = [
            eventAsText(event, includeTimestamp=False, includeSystem=False)
            for event in events
            if event["log_level"] > LogLevel.debug
        ]
        for text in texts:
            for secret in (TOKEN, NAMED, EXPIRED):
                self.assertNotIn(secret, text)
        return answer, [text for text in texts if re.match("Change|Refused|Param", text)]

    def beat(self) -> None:
        """Have the component tracked."""
        self.service.monitor.beat(XNAME, "t", "s")
