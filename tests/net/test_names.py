"""The look-up of names: shared, outliving those who ask, and answered from memory if need be."""

import socket
import sys
from subprocess import run
from typing import Any

from twisted.internet.interfaces import IHostResolution, IResolutionReceiver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from hbtd.net.names import PATIENCE, REMEMBERED
from tests.support.nameservers import Nameservers

ONE, TWO, THREE = "192.0.2.1", "192.0.2.2", "2001:db8::3"


@implementer(IResolutionReceiver)
class Receiver:
    """Collects the addresses of a name; `hosts` is `None` until they have arrived."""

    def __init__(self) -> None:
        self.addresses: list[Any] = []
        self.hosts: list[str] | None = None
        self.resolution: Any = None

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Note it."""
        self.resolution = resolutionInProgress

    def addressResolved(self, address: Any) -> None:
        """Note an address."""
        assert self.hosts is None
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        """Note that this is all."""
        assert self.hosts is None, "complete twice"
        self.hosts = [address.host for address in self.addresses]


class NamesTests(SynchronousTestCase):
    """What those who ask are told, and when."""

    def setUp(self) -> None:
        self.servers = Nameservers()
        self.clock = self.servers.clock
        self.names = self.servers.names

    def ask(self, name: str = "hsm.example", **more: Any) -> Receiver:
        """Ask for the addresses of a name."""
        receiver = Receiver()
        self.names.resolveHostName(receiver, name, 80, **more)
        return receiver

    def test_without_an_end(self) -> None:
        """A look-up that has no end is one among others, of which few are begun."""
        first = self.ask()
        self.servers.hang("hsm.example")
        for _ in range(29):
            self.clock.advance(1.0)
            self.ask().resolution.cancel()
        self.assertEqual(self.servers.asked, ["hsm.example"])
        self.clock.advance(1.0)
        second = self.ask()
        self.assertEqual(self.servers.asked, 2 * ["hsm.example"])
        self.servers.say("hsm.example", ONE)
        self.assertEqual((first.hosts, second.hosts), ([ONE], [ONE]))
        third = self.ask()
        self.servers.end_hanging(socket.gaierror(socket.EAI_NONAME, "?"))
        self.assertIsNone(third.hosts)
        self.servers.say("hsm.example", TWO)
        self.assertEqual(third.hosts, [TWO])

    def test_none_has_an_end(self) -> None:
        """While look-ups hang, another is begun after twice as long each time."""
        for _ in range(3600):
            self.clock.advance(1.0)
            asked = self.ask()
            if "hsm.example" in self.servers._waiting:
                self.servers.hang("hsm.example")
        self.assertEqual(len(self.servers.asked), 7)
        self.servers.end_hanging(socket.gaierror(socket.EAI_AGAIN, "?"))
        self.assertEqual(asked.hosts, [])

    def test_found(self) -> None:
        """All addresses of a name are found, with the port that was asked for."""
        asked = self.ask()
        self.assertEqual(asked.resolution.name, "hsm.example")
        self.assertIsNone(asked.hosts)
        self.servers.say("hsm.example", ONE, THREE)
        self.assertEqual(asked.hosts, [ONE, THREE])
        self.assertEqual([each.port for each in asked.addresses], [80, 80])

    def test_numeric(self) -> None:
        """An address is its own answer, at once and without a thread."""
        for address in (ONE, THREE):
            self.assertEqual(self.ask(address).hosts, [address])
        self.assertEqual(self.servers.asked, [])

    def test_kinds(self) -> None:
        """Addresses of one kind can be asked for."""
        from twisted.internet.address import IPv4Address, IPv6Address

        for kind, family in ((IPv4Address, socket.AF_INET), (IPv6Address, socket.AF_INET6)):
            self.ask(addressTypes=[kind])
            self.assertEqual(self.servers.families.pop(), family)

    def test_shared(self) -> None:
        """However many ask for a name, it is looked up by one thread at a time."""
        asked = [self.ask() for _ in range(100)]
        self.assertEqual(self.servers.asked, ["hsm.example"])
        self.ask("etcd.example")
        self.assertEqual(self.servers.asked, ["hsm.example", "etcd.example"])
        self.servers.say("hsm.example", ONE)
        self.assertEqual([each.hosts for each in asked], [[ONE]] * 100)

    def test_anew(self) -> None:
        """Whoever asks later has the name looked up again, and gets the new address."""
        self.ask()
        self.servers.say("hsm.example", ONE)
        later = self.ask()
        self.servers.say("hsm.example", TWO)
        self.assertEqual(later.hosts, [TWO])

    def test_turns(self) -> None:
        """Each answer begins with another of the addresses."""
        for hosts in ([ONE, TWO], [TWO, ONE], [ONE, TWO]):
            asked = self.ask()
            self.servers.say("hsm.example", ONE, TWO)
            self.assertEqual(asked.hosts, hosts)

    def test_given_up(self) -> None:
        """A look-up goes on when whoever asked has given up; its answer is for the next."""
        first = self.ask()
        first.resolution.cancel()
        self.clock.advance(5)
        self.servers.say("hsm.example", ONE)
        self.assertIsNone(first.hosts)
        self.clock.advance(5)
        second = self.ask()
        self.clock.advance(PATIENCE)
        self.assertEqual(second.hosts, [ONE])
        self.servers.say("hsm.example", TWO)
        self.assertEqual(second.hosts, [ONE])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent(self) -> None:
        """While no nameserver answers, old addresses are used for a day."""
        self.ask()
        self.servers.say("hsm.example", ONE)
        asked = self.ask()
        self.servers.fail("hsm.example", socket.gaierror(socket.EAI_AGAIN, "no answer"))
        self.assertEqual(asked.hosts, [ONE])
        self.clock.advance(REMEMBERED)
        asked = self.ask()
        self.clock.advance(PATIENCE)
        self.assertIsNone(asked.hosts)
        self.servers.fail("hsm.example", socket.gaierror(socket.EAI_AGAIN, "no answer"))
        self.assertEqual(asked.hosts, [])

    def test_no_such_name(self) -> None:
        """If a nameserver says that there is no such name, old addresses are not used."""
        self.ask()
        self.servers.say("hsm.example", ONE)
        for error in (socket.gaierror(socket.EAI_NONAME, "unknown"), UnicodeError("too long")):
            asked = self.ask()
            self.servers.fail("hsm.example", error)
            self.assertEqual(asked.hosts, [])

    def test_bug(self) -> None:
        """Whatever a look-up raises, those who ask are answered."""
        asked = self.ask()
        self.servers.fail("hsm.example", RuntimeError("odd"))
        self.assertEqual(asked.hosts, [])

    def test_no_thread(self) -> None:
        """If no thread can be made, old addresses are used, and the next one who asks may help."""
        self.ask()
        self.servers.say("hsm.example", ONE)
        self.servers.no_threads = True
        self.assertEqual(self.ask().hosts, [ONE])
        self.assertEqual(self.ask("other.example").hosts, [])
        self.servers.no_threads = False
        asked = self.ask("other.example")
        self.servers.say("other.example", TWO)
        self.assertEqual(asked.hosts, [TWO])


_BLOCKED = """
import threading
from hbtd.runtime.reactor import install
install()
from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from hbtd.net.names import Names

asked = threading.Event()

def silent(name, port, family, kind, protocol, flags=0):
    if flags:
        raise OSError("no address")
    reactor.callFromThread(reactor.stop)
    threading.Event().wait()

reactor.installNameResolver(Names(reactor, silent))
reactor.callWhenRunning(lambda: HostnameEndpoint(reactor, "etcd.example", 1).connect(Factory()))
reactor.run()
print("ended")
"""


class ProcessTests(SynchronousTestCase):
    """A process that looks up a name."""

    def test_end(self) -> None:
        """A process ends although a look-up never does."""
        ended = run([sys.executable, "-c", _BLOCKED], capture_output=True, timeout=60, check=True)
        self.assertEqual(ended.stdout, b"ended\n", ended.stderr)
