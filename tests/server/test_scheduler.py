"""One client's many or large requests don't burden the others."""

from tests.support.http_memory import (
    APITestCase,
    Connection,
    SlowReader,
    encode_request,
    parse_responses,
)


class FairnessTests(APITestCase):
    """What a client may ask for at once, and what it costs."""

    def test_many_at_once(self) -> None:
        """Of many pipelined requests some are answered at once, the others later."""
        sent = 1000
        connection = Connection(self.factory)
        connection._protocol.dataReceived(encode_request("GET", "/v1/liveness") * sent)
        at_once = len(parse_responses(connection.received()))
        self.assertLessEqual(at_once, 250)
        self.reactor.advance(0)
        self.assertEqual(len(parse_responses(connection.received())), sent - at_once)
        connection.hang_up()

    def test_gone_while_it_waits(self) -> None:
        """A client that hangs up before its turn costs nothing more, and leaves no error."""
        connection = Connection(self.factory)
        connection._protocol.dataReceived(encode_request("GET", "/v1/liveness") * 300)
        connection.hang_up()
        self.reactor.advance(0)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_nobody_reads(self) -> None:
        """Large answers are not piled up for a client that doesn't read them."""
        transport = SlowReader()
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(encode_request("GET", "/v1/openapi.json") * 50)
        for _ in range(100):
            self.reactor.advance(0)
        self.assertLess(len(transport.value()), 200 * 1024)
        # As soon as it reads, it gets all of them.
        answers = b""
        for _ in range(1000):
            answers += transport.value()
            transport.clear()
            if transport.producer is not None:
                transport.producer.resumeProducing()
            self.reactor.advance(0)
        responses = parse_responses(answers)
        self.assertEqual([response.status for response in responses], [200] * 50)
        self.assertEqual(len({response.body for response in responses}), 1)

    def test_too_many_names(self) -> None:
        """More names than can be looked up in passing are refused."""
        answer = self.request("POST", "/v1/hbstates", {"XNames": ["x0"] * 200_001})
        self.assert_problem(
            answer, 413, "More than 200000 names asked for at once", "/hmi/v1/hbstates"
        )
