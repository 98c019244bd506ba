"""Ends of connections: how they are said, what is kept, and what is written after them."""

import gc
import socket
import weakref
from typing import Any

from OpenSSL import SSL
from twisted.internet import main
from twisted.python.failure import Failure

from hbtd.server.states import State
from tests.support.http_memory import BEAT, chunked, head, parse_responses
from tests.support.socket_pairs import Pair, PlainClient, TLSClient
from tests.support.transports import DOCUMENT, GET, LARGE, Once, TransportTestCase


class EndTests(TransportTestCase):
    """Ends of connections, in the clear."""

    def test_answered_after_the_end(self) -> None:
        """A client that has finished sending is answered as long as there is something to answer.

        Over TLS that is so, too, if it says so by TCP alone.
        """
        for finish in (type(self.pair().client).finish, PlainClient.finish):
            pair = self.pair()
            pair.protocol.inputEnded = lambda: True
            finish(pair.client)
            pair.settle()
            pair.transport.write(b"late")
            pair.settle()
            self.assertEqual((pair.client.received, pair.client.ended), (b"late", False))
            pair.transport.write(b"r")
            pair.protocol.inputEnded = lambda: False
            pair.protocol.close()
            pair.settle()
            self.assertEqual((pair.client.received, pair.client.ended), (b"later", True))

    def test_unread_at_the_end(self) -> None:
        """An answer is not lost because the client went on sending behind the last request."""
        pair = self.pair()
        pair.client.send(BEAT.replace(b"Host:", b"Connection: close\r\nHost:"))
        self.sockets.go_round()
        pair.client.send(b"x" * 50_000)
        pair.settle()
        self.assertEqual(self.statuses(pair), [200])
        self.assertEqual((pair.client.ended, pair.client.reset), (True, False))
        pair.client.finish()
        pair.settle()
        self.assertEqual(len(self.factory), 0)

    def test_told_and_going_on(self) -> None:
        """A client that is told to stop sends the end of its request in vain: it is closed on."""
        most = self.factory.limits.body_bytes
        pair = self.pair()
        pair.protocol.dataReceived(head("POST /v1/hbstates", "Transfer-Encoding: chunked"))
        pair.protocol.dataReceived(chunked(b"x" * 9 * most, 50_000))
        self.assertEqual(pair.protocol.state, State.CLOSING)
        pair.protocol.dataReceived(BEAT)
        pair.settle()
        self.assertEqual([each for each in self.statuses(pair) if each != 413], [])
        pair.client.finish()
        pair.settle()
        self.assertEqual((len(self.factory), self.service.tracker.beats), (0, 0))

    def test_written_after_the_abort(self) -> None:
        """What is written to a connection that is cut off goes nowhere."""
        pair = self.pair()
        pair.transport.abortConnection()
        pair.transport.write(b"late")
        pair.settle()
        pair.transport.write(b"later")
        self.assertEqual(pair.client.received, b"")
        self.assertEqual((pair.client.ended, len(self.factory)), (True, 0))

    def test_written_after_the_end(self) -> None:
        """What is written as the connection ends does not go to the next one with its number."""
        pair = self.pair()
        number = pair.transport.fileno()
        others: list[Any] = []

        def connection_lost(reason: Failure) -> None:
            others.extend(socket.socketpair())
            pair.transport.write(b"late" * 1000)

        pair.protocol.connectionLost = connection_lost
        pair.transport.connectionLost(Failure(main.CONNECTION_DONE))
        pair.transport.write(b"later")
        self.addCleanup(others[0].close)
        self.addCleanup(others[1].close)
        self.assertIn(number, [each.fileno() for each in others])
        for each in others:
            each.setblocking(False)
            with self.assertRaises(BlockingIOError):
                each.recv(10)

    def test_nothing_is_kept(self) -> None:
        """However a connection ends, it is gone at once, without the garbage collector."""

        def finish(pair: Pair) -> None:
            pair.client.finish()

        def reset(pair: Pair) -> None:
            pair.client.close()

        def close(pair: Pair) -> None:
            pair.protocol.close()
            pair.settle()
            pair.client.finish()

        def abort(pair: Pair) -> None:
            pair.transport.abortConnection()

        def time_out(pair: Pair) -> None:
            pair.protocol.time_out()
            pair.settle()
            pair.client.finish()

        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for end in (finish, reset, close, abort, time_out):
            for data in (b"", BEAT, GET, BEAT[:50], BEAT + GET + GET[:20], DOCUMENT, LARGE[:-1]):
                pair = self.pair()
                self._cleanups.pop()
                pair.client.send(data)
                pair.settle()
                ended = [weakref.ref(pair.transport), weakref.ref(pair.protocol)]
                if self.tls:
                    ended.append(weakref.ref(pair.transport._tls))
                end(pair)
                pair.settle(reading=end is not reset)
                pair.client.close()
                del pair
                kept = [each() is not None for each in ended]
                self.assertFalse(any(kept), (kept, end, data[:60]))
        self.assertEqual(len(self.factory), 0)


