"""Test cases with a whole service on the clock of its reactor."""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from hbtd.app.service import HbtdService
from hbtd.config.params import Params
from hbtd.runtime.host import Host
from tests.support.hsm_memory import WALL
from tests.support.http_memory import APITestCase, MemoryReactor, no_kafka


class ClockedAPITestCase(APITestCase):
    """A test of the REST API in which time passes as the test says, for all of the service."""

    options: Mapping[str, Any] = {}
    """Options of the service, besides those that every one has."""

    def begin(self, **options: Any) -> None:
        """Start a service with further options, instead of the present one."""
        options = {**self.options, **options}
        options.update(kv_url="mem:", nosm=True, use_telemetry=False, tls=False, sm_sync=0)
        self.reactor: Any = MemoryReactor()
        now = self.reactor.seconds
        host = Host(elapsed=now, wall=lambda: WALL + now(), processor=lambda: 0.0)
        service = HbtdService(Params(**options), self.reactor, connect_kafka=no_kafka, host=host)
        self.service = service
        service.startService()
        self.addCleanup(self.end, service, self.reactor)
        self.factory = self.reactor.tcpServers[0][1]

    @staticmethod
    def end(service: HbtdService, reactor: Any) -> Deferred[None]:
        """Stop a service."""
        ended = service.stopService()
        reactor.pump([0.2] * 20)
        return ended
