"""The network of the simulated worlds: what it delivers, loses, and leaves half open."""

from random import Random
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.clock import WorldClock
from tests.simulation.network import Network, divided
from tests.simulation.process import Process, ProcessReactor

SERVER, CLIENT = "10.0.0.1", "10.0.0.2"


class Noting(Protocol):
    """A protocol that notes what happens to it."""

    transport: Any

    def __init__(self) -> None:
        self.reads: list[bytes] = []
        self.ended: type[BaseException] | None = None

    def dataReceived(self, data: bytes) -> None:
        """Note bytes."""
        self.reads.append(data)

    @property
    def received(self) -> bytes:
        """All that was read."""
        return b"".join(self.reads)

    def connectionLost(self, reason: Any = None) -> None:
        """Note the end."""
        self.ended = reason.type


class Noted(ServerFactory, ClientFactory):
    """A factory that keeps its protocols."""

    noisy = False

    def __init__(self) -> None:
        self.made: list[Noting] = []
        self.failed: type[BaseException] | None = None

    def buildProtocol(self, addr: Any) -> Noting:
        """Make a protocol."""
        self.made.append(Noting())
        return self.made[-1]

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        """Note why there is no connection."""
        self.failed = reason.type


class NetworkTests(SynchronousTestCase):
    """Two processes on two hosts, and connections between them."""

    def setUp(self):
        self.clock = WorldClock()
        self.network = Network(self.clock, Random(1))
        self.failures = []
        self.server = self.process()
        self.client = self.process()
        self.listening, self.connecting = Noted(), Noted()
        self.listen()

    def tearDown(self):
        self.assertEqual(self.failures, [])

    def process(self):
        return Process(self.clock, lambda: 0.0, self.failures.append)

    def listen(self):
        self.network.listen(ProcessReactor(self.server, self.network, SERVER), 80, self.listening)

    def connect(self):
        reactor = ProcessReactor(self.client, self.network, CLIENT)
        reactor.connectTCP(SERVER, 80, self.connecting, timeout=10)
        self.wait(1)
        return self.connecting.made[-1], self.listening.made[-1]

    def wait(self, seconds):
        self.clock.run(self.clock.now + seconds)

    def test_vanished(self):
        """A connection to a host without power stays half open until the host is back."""
        here, _ = self.connect()
        self.server.lose_power()
        self.network.vanish(SERVER)
        here.transport.write(b"one")
        self.wait(600)
        self.assertIsNone(here.ended)
        self.network.appear(SERVER)
        self.server = self.process()
        self.listen()
        self.wait(60)
        self.assertIs(here.ended, ConnectionLost)
        here, there = self.connect()
        here.transport.write(b"two")
        self.wait(1)
        self.assertEqual(there.received, b"two")

    def test_sent_before_it_vanished(self):
        """What a host had yet to send when it lost its power does not arrive, even later."""
        here, there = self.connect()
        mend = self.network.cut(SERVER, CLIENT)
        there.transport.write(b"late")
        self.wait(1)
        self.server.lose_power()
        self.network.vanish(SERVER)
        mend()
        self.network.appear(SERVER)
        self.wait(600)
        self.assertEqual(here.received, b"")

    def test_late(self):
        """The world learns of what arrives only because a host has sent it again."""
        late: list[tuple[str, str, float]] = []
        self.network.on_late = lambda *what: late.append(what)
        here, there = self.connect()
        here.transport.write(b"one")
        self.wait(1)
        self.assertEqual(late, [])
        mend = self.network.cut(CLIENT, SERVER)
        sent = self.clock.now
        here.transport.write(b"two")
        self.wait(1)
        mend()
        self.wait(60)
        self.assertEqual(there.received, b"onetwo")
        self.assertEqual(late, [(CLIENT, SERVER, sent)])

    def test_lost(self):
        """What a process sent whose host lost its power is not sent again."""
        here, there = self.connect()
        mend = self.network.cut(CLIENT, SERVER)
        here.transport.write(b"lost")
        self.wait(1)
        self.client.lose_power()
        self.network.lose_sent(CLIENT)
        mend()
        self.wait(60)
        self.assertEqual(there.received, b"")

    def test_no_answer(self):
        """A host without power does not refuse connections; they time out."""
        self.server.lose_power()
        self.network.vanish(SERVER)
        reactor = ProcessReactor(self.client, self.network, CLIENT)
        reactor.connectTCP(SERVER, 80, self.connecting, timeout=10)
        self.wait(5)
        self.assertIsNone(self.connecting.failed)
        self.wait(6)
        self.assertIs(self.connecting.failed, TimeoutError)

    def test_forgotten(self):
        """Nothing passes a connection that a firewall has forgotten, and no end is told."""
        here, there = self.connect()
        self.assertEqual(self.network.forget(CLIENT, SERVER), 2)
        here.transport.write(b"one")
        there.transport.loseConnection()
        self.wait(600)
        self.assertEqual(there.received, b"")
        self.assertIsNone(here.ended)
        here, there = self.connect()
        here.transport.write(b"two")
        self.wait(1)
        self.assertEqual(there.received, b"two")

    def test_torn(self):
        """A connection that is reset in the middle of a message has delivered its beginning."""
        here, there = self.connect()
        self.network.tear(CLIENT, SERVER, 0.5)
        here.transport.write(b"onetwo")
        self.wait(1)
        self.assertEqual(there.received, b"one")
        self.assertIs(here.ended, ConnectionLost)
        self.assertIs(there.ended, ConnectionLost)
        here, there = self.connect()
        here.transport.write(b"onetwo")
        self.wait(1)
        self.assertEqual(there.received, b"onetwo")

    def test_divided(self):
        """What is written at once may be read in pieces, in order, and is all there."""
        here, there = self.connect()
        self.network.pieces = lambda data: (data[:2], data[2:])
        here.transport.write(b"onetwo")
        there.transport.write(b"three")
        self.wait(1)
        self.assertEqual((there.reads, here.reads), ([b"on", b"etwo"], [b"th", b"ree"]))

    def test_divided_at_random(self):
        """Some messages are divided, and no piece is empty."""
        random, sizes = Random(1), set()
        for size in (1, 2, 3, 100) * 20:
            data = bytes(range(size))
            pieces = divided(random, data)
            self.assertEqual(b"".join(pieces), data)
            self.assertTrue(all(pieces))
            sizes.add(len(pieces))
        self.assertEqual(sizes, {1, 2, 3, 4})

    def test_reset(self):
        """A reset ends all connections between two hosts, and no others."""
        first, second = self.connect()[0], self.connect()[0]
        self.assertEqual(self.network.reset(CLIENT, "10.0.0.3"), 0)
        self.wait(1)
        self.assertIsNone(first.ended)
        self.assertEqual(self.network.reset(CLIENT, SERVER), 2)
        self.wait(1)
        self.assertIs(first.ended, ConnectionLost)
        self.assertIs(second.ended, ConnectionLost)

    def test_overtaken(self):
        """A message may be overtaken by that of another connection, never by one of its own."""
        (one, first), (two, second) = self.connect(), self.connect()
        lags = [0.3, 0.0, 0.0]
        self.network.lag = lambda: lags.pop(0)
        one.transport.write(b"a")
        one.transport.write(b"b")
        two.transport.write(b"c")
        self.wait(0.1)
        self.assertEqual((first.received, second.received), (b"", b"c"))
        self.wait(0.3)
        self.assertEqual(first.received, b"ab")

    def test_closed(self):
        """An end that is closed tells the other one."""
        here, there = self.connect()
        here.transport.loseConnection()
        self.wait(1)
        self.assertIs(there.ended, ConnectionDone)
