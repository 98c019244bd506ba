"""The reactor: what one kind of event takes is not at the expense of the others."""

import socket
from typing import Any

from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.reactor import MonotonicReactor

MANY = 100


class SteppedReactor(MonotonicReactor):
    """A reactor whose clock moves only when it is told to."""

    now = 0.0

    def seconds(self) -> float:
        """Return the time."""
        return self.now


class Reader:
    """One end of a pair of sockets; to notice that the other has ended takes it a millisecond."""

    def __init__(self, reactor: SteppedReactor) -> None:
        self.own, self.other = socket.socketpair()
        self.own.setblocking(False)
        self.received = b""
        self.lost = False
        self._reactor = reactor
        reactor.addReader(self)

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self.own.fileno()

    def logPrefix(self) -> str:
        """Return what Twisted calls it."""
        return "reader"

    def doRead(self) -> Any:
        """Read, or notice the end."""
        data = self.own.recv(100)
        self.received += data
        if data:
            return None
        self._reactor.now += 0.001
        return CONNECTION_DONE

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket."""
        self.lost = True
        self.own.close()


class HangUpTests(SynchronousTestCase):
    """Many clients that hang up at once."""

    def setUp(self) -> None:
        """Make a reactor that is not the process's own."""
        self.reactor = SteppedReactor()
        self.addCleanup(self.reactor.disconnectAll)

    def readers(self, count: int) -> list[Reader]:
        """Return readers of the reactor."""
        made = [Reader(self.reactor) for _ in range(count)]
        for each in made:
            self.addCleanup(each.other.close)
        return made

    def test_others_first(self) -> None:
        """What others send is read before a hundred hang-ups, which take a few iterations."""
        ended, (living,) = self.readers(MANY), self.readers(1)
        for each in ended:
            each.other.shutdown(socket.SHUT_WR)
        living.other.send(b"beat")
        before = self.reactor.now
        self.reactor.doPoll(0)
        self.assertEqual(living.received, b"beat")
        self.assertLess(self.reactor.now - before, 0.022)
        iterations = 1
        while not all(each.lost for each in ended):
            living.other.send(b".")
            self.reactor.doPoll(0)
            iterations += 1
            self.assertEqual(len(living.received), 3 + iterations)
        self.assertLessEqual(iterations, 6)

    def test_last_words(self) -> None:
        """What a client has sent before it hung up is read."""
        (reader,) = self.readers(1)
        reader.other.send(b"beat")
        reader.other.shutdown(socket.SHUT_WR)
        for _ in range(2):
            self.reactor.doPoll(0)
        self.assertEqual((reader.received, reader.lost), (b"beat", True))

    def test_descriptor_used_again(self) -> None:
        """A connection that has got the file descriptor of one that was lost is not disturbed."""
        first, second = self.readers(2)
        fresh: list[Reader] = []

        def lost(reason: Failure) -> None:
            self.reactor.removeReader(second)
            number = second.own.fileno()
            second.own.close()
            fresh.extend(self.readers(1))
            self.assertEqual(fresh[0].own.fileno(), number)
            first.own.close()

        first.connectionLost = lost  # type: ignore[method-assign]  # to act in between
        for each in (first, second):
            each.other.shutdown(socket.SHUT_WR)
        self.reactor.doPoll(0)
        self.assertEqual([each.lost for each in (second, *fresh)], [False, False])
