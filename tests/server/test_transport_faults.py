"""Server transports in trouble: half messages, floods, and writing before the handshake."""

import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet import main
from twisted.python.failure import Failure

from hbtd.server.states import State
from tests.support.http_memory import BEAT
from tests.support.socket_pairs import Pair, PlainClient, TLSClient
from tests.support.tls_records import (
    HANDSHAKE,
    HELLO,
    KEY_UPDATE,
    KEY_UPDATE_REQUEST,
    OldRecordWriter,
    RecordWriter,
    context_with_secrets,
)
from tests.support.transports import LARGE, Once, TransportTestCase, client_context


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

    def test_flood_of_renegotiations(self) -> None:
        """A client that only asks for renegotiation is refused each time, and so gets a turn."""
        context = client_context(versions=(SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION))
        context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256")
        pair = self.pair(lambda sock: TLSClient(sock, context))
        other = self.pair()
        writer = OldRecordWriter(pair.client.tls)
        records = [writer.record(HELLO, HANDSHAKE) for _ in range(500)]
        pair.client.transmit(b"".join(records) + writer.record(BEAT))
        other.client.send(BEAT)
        self.sockets.go_round()
        other.client.pump()
        self.assertEqual(self.statuses(other), [200])
        PlainClient.pump(pair.client)
        pair.settle(reading=False)
        self.assertEqual(self.service.tracker.beats, 2)
        self.assertEqual(pair.protocol.state, State.IDLE)

    def test_half_a_key_update(self) -> None:
        """Writing waits for the rest of a message, without any bustle, even if reading pauses."""
        for pausing in ("", "before it waits", "while it waits"):
            pair, writer = self.secret_pair(send_buffer=4096)
            pair.client.transmit(writer.record(LARGE))
            pair.settle(reading=False)
            self.assertIn(pair.transport, self.sockets.getWriters())
            pair.client.transmit(writer.record(KEY_UPDATE[:4], HANDSHAKE))
            pair.settle(reading=False)
            if pausing == "before it waits":
                pair.transport.pauseProducing()
            pair.settle()
            if pausing == "while it waits":
                pair.transport.pauseProducing()
            self.assertEqual(self.sockets.getWriters(), [])
            self.assertEqual(pair.transport._step, type(pair.transport)._write_again)
            pair.client.transmit(writer.record(KEY_UPDATE[4:], HANDSHAKE))
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
        for close in (True, False):
            pair, writer = self.secret_pair(send_buffer=4096)
            pair.client.transmit(writer.record(LARGE))
            pair.settle(reading=False)
            pair.client.transmit(writer.record(KEY_UPDATE[:4], HANDSHAKE))
            pair.settle()
            if close:
                pair.protocol.close()
                pair.settle()
                self.sockets.pump([1.0] * 17)
            else:
                pair.transport.connectionLost(Failure(main.CONNECTION_DONE))
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
