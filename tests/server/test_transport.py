"""Server transports, plain and TLS, on real sockets."""

import contextlib
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from zope.interface.verify import verifyObject

from hbtd.net.tls import Identity
from hbtd.server.states import State
from tests.support.certificates import make_identity
from tests.support.http_memory import BEAT, XNAME, encode_request, head, parse_responses
from tests.support.socket_pairs import Pair, PlainClient, TLSClient
from tests.support.transports import (
    DOCUMENT,
    GET,
    LARGE,
    NotedTestCase,
    TransportTestCase,
    client_context,
)


class PlainTests(TransportTestCase):
    """What holds for every transport; here for plain TCP."""

    def test_interfaces(self) -> None:
        """A transport provides Twisted's interface."""
        verifyObject(ISSLTransport if self.tls else ITCPTransport, self.pair().transport)

    def test_both_lanes(self) -> None:
        """Requests of both lanes are answered, in order."""
        pair = self.pair()
        pair.client.send(BEAT + GET + BEAT)
        pair.settle()
        self.assertEqual(self.statuses(pair), [200, 204, 200])
        self.assertEqual(self.service.tracker.beats, 2)

    def test_written_at_once(self) -> None:
        """An answer is on its way before the reactor's round ends."""
        pair = self.pair()
        pair.client.send(BEAT)
        pair.transport.doRead()
        pair.client.pump()
        self.assertEqual(self.statuses(pair), [200])
        self.assertEqual(self.sockets.getWriters(), [])

    def test_calls(self) -> None:
        """A heartbeat is received, taken and answered with one call each, and no event more."""
        pair = self.pair()
        pair.client.send(BEAT)  # the first one changes the connection's state
        pair.settle()
        lane = self.factory.lane
        calls: list[tuple[str, list[str]]] = []

        def noting(name: str, function: Any) -> Any:
            def noted(*args: Any) -> Any:
                way: list[str] = []
                frame: Any = sys._getframe(1)
                while frame.f_code is not self.test_calls.__code__:
                    way.insert(0, frame.f_code.co_name)
                    frame = frame.f_back
                calls.append((name, way))
                return function(*args)

            return noted

        self.patch(lane, "take", noting("take", lane.take))
        pair.transport._receive = noting("receive", pair.transport._receive)
        pair.transport._send = noting("send", pair.transport._send)
        pair.client.send(BEAT)
        pair.transport.doRead()
        self.assertEqual(
            calls,
            [
                ("receive", ["doRead"]),
                ("take", ["doRead", "dataReceived"]),
                ("send", ["doRead", "dataReceived", "write"]),
            ],
        )
        self.assertEqual(self.sockets.getReaders(), [pair.transport])
        self.assertEqual(self.sockets.getWriters(), [])

    def test_one_write(self) -> None:
        """The head of an answer is sent together with its body, also if there is none."""
        for request in (head("GET /v1/params"), GET):
            pair = self.pair()
            pair.settle()  # with TLS, it begins with a handshake
            sent: list[int] = []
            send = pair.transport._send
            pair.transport._send = lambda data, send=send, sent=sent: sent.append(1) or send(data)
            pair.client.send(request)
            pair.settle()
            self.assertEqual(self.statuses(pair), [204 if request is GET else 200])
            self.assertEqual(len(sent), 1)

    def test_finished_sending(self) -> None:
        """A client that finishes after its requests is answered, and the connection ends."""
        for requests in ([BEAT], [GET], [BEAT, GET, BEAT], [GET] * 300, [DOCUMENT] * 20):
            pair = self.pair()
            pair.client.send(b"".join(requests))
            pair.client.finish()
            pair.settle()
            self.assertEqual(len(self.statuses(pair)), len(requests))
            self.assertTrue(pair.client.ended)
            self.assertEqual(pair.protocol.state, State.CLOSED)
        self.assertEqual(len(self.factory), 0)

    def test_finished_before_reading(self) -> None:
        """A client that finishes before it reads gets what was written, and the end after it."""
        pair = self.pair(send_buffer=4096)
        pair.client.send(LARGE)
        pair.settle(reading=False)
        self.assertEqual(pair.protocol.state, State.IDLE)
        pair.client.finish()
        pair.settle(reading=False)
        pair.settle()
        self.assertEqual(self.statuses(pair), [200])
        self.assertEqual((pair.client.ended, len(self.factory)), (True, 0))

    def test_finished_early(self) -> None:
        """One that finishes within a request gets no answer, and the connection ends."""
        for request in (BEAT[:100], GET[:20], encode_request("POST", "/v1/hbstates", b"{}")[:-1]):
            pair = self.pair()
            pair.client.send(request)
            pair.settle()
            pair.client.finish()
            pair.settle()
            self.assertEqual((pair.client.received, pair.client.ended), (b"", True))
        self.assertEqual(len(self.factory), 0)

    def test_large_answer(self) -> None:
        """A large answer is written as fast as it is read, and what is behind it answered after."""
        names = {"XNames": [XNAME] * 20_000}
        pair = self.pair(send_buffer=4096)
        pair.client.send(encode_request("POST", "/v1/hbstates", {"XNames": [XNAME]}))
        body = encode_request("POST", "/v1/hbstates", names)
        while body:
            pair.client.send(body[:16_000])
            body = body[16_000:]
            pair.settle(reading=False)
        pair.client.send(BEAT)
        pair.settle(reading=False)
        self.assertEqual(self.service.tracker.beats, 0)
        self.assertEqual(pair.protocol.state, State.BLOCKED)
        pair.settle()
        self.assertEqual(self.statuses(pair), [200, 200, 200])
        self.assertEqual(self.service.tracker.beats, 1)

    def test_never_reads(self) -> None:
        """Of a client that never reads no more is read than its answers fit, and it is cut off."""
        pair = self.pair(send_buffer=4096)
        sent = 0
        try:
            while sent < 2**24:
                pair.client.send(BEAT * 20)
                sent += len(BEAT) * 20
                pair.settle(reading=False)
        except BlockingIOError:
            pass
        self.assertLess(sent, 2**23)
        self.sockets.pump([1.0] * 63)
        pair.settle(reading=False)
        self.assertEqual(pair.protocol.state, State.CLOSED)
        self.assertEqual(self.refused("unread"), 1)

    def test_last_answer(self) -> None:
        """The answer to a request that asks for the end of the connection arrives whole."""
        for request in (BEAT, DOCUMENT):
            pair = self.pair()
            pair.client.send(request.replace(b"Host:", b"Connection: close\r\nHost:") + BEAT * 10)
            pair.settle()
            self.assertEqual(self.statuses(pair), [200])
            self.assertTrue(pair.client.ended)

    def test_reset(self) -> None:
        """A connection that the client cuts off is forgotten."""
        pair = self.pair()
        pair.client.send(BEAT[:50])
        pair.settle()
        pair.client.close()
        pair.settle(reading=False)
        self.assertEqual(len(self.factory), 0)

    def test_aborted(self) -> None:
        """A connection that the server cuts off is over at once."""
        pair = self.pair()
        pair.transport.abortConnection()
        pair.settle()
        self.assertEqual((pair.client.ended, len(self.factory)), (True, 0))

    def test_idle(self) -> None:
        """A connection on which nothing happens is closed, and one that beats is not."""
        idle, beating = self.pair(), self.pair()
        for _ in range(7):
            beating.client.send(BEAT)
            beating.settle()
            self.sockets.pump([1.0] * 10)
        idle.settle()
        self.assertEqual((idle.client.ended, beating.client.ended), (True, False))
        self.assertEqual(self.factory.idle_closed, 1)

    def test_slow(self) -> None:
        """A request has to arrive in time, however its pieces come."""
        pair = self.pair()
        for byte in encode_request("POST", "/v1/hbstates", b"{}" + b" " * 100)[:20]:
            pair.client.send(bytes([byte]))
            pair.settle()
            self.sockets.advance(1.0)
        self.sockets.pump([1.0] * 2)
        pair.settle()
        self.assertTrue(pair.client.ended)
        self.assertEqual(self.refused("slow"), 1)


