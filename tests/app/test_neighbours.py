"""The clients of HSM, etcd and an issuer's keys, as hbtd makes them: names and connections."""

from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent

from hbtd.access.jwks import FetchedKeys
from hbtd.app.etcd import connect_etcd
from hbtd.app.hsm import connect_hsm
from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdUnavailable
from hbtd.hsm.client import HSMClient, HSMUnavailable
from hbtd.net.http_client import BoundedPool, PlainAgent
from hbtd.net.names import PATIENCE
from tests.support.hsm_memory import STARTED
from tests.support.nameservers import Nameservers
from tests.support.web_servers import WebServers

NOT_NOW = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
BAD, GOOD = "192.0.2.1", "192.0.2.2"


class NeighbourTestCase(SynchronousTestCase):
    """Makes clients on a reactor and nameservers in memory."""

    def setUp(self) -> None:
        self.servers = Nameservers()
        self.clock: Any = self.servers.clock
        self.web = WebServers(self.clock)

    def hsm(self) -> HSMClient:
        """Return a client of HSM."""
        params = LiveParams(Params(kv_url="mem:", sm_url="http://hsm.example/hsm/v2", sm_timeout=3))
        return connect_hsm(params, self.clock, "hbtd-test", lambda: True)[0]

    def etcd(self, *hosts: str) -> EtcdClient:
        """Return a client of etcd."""
        urls = ",".join(f"http://{host}:2379" for host in hosts)
        return connect_etcd(Params(kv_url=urls), self.clock, "hbtd-test")[0]

    def resolve(self, *addresses: str, name: str = "hsm.example") -> None:
        """Answer the look-up of a name, and accept connections to its first address."""
        self.servers.say(name, *addresses)
        self.web.accept()


class NotNowTests(NeighbourTestCase):
    """A server that says "not now" is left for another one behind the same name."""

    def test_hsm(self) -> None:
        """HSM's name is looked up again, and another of its addresses is used."""
        client = self.hsm()
        asked = client.ready()
        self.resolve(BAD, GOOD)
        self.web.answer(NOT_NOW)
        self.failureResultOf(asked, HSMUnavailable)
        asked = client.ready()
        self.resolve(BAD, GOOD)
        self.web.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.successResultOf(asked)
        self.assertEqual(self.web.hosts, [BAD, GOOD])
        asked = client.update(STARTED, ["x0c0s0b0n0"])
        self.web.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.successResultOf(asked)
        self.assertEqual(self.web.hosts, [BAD, GOOD])

    def test_etcd(self) -> None:
        """Etcd's name is looked up again, and another of its addresses is used."""
        client = self.etcd("etcd.example")
        for answer in (NOT_NOW, NOT_NOW, NOT_NOW):
            asked = client.get(b"key")
            self.resolve(BAD, GOOD, name="etcd.example")
            self.web.answer(answer)
            self.failureResultOf(asked, EtcdUnavailable)
        self.assertEqual(self.web.hosts, [BAD, GOOD, BAD])


class SlowNameTests(NeighbourTestCase):
    """Look-ups that take longer than a request may."""

    def test_etcd(self) -> None:
        """Etcd is reached once its name is found, and until then the reason is the name."""
        client = self.etcd("etcd.example")
        asked = client.get(b"key")
        self.clock.advance(3)
        error = self.failureResultOf(asked, EtcdUnavailable).value
        self.assertEqual(
            str(error),
            "http://etcd.example:2379 can't be reached: its name was not looked up within 3 s:"
            " no nameserver has answered",
        )
        asked = client.get(b"key")
        self.clock.advance(2)
        self.resolve(GOOD, name="etcd.example")
        answer = b'{"header":{"revision":"7"}}'
        self.web.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        self.assertIsNone(self.successResultOf(asked))
        self.assertEqual(self.servers.asked, ["etcd.example"])

    def test_in_a_pause(self) -> None:
        """A name that is found between two requests is known to the next one."""
        client = self.hsm()
        asked = client.ready()
        self.clock.advance(3)
        self.failureResultOf(asked, HSMUnavailable)
        self.resolve(GOOD)
        asked = client.ready()
        self.clock.advance(PATIENCE)
        self.web.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.successResultOf(asked)

    def test_hsm(self) -> None:
        """An update that was not sent because of the name is not in doubt, and no large batch."""
        asked = self.hsm().update(STARTED, ["x0c0s0b0n0"])
        self.clock.advance(3)
        error = self.failureResultOf(asked, HSMUnavailable).value
        self.assertEqual(
            str(error),
            "HSM can't be reached: its name was not looked up within 3 s: no nameserver has"
            " answered",
        )
        self.assertTrue(error.unsent)
        self.assertFalse(error.timed_out or error.in_doubt)

    def test_no_connection(self) -> None:
        """The same goes for an update for which no connection could be made."""
        asked = self.hsm().update(STARTED, ["x0c0s0b0n0"])
        self.servers.say("hsm.example", GOOD)
        self.clock.advance(3)
        error = self.failureResultOf(asked, HSMUnavailable).value
        self.assertIn("no connection was made within 3 s", str(error))
        self.assertTrue(error.unsent)
        self.assertFalse(error.timed_out or error.in_doubt)

    def test_no_answer(self) -> None:
        """An update that was sent, and not answered, is in doubt."""
        asked = self.hsm().update(STARTED, ["x0c0s0b0n0"])
        self.resolve(GOOD)
        self.clock.advance(3)
        error = self.failureResultOf(asked, HSMUnavailable).value
        self.assertEqual(str(error), "HSM did not answer within 3 s")
        self.assertTrue(error.timed_out and error.in_doubt)

    def test_keys(self) -> None:
        """Keys that can't be fetched because of a name are reported so."""
        http = HTTPClient(PlainAgent(Agent(self.clock, pool=BoundedPool(self.clock, False))))
        keys = FetchedKeys("http://spire.example/keys", http, self.clock, lambda: 0.5)
        with capturedLogs() as events:
            keys.startService()
            self.clock.advance(10)
        (said,) = map(formatEvent, events)
        self.assertIn("its name was not looked up within 10 s", said)

    def test_cancelled(self) -> None:
        """A call that is cancelled during the look-up is over: no other endpoint is tried."""
        asked = self.etcd("a.example", "b.example").get(b"key")
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.servers.asked, ["a.example"])

    def test_no_such_name(self) -> None:
        """If there is no such name, the next endpoint is tried at once."""
        client = self.etcd("a.example", "b.example")
        asked = client.get(b"key")
        self.servers.say("a.example")
        self.assertEqual(self.servers.asked, ["a.example", "b.example"])
        self.servers.say("b.example")
        error = self.failureResultOf(asked, EtcdUnavailable).value
        self.assertIn("http://b.example:2379 can't be reached: DNS lookup failed", str(error))

    def test_cancelled_lock(self) -> None:
        """A cancelled wait for the lock is no failure of etcd, even if that can't be reached."""
        client = self.etcd("etcd.example")
        asked = client.lock(b"lock", 7, 10.0)
        asked.cancel()
        self.assertNoResult(asked)
        self.clock.advance(3)
        self.failureResultOf(asked, CancelledError)
