"""Server transports in trouble: half messages, floods, bad ends, and writing at odd times."""

import gc
import socket
import weakref
from typing import Any

from OpenSSL import SSL
from twisted.internet import main
from twisted.python.failure import Failure

from hbtd.server.states import State
from tests.support.http_memory import BEAT, XNAME, chunked, encode_request, head, parse_responses
from tests.support.socket_pairs import Pair, PlainClient, TLSClient
from tests.support.tls_records import (
    HANDSHAKE,
    KEY_UPDATE,
    KEY_UPDATE_REQUEST,
    RecordWriter,
    context_with_secrets,
)
from tests.support.transports import DOCUMENT, GET, TransportTestCase, client_context

LARGE = encode_request("POST", "/v1/hbstates", {"XNames": [XNAME] * 1000})
"""A request with an answer that is larger than a small socket takes at once."""


class Once:
    """Raises an exception when it is called first, and calls something from then on."""

    def __init__(self, error: Exception, function: Any) -> None:
        self._error: Exception | None = error
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """Call it, or raise."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._function(*args)


class EndTests(TransportTestCase):
    """Ends of connections, in the clear."""

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
        pair = self.pair()
        pair.client.close()
        for _ in range(3):
            pair.transport.write(b"x" * 50_000)
            self.assertEqual(queued(), 0)
        pair.settle(reading=False)
        self.assertEqual((queued(), len(self.factory)), (0, 0))

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


class WaitTests(TransportTestCase):
    """OpenSSL's waiting in one direction for the other."""

    tls = True

    def secret_pair(self, **options: Any) -> tuple[Pair, RecordWriter]:
        """Connect; return also a writer of the client's records, the first that it sends."""
        secrets: list[bytes] = []
        context = context_with_secrets(secrets)
        pair = self.pair(lambda sock: TLSClient(sock, context), **options)
        return pair, RecordWriter(secrets[0])

    def test_flood_of_key_updates(self) -> None:
        """A client that only updates keys gets a turn like others, who need not wait for it."""
        for message in (KEY_UPDATE, KEY_UPDATE_REQUEST):
            before = self.service.tracker.beats
            pair, writer = self.secret_pair()
            other = self.pair()
            flood = b"".join(writer.update_keys(message) for _ in range(2000))
            pair.client.transmit(flood + writer.record(BEAT))
            other.client.send(BEAT)
            self.sockets.go_round()
            other.client.pump()
            self.assertEqual(self.statuses(other), [200])
            self.assertEqual(self.service.tracker.beats, before + 1)
            pair.settle()
            self.assertEqual(self.statuses(pair), [200])

    def test_half_a_key_update(self) -> None:
        """Writing waits for the rest of a message, without any bustle, even if reading pauses."""
        for pausing in (False, True):
            pair, writer = self.secret_pair(send_buffer=4096)
            pair.client.transmit(writer.record(LARGE))
            pair.settle(reading=False)
            self.assertIn(pair.transport, self.sockets.getWriters())
            pair.client.transmit(writer.record(KEY_UPDATE[:3], HANDSHAKE))
            pair.settle(reading=False)
            if pausing:
                pair.transport.pauseProducing()
            pair.settle()
            self.assertEqual(self.sockets.getWriters(), [])
            self.assertNotIn(b"\r\n\r\n" + b"x", pair.client.received)
            pair.client.transmit(writer.record(KEY_UPDATE[3:], HANDSHAKE))
            writer.new_keys()
            pair.settle()
            self.assertEqual(self.statuses(pair), [200])
            self.assertEqual(pair.transport in self.sockets.getReaders(), not pausing)
            if pausing:
                pair.transport.resumeProducing()
            pair.client.transmit(writer.record(BEAT))
            pair.settle()
            self.assertEqual(self.statuses(pair), [200, 200])

    def test_half_a_key_update_at_the_end(self) -> None:
        """A client that never sends the rest is cut off like others that do not hang up."""
        pair, writer = self.secret_pair(send_buffer=4096)
        pair.client.transmit(writer.record(LARGE))
        pair.settle(reading=False)
        pair.client.transmit(writer.record(KEY_UPDATE[:3], HANDSHAKE))
        pair.settle()
        pair.protocol.close()
        pair.settle()
        self.sockets.pump([1.0] * 17)
        pair.settle()
        self.assertEqual((len(self.factory), self.sockets.getReaders()), (0, []))

    def test_read_waits_for_writing(self) -> None:
        """Reading waits for the socket to be writable, without any bustle."""
        pair = self.pair()
        pair.transport._receive = Once(SSL.WantWriteError(), pair.transport._receive)
        pair.client.send(BEAT)
        pair.transport.doRead()
        self.assertEqual(self.sockets.getReaders(), [])
        self.assertEqual(self.sockets.getWriters(), [pair.transport])
        pair.settle()
        self.assertEqual(self.statuses(pair), [200])
        self.assertEqual(self.sockets.getReaders(), [pair.transport])
        self.assertEqual(self.sockets.getWriters(), [])

    def test_handshake_waits_for_writing(self) -> None:
        """So does a handshake."""
        pair = Pair(self.sockets, self.factory, TLSClient, self.served)
        self.addCleanup(pair.close)
        tls = pair.transport._tls
        tls.do_handshake = Once(SSL.WantWriteError(), tls.do_handshake)
        pair.client.pump()
        pair.transport.doRead()
        self.assertEqual(self.sockets.getReaders(), [])
        pair.settle()
        pair.client.send(BEAT)
        pair.settle()
        self.assertEqual(self.statuses(pair), [200])

    def test_paused_while_reading_waits(self) -> None:
        """Nothing is read while reading pauses, not even what had to wait."""
        pair = self.pair()
        pair.transport._receive = Once(SSL.WantWriteError(), pair.transport._receive)
        pair.client.send(BEAT)
        pair.transport.doRead()
        pair.transport.pauseProducing()
        pair.settle()
        self.assertEqual(self.service.tracker.beats, 0)
        pair.transport.resumeProducing()
        pair.settle()
        self.assertEqual(self.statuses(pair), [200])

    def test_end_while_reading_waits(self) -> None:
        """The client's end, found by what had to wait, does not cost it its answers."""
        pair = self.pair(send_buffer=4096)
        pair.client.send(LARGE)
        pair.settle(reading=False)
        pair.client.finish()
        pair.transport._receive = Once(SSL.WantWriteError(), pair.transport._receive)
        pair.transport.doRead()
        pair.client.pump()
        pair.settle()
        self.assertEqual(self.statuses(pair), [200])
        self.assertTrue(pair.client.notified)
        self.assertEqual(len(self.factory), 0)

    def test_paused_and_resumed_within(self) -> None:
        """Reading that pauses and goes on while data are received misses nothing of a record."""
        pair = self.pair()
        receive = pair.protocol.dataReceived

        def received(data: bytes) -> None:
            pair.transport.pauseProducing()
            receive(data)
            pair.transport.resumeProducing()

        pair.protocol.dataReceived = received
        pair.client.send(BEAT * 50)
        pair.settle()
        self.assertEqual(self.statuses(pair), [200] * 50)