class TLSTests(PlainTests):
    """The same over TLS."""

    tls = True

    def test_closing(self) -> None:
        """The end of the connection is said by TLS, and the client may take its time to hang up."""
        pair = self.pair()
        pair.protocol.close()
        pair.settle()
        self.assertTrue(pair.client.notified and pair.client.ended)
        self.assertEqual(pair.protocol.state, State.CLOSING)
        pair.client.send(BEAT)  # is discarded
        pair.settle()
        self.assertEqual(self.service.tracker.beats, 0)
        pair.client.finish()
        pair.settle()
        self.assertEqual(len(self.factory), 0)

    def test_never_hangs_up(self) -> None:
        """A client that does not hang up is cut off."""
        pair = self.pair()
        pair.protocol.close()
        pair.settle()
        self.sockets.pump([1.0] * 16)
        pair.settle()
        self.assertEqual(len(self.factory), 0)

    def test_finished_without_notice(self) -> None:
        """The end of the stream is the end of the client's sending, also without TLS's own."""
        for request in (BEAT, GET):
            pair = self.pair()
            pair.client.send(request)
            PlainClient.finish(pair.client)
            pair.settle()
            self.assertEqual(len(self.statuses(pair)), 1)
        self.assertEqual(len(self.factory), 0)

    def test_paused_within_a_record(self) -> None:
        """What OpenSSL holds of a record is read on when reading goes on, without an event."""
        pair = self.pair()
        pair.client.send(BEAT * 60)  # one record, and more than is read at once
        pair.transport.doRead()
        self.assertEqual(pair.protocol.state, State.QUEUED)
        self.assertGreater(pair.transport._tls.pending(), 0)
        pair.settle()
        self.assertEqual(self.statuses(pair), [200] * 60)

    def waiting_pair(self) -> Pair:
        """Connect while there are no turns left, so that the handshake has to wait for one."""
        while self.factory.scheduler.enter():
            pass
        pair = Pair(self.sockets, self.factory, TLSClient, self.served)
        self.addCleanup(pair.close)
        pair.client.pump()
        pair.transport.doRead()
        return pair

    def test_handshakes_take_turns(self) -> None:
        """While there are no turns left in a round, handshakes wait for one; heartbeats do not."""
        node = self.pair()
        pair = self.waiting_pair()
        self.assertEqual(pair.protocol.state, State.WAITING)
        self.assertEqual(len(self.factory.scheduler._strangers), 1)
        self.assertNotIn(pair.transport, self.sockets.getReaders())
        self.assertFalse(pair.client.shaken_hands)
        node.client.send(BEAT)
        node.transport.doRead()
        node.client.pump()
        self.assertEqual(self.statuses(node), [200])
        pair.settle()
        self.assertTrue(pair.client.shaken_hands)

    def test_one_turn_for_a_handshake(self) -> None:
        """Once the signature is made, the rest of a TLS 1.3 handshake needs no turn; not sooner."""
        enter = self.factory.scheduler.enter
        for cut in (0, 50):
            pair = Pair(self.sockets, self.factory, TLSClient, self.served)
            self.addCleanup(pair.close)
            with contextlib.suppress(SSL.WantReadError):
                pair.client.tls.do_handshake()
            hello = pair.client.records()
            if cut:
                pair.client.transmit(hello[:cut])
                pair.transport.doRead()
            self.assertEqual(pair.protocol.state, State.HANDSHAKE)
            while enter():
                pass
            pair.client.transmit(hello[cut:])
            pair.transport.doRead()
            self.assertEqual(pair.protocol.state, State.WAITING)
            self.sockets.advance(0)
            while enter():
                pass
            pair.client.pump()
            self.assertTrue(pair.client.shaken_hands)
            pair.transport.doRead()
            self.assertEqual(pair.protocol.state, State.NEW)
            self.sockets.advance(0)

    def test_waited_too_long(self) -> None:
        """A handshake that has waited for so long that its client may give up is not begun."""
        pair = self.waiting_pair()
        self.factory.now += 2
        self.sockets.rightNow += 2
        pair.transport._tls.do_handshake = None  # which would fail
        pair.settle()
        self.assertEqual((len(self.factory), pair.client.shaken_hands), (0, False))
        self.assertEqual(self.factory.scheduler.waiting_long(), {None})

    def test_gone_before_the_handshake(self) -> None:
        """A client that hangs up while its handshake waits for a turn costs no handshake."""
        pair = self.waiting_pair()
        PlainClient.finish(pair.client)
        pair.transport._tls.do_handshake = None  # which would fail
        self.factory.now += 1
        pair.settle()
        self.assertEqual(len(self.factory), 0)
        # It may have had a heartbeat to send.
        self.assertEqual(self.factory.scheduler.waiting_long(), {None})

    def test_only_connected(self) -> None:
        """A client that connects and sends nothing, or plain HTTP, costs no TLS connection."""
        made: list[object] = []
        self.served.accept = made.append  # type: ignore[method-assign, assignment]  # to see it
        for data in (b"", BEAT):
            pair = self.pair(PlainClient)
            pair.client.send(data)
            pair.settle()
        self.assertEqual(made, [])

    def test_plain_http(self) -> None:
        """Plain HTTP is answered with a 400 that says what is wrong, and counted."""
        for request in (BEAT, GET, head("DELETE /v1/x"), head("PROPFIND /")):
            pair = self.pair(PlainClient)
            pair.client.send(request)
            pair.settle()
            (answer,) = parse_responses(pair.client.received)
            self.assertEqual(answer.status, 400)
            self.assertIn("HTTPS", answer.json()["detail"])
            self.assertTrue(pair.client.ended)
            pair.client.finish()
            pair.settle()
        self.assertEqual((self.refused("tls"), len(self.factory)), (4, 0))
        self.assertEqual(self.service.tracker.beats, 0)

    def test_garbage(self) -> None:
        """What is neither TLS nor HTTP ends the connection, and is counted."""
        for garbage in (
            b"\x00" * 100,
            b"\x16\x03\x01\xff\xff" + b"x" * 100,
            b"get /" * 20,
            b"\x80\x2e\x01",
        ):
            pair = self.pair(PlainClient)
            pair.client.send(garbage)
            pair.client.finish()
            pair.settle()
            self.assertTrue(pair.client.ended or pair.client.reset)
        self.assertEqual(len(self.factory), 0)
        self.assertGreaterEqual(self.refused("tls"), 2)

    def test_half_a_handshake(self) -> None:
        """A handshake that stops half-way is cut off when a request would be, and counted."""
        pair = self.pair(PlainClient)
        client = SSL.Connection(client_context(), None)
        client.set_connect_state()
        with self.assertRaises(SSL.WantReadError):
            client.do_handshake()
        hello = client.bio_read(SIZE := 65536)
        pair.client.send(hello[: len(hello) // 2])
        pair.settle()
        self.assertEqual(pair.protocol.state, State.HANDSHAKE)
        self.sockets.pump([1.0] * 22)
        pair.settle()
        self.assertEqual((len(self.factory), self.refused("tls")), (0, 1))
        self.assertLess(len(hello), SIZE)

    def test_no_common_version(self) -> None:
        """A client of an older TLS is told so, and counted."""
        context = client_context(versions=(SSL.TLS1_1_VERSION, SSL.TLS1_1_VERSION))
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        pair = self.pair(lambda sock: TLSClient(sock, context))
        self.assertIsNotNone(pair.client.error)
        self.assertEqual(self.refused("tls"), 1)

    def test_alpn(self) -> None:
        """HTTP/1.1 is what is agreed on, also with a client that would rather speak HTTP/2."""
        context = client_context()
        context.set_alpn_protos([b"h2", b"http/1.1"])
        pair = self.pair(lambda sock: TLSClient(sock, context))
        self.assertEqual(pair.client.tls.get_alpn_proto_negotiated(), b"http/1.1")
        pair.client.send(BEAT)
        pair.settle()
        self.assertEqual(self.statuses(pair), [200])

    def test_alpn_of_others(self) -> None:
        """A client that offers other protocols alone is promised none of them, and answered."""
        context = client_context()
        context.set_alpn_protos([b"h2", b"spdy/3"])
        pair = self.pair(lambda sock: TLSClient(sock, context))
        self.assertEqual(pair.client.tls.get_alpn_proto_negotiated(), b"")
        pair.client.send(BEAT)
        pair.settle()
        self.assertEqual(self.statuses(pair), [200])

    def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken."""
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            context = client_context(versions=(version, version))
            pair = self.pair(lambda sock, context=context: TLSClient(sock, context))
            pair.client.send(BEAT + GET)
            pair.settle()
            self.assertEqual(self.statuses(pair), [200, 204])

    def test_renegotiation(self) -> None:
        """A client that wants to renegotiate TLS 1.2 is refused; OpenSSL's hangs up then."""
        context = client_context(versions=(SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION))
        pair = self.pair(lambda sock: TLSClient(sock, context))
        pair.client.tls.renegotiate()
        with self.assertRaises(SSL.WantReadError):
            pair.client.tls.do_handshake()
        pair.client.flush()
        pair.settle()
        self.assertIn("no renegotiation", str(pair.client.error))
        self.assertEqual(self.refused("tls"), 0)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.integers(1, 400), max_size=30), st.lists(st.integers(1, 600), max_size=30))
    def test_split_records(self, cuts: list[int], pieces: list[int]) -> None:
        """However requests are divided into records, and these into segments, all are answered."""
        pair = self.pair()
        data = (BEAT * 3 + GET) * 5
        for size in [*cuts, len(data)]:
            if data:
                pair.client.tls.sendall(data[:size])
                data = data[size:]
        records = pair.client.records()
        for size in [*pieces, len(records)]:
            if records:
                pair.client.socket.sendall(records[:size])
                pair.settle()
                records = records[size:]
        pair.settle()
        self.assertEqual(self.statuses(pair), [200, 200, 200, 204] * 5)


