"""What an operator reads about handshakes that fail."""

from typing import Any

from OpenSSL import SSL, crypto

from tests.support.certificates import make_identity
from tests.support.http_memory import head
from tests.support.socket_pairs import Pair, PlainClient, TLSClient
from tests.support.transports import NotedTestCase, client_context

OLD = (SSL.TLS1_1_VERSION, SSL.TLS1_1_VERSION)
NOT_SO_OLD = (SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION)


class ReasonsTests(NotedTestCase):
    """The reason is noted in words, once for each handshake."""

    def noted(self, pair: Pair) -> str:
        """Return what was noted of a connection, the only one so far."""
        pair.settle()
        ((_, reason, detail),) = self.notes
        self.notes.clear()
        self.assertEqual(reason, "tls")
        return str(detail).removeprefix("The TLS handshake failed: ")

    def shake_hands(self, context: Any) -> str:
        """Return what was noted of a handshake with a client of a context."""
        return self.noted(self.pair(lambda sock: TLSClient(sock, context)))

    def say(self, data: bytes) -> str:
        """Return what was noted of a client that sends bytes, and hangs up."""
        pair = self.pair(PlainClient)
        pair.client.send(data)
        pair.client.finish()
        return self.noted(pair)

    def test_nothing_in_common(self) -> None:
        """Versions and cipher suites that are not served are told apart."""
        context = client_context(versions=OLD)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        self.assertEqual(
            self.shake_hands(context), "the client offers no TLS version that is served"
        )
        context = client_context(versions=NOT_SO_OLD)
        context.set_cipher_list(b"AES128-SHA:AES256-GCM-SHA384")
        self.assertEqual(
            self.shake_hands(context), "the client offers no cipher suite that is served"
        )

    def test_no_tls(self) -> None:
        """Plain HTTP is called that, and so is what is neither."""
        self.assertEqual(self.say(head("GET /v1/liveness")), "plain HTTP was sent to the TLS port")
        self.assertEqual(self.say(b"\x00" * 100), "what was sent is no TLS")
        self.assertEqual(self.say(b"SSH-2.0-OpenSSH_9.2\r\n"), "what was sent is no TLS")

    def test_ended_by_the_client(self) -> None:
        """A client that does not trust hbtd gives its reason; one that hangs up gives none."""
        context = client_context()
        context.set_verify(SSL.VERIFY_PEER, lambda *_: False)
        self.assertRegex(self.shake_hands(context), "^the client ended the handshake: unknown ca$")
        self.assertEqual(self.say(b"\x16\x03"), "the client hung up")

    def test_certificates(self) -> None:
        """What is wrong with the certificate of a client is said."""
        stranger = make_identity("stranger")
        for identity, words in (
            (make_identity("n", self.authority, days=-1.0), "has expired"),
            (make_identity("n", self.authority, begins=0.5), "is not valid yet"),
            (make_identity("n"), "is self-signed"),
        ):
            said = self.shake_hands(client_context(identity))
            self.assertEqual(said, f"the client's certificate {words}")
        for with_chain in (False, True):
            context = client_context(make_identity("n", stranger))
            if with_chain:
                context.add_extra_chain_cert(crypto.X509.from_cryptography(stranger.chain[0]))
            said = self.shake_hands(context)
            self.assertEqual(said, "the client's certificate is from an unknown authority")

    def test_slow(self) -> None:
        """A handshake that never ends is noted with the time that it had."""
        pair = self.pair(PlainClient)
        pair.client.send(b"\x16")
        pair.settle()
        self.sockets.pump([1.0] * 22)
        self.assertEqual(self.noted(pair), "The TLS handshake took more than 20 s")
