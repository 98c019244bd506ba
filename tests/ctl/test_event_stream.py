"""Server-Sent Events are read as the HTML standard says."""

from hypothesis import given
from hypothesis.strategies import binary, integers, lists
from twisted.trial.unittest import SynchronousTestCase

from hbtd.ctl.event_stream import Event, EventParser


class EventParserTests(SynchronousTestCase):
    """The standard's rules and examples."""

    def parsed(self, stream: bytes) -> list[Event]:
        """Return the events of a whole stream."""
        return EventParser().feed(stream)

    def test_event(self) -> None:
        """An event has a type, data and an ID."""
        stream = b'id: 7\nevent: transition\ndata: {"a":1}\n\n'
        self.assertEqual(self.parsed(stream), [Event("transition", '{"a":1}', "7")])

    def test_multiple_lines(self) -> None:
        """Several lines of data are joined by line ends."""
        self.assertEqual(self.parsed(b"data: YHOO\ndata: +2\ndata: 10\n\n"), [
            Event("message", "YHOO\n+2\n10", "")
        ])  # fmt: skip

    def test_example_of_ids(self) -> None:
        """The standard's second example: a comment, an ID that is kept, and one that is reset."""
        stream = (
            b": test stream\n\ndata: first event\nid: 1\n\n"
            b"data:second event\nid\n\ndata:  third event\n\n"
        )
        self.assertEqual(
            self.parsed(stream),
            [
                Event("message", "first event", "1"),
                Event("message", "second event", ""),
                Event("message", " third event", ""),
            ],
        )

    def test_example_of_empty_data(self) -> None:
        """The standard's third example: empty data are an event, what is incomplete is none."""
        stream = b"data\n\ndata\ndata\n\ndata:"
        self.assertEqual([e.data for e in self.parsed(stream)], ["", "\n"])

    def test_no_data(self) -> None:
        """An event without data is none, but its ID counts."""
        parser = EventParser()
        self.assertEqual(
            parser.feed(b"event: x\nid: 9\n\ndata: y\n\n"), [Event("message", "y", "9")]
        )

    def test_id_with_nul(self) -> None:
        """An ID with a NUL is ignored."""
        self.assertEqual(self.parsed(b"id: 1\0\ndata: y\n\n"), [Event("message", "y", "")])

    def test_incomplete_id(self) -> None:
        """The ID of an event that broke off is not the one to go on from."""
        parser = EventParser("3")
        parser.feed(b"id: 4\ndata: x\n")
        self.assertEqual(parser.last_id, "3")

    def test_mark(self) -> None:
        """A byte order mark at the beginning is ignored, and so is nonsense."""
        self.assertEqual(
            self.parsed(b"\xef\xbb\xbfdata: x\nnonsense: y\nz\n\n"), [Event("message", "x", "")]
        )

    def test_too_long(self) -> None:
        """A line, or data, without end is an error."""
        with self.assertRaises(ValueError):
            self.parsed(b"data: " + b"x" * (1 << 21))
        with self.assertRaises(ValueError):
            self.parsed(b"data: xxxxxxxxxxxxxxxxxxxx\n" * 60_000)
        self.assertEqual(len(self.parsed((b"data: " + b"x" * 1000 + b"\n\n") * 2000)), 2000)

    def test_end_in_halves(self) -> None:
        """A line end whose two bytes come one by one is one line end."""
        parser = EventParser()
        self.assertEqual(parser.feed(b"data: a\r"), [])
        self.assertEqual(parser.feed(b"\ndata: b\r"), [])
        self.assertEqual(parser.feed(b"\n\r\n"), [Event("message", "a\nb", "")])

    @given(lists(integers(1, 40)), integers(0, 2))
    def test_chunks(self, sizes: list[int], ends: int) -> None:
        """However the bytes arrive, and whatever ends the lines, the events are the same."""
        end = (b"\n", b"\r\n", b"\r")[ends]
        lines = (
            b":",
            b"id: 1",
            "data: ä".encode(),
            b"",
            b"event: x",
            b"data: b",
            b"data:",
            b"",
            b":",
        )
        stream = b"".join(line + end for line in lines)
        parser, events = EventParser(), []
        for size in sizes:
            events += parser.feed(stream[:size])
            stream = stream[size:]
        events += parser.feed(stream)
        self.assertEqual(events, [Event("message", "ä", "1"), Event("x", "b\n", "1")])

    @given(binary())
    def test_any(self, stream: bytes) -> None:
        """No stream breaks the parser."""
        self.parsed(stream)