class ClientCertificateTests(NotedTestCase):
    """Clients that present certificates."""

    def present(self, identity: Identity | None) -> Pair:
        """Connect with a certificate, and send a heartbeat."""
        pair = self.pair(lambda sock: TLSClient(sock, client_context(identity)))
        if pair.client.error is None and not pair.client.ended:
            pair.client.send(BEAT)
        pair.settle()
        return pair

    def test_presented(self) -> None:
        """What a client has presented can be asked for, once the handshake is complete."""
        identity = make_identity("x0c0s0b0n0", self.authority)
        pair = self.present(identity)
        self.assertEqual(self.statuses(pair), [200])
        found = pair.transport.getPeerCertificate()
        self.assertEqual(found.to_cryptography(), identity.chain[0])
        self.assertIsNone(self.present(None).transport.getPeerCertificate())

    def test_refused(self) -> None:
        """A certificate that is no good ends the handshake, and it is noted why."""
        for identity, words in (
            (make_identity("n", self.authority, days=-1.0), "has expired"),
            (make_identity("n", make_identity("somebody")), "from an unknown authority"),
            (make_identity("n", self.authority, begins=0.5), "not valid yet"),
        ):
            pair = self.present(identity)
            self.assertEqual(self.statuses(pair), [])
            address, reason, detail = self.notes[-1]
            self.assertEqual((address, reason), (pair.transport.getPeer(), "tls"))
            self.assertIn(words, detail)
        self.assertEqual(len(self.notes), 3)