class TLSEndTests(EndTests):
    """Ends of connections over TLS."""

    tls = True

    def test_notified(self) -> None:
        """A client that ends a connection is told by TLS that this was all, in any state."""
        for data in (b"", BEAT, GET, BEAT + GET, BEAT[:50], DOCUMENT):
            pair = self.pair()
            pair.client.send(data)
            pair.settle()
            pair.client.finish()
            pair.settle()
            self.assertTrue(pair.client.notified, data)
            self.assertIsNone(pair.client.error, data)

    def test_notice_that_does_not_fit(self) -> None:
        """The end is said by TLS once it fits into the socket."""
        pair = self.pair()
        tls = pair.transport._tls
        tls.shutdown = Once(SSL.WantWriteError(), tls.shutdown)
        pair.protocol.close()
        pair.settle()
        self.assertTrue(pair.client.notified and pair.client.ended)

    def test_half_closed_by_us(self) -> None:
        """A transport whose protocol finishes writing says so by TLS, and goes on reading."""
        pair = self.pair()
        pair.transport.loseWriteConnection()
        pair.settle()
        self.assertTrue(pair.client.notified and pair.client.ended)
        pair.client.send(BEAT)
        pair.settle()
        self.assertEqual((self.service.tracker.beats, pair.client.received), (1, b""))

    def test_alert(self) -> None:
        """A client whose records are wrong is told by an alert, whatever it sends behind them."""
        for wrong in (b"\x17\x03\x03\x00\x20" + b"x" * 32, b"\x17\x03\x03\xff\xff", b"garbage"):
            pair = self.pair()
            pair.client.transmit(wrong + b"y" * 50_000)
            pair.settle()
            self.assertIn(" alert ", str(pair.client.error))
            self.assertEqual((pair.client.ended, pair.client.reset), (True, False))
            self.assertEqual(pair.protocol.state, State.CLOSING)
            pair.client.close()
            pair.settle(reading=False)
        self.assertEqual(len(self.factory), 0)

    def test_errors_stay_where_they_are(self) -> None:
        """No fault of a connection is left in OpenSSL's queue, from which others would have it."""
        lib: Any = SSL._lib  # type: ignore[attr-defined]

        def queued() -> int:
            return int(lib.ERR_peek_error())

        for data in (b"garbage", b"\x16\x03\x01\x00\x05xxxxx", b"\x17\x03\x03\x00\x20" + b"x" * 32):
            for after_handshake in (False, True):
                for hang_up in (PlainClient.finish, PlainClient.close):
                    pair = self.pair() if after_handshake else self.pair(PlainClient)
                    pair.client.transmit(data)
                    hang_up(pair.client)
                    pair.settle(reading=False)
                    self.assertEqual(queued(), 0)
        for send_buffer, data, writing in (
            (0, b"", 0),
            (0, BEAT, 0),
            (0, b"", 1),
            (4096, b"", 50_000),
            (4096, LARGE, 0),
        ):
            for close in (False, True):
                pair = self.pair(send_buffer=send_buffer)
                if data:
                    pair.client.send(data)
                    pair.settle(reading=False)
                pair.transport.write(b"x" * writing)
                pair.client.close()
                if writing:
                    pair.transport.write(b"x" * writing)
                    self.assertEqual(queued(), 0)
                if close:
                    pair.protocol.close()
                while pair.transport.connected:
                    self.sockets.go_round()
                    self.assertEqual(queued(), 0)
        for answered in (False, True):
            pair = Pair(self.sockets, self.factory, TLSClient, self.served)
            pair.client.pump()
            if answered:
                pair.settle(reading=False)
            pair.client.close()
            while pair.transport.connected:
                self.sockets.go_round()
                self.assertEqual(queued(), 0)
        self.assertEqual(len(self.factory), 0)

    def test_fault_of_another(self) -> None:
        """A connection that fails while it is written to costs no other one anything."""
        for write in (b"x", b"x" * 50_000):
            other, writer = self.pair(), self.pair()
            writer.client.close()
            writer.transport.write(write)
            other.client.tls.sendall(BEAT)
            records = other.client.records()
            other.client.transmit(records[:100])  # so OpenSSL has to wait for the rest
            other.transport.doRead()
            other.settle()
            other.client.transmit(records[100:])
            other.settle()
            self.assertEqual(self.statuses(other), [200])

    def test_port_looked_at(self) -> None:
        """A client that connects and hangs up is no failed handshake; one that begins it is."""
        for data, count in ((b"", 0), (b"\x16", 1), (b"\x16\x03\x01\x00", 2)):
            pair = self.pair(PlainClient)
            pair.client.send(data)
            pair.settle()
            pair.client.finish()
            pair.settle()
            self.assertTrue(pair.client.ended)
            self.assertEqual((self.refused("tls"), len(self.factory)), (count, 0))

    def test_plain_http_in_pieces(self) -> None:
        """Plain HTTP is told from TLS by its first byte."""
        pair = self.pair(PlainClient)
        for piece in (b"G", b"E", b"T / HTTP/1.1\r\n\r\n"):
            pair.client.send(piece)
            pair.settle()
        (answer,) = parse_responses(pair.client.received)
        self.assertEqual((answer.status, self.refused("tls")), (400, 1))