class EarlyTests(TransportTestCase):
    """What happens before the handshake is complete."""

    tls = True

    def begin_pair(self) -> Pair:
        """Connect, and do nothing yet."""
        pair = Pair(self.sockets, self.factory, TLSClient, self.served)
        self.addCleanup(pair.close)
        return pair

    def test_written_before_the_handshake(self) -> None:
        """What is written early is sent after the handshake, before what is written later."""
        for noticed in (False, True):
            pair = self.begin_pair()
            complete = pair.protocol.handshakeCompleted

            def completed(pair: Pair = pair, complete: Any = complete) -> None:
                complete()
                pair.transport.write(b"late")

            pair.protocol.handshakeCompleted = completed
            if noticed:
                pair.transport.write(b"early ")
            while pair.client.pump() and not pair.client.shaken_hands:
                pair.transport.doRead()
                if noticed:
                    pair.transport.doWrite()
            if not noticed:
                pair.transport.write(b"early ")
            pair.settle()
            self.assertEqual(pair.client.received, b"early late")

    def test_nothing_written_before_the_handshake(self) -> None:
        """Nothing that is written early is sent in the clear, nor does it keep the reactor busy."""
        pair = self.begin_pair()
        pair.transport.write(b"early")
        pair.settle(reading=False)
        self.assertEqual(self.sockets.getWriters(), [])
        with self.assertRaises(BlockingIOError):
            pair.client.socket.recv(100)

    def test_closed_before_the_handshake(self) -> None:
        """A connection that is closed before its handshake ends at once."""
        for lose in ("loseConnection", "abortConnection"):
            pair = self.begin_pair()
            getattr(pair.transport, lose)()
            pair.settle(reading=False)
            self.assertEqual((len(self.factory), pair.client.socket.recv(100)), (0, b""))

    def test_closed_within_the_handshake(self) -> None:
        """So does one that is closed, or whose client hangs up, within it."""
        for close in (Pair.close, lambda pair: pair.client.socket.shutdown(socket.SHUT_WR)):
            pair = self.begin_pair()
            pair.client.pump()
            pair.settle(reading=False)
            self.assertEqual(pair.protocol.state, State.HANDSHAKE)
            close(pair)
            pair.settle(reading=False)
            self.assertEqual(len(self.factory), 0)

    def test_many_handshakes_fail(self) -> None:
        """Failed handshakes are counted, each, and of their connections nothing stays."""
        for _ in range(50):
            pair = self.pair(PlainClient)
            pair.client.send(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
            pair.settle()
            pair.client.finish()
            pair.settle()
        self.assertEqual((self.refused("tls"), len(self.factory)), (50, 0))
        self.assertEqual((self.sockets.getReaders(), self.sockets.getWriters()), ([], []))

    def test_new_versions_alone(self) -> None:
        """The client is told by an alert why its handshake fails."""
        context = client_context(versions=(SSL.TLS1_1_VERSION, SSL.TLS1_1_VERSION))
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        pair = self.pair(lambda sock: TLSClient(sock, context))
        self.assertIn("alert protocol version", str(pair.client.error))
