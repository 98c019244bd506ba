"""The event hub writes to all readers what they ask for, and waits for none."""

import gc
from weakref import ref

from hbtd.store.past import EVERYTHING, Selection
from tests.support.event_hub_memory import Client, HubTestCase


class NewReaderTests(HubTestCase):
    """Readers that begin at the present."""

    def test_from_now_on(self) -> None:
        """Each reader gets each event once, in order, beginning when it has come."""
        self.log("x1")
        self.hub.begin(1)
        self.tell("x2")
        first = Client(self.hub)
        self.tell("x3", "x4")
        second = Client(self.hub)
        self.tell("x5")
        self.assertEqual((first.numbers, second.numbers), ([3, 4, 5], [5]))
        self.assertEqual(first.stream.last_event_id, "5")

    def test_ahead_of_the_hub(self) -> None:
        """What a reader was sent from the log, before the hub was told of it, is not sent again."""
        self.log("x1", "x2")
        self.hub.begin(2)
        ahead = self.log("x3", "x4", "x3")
        hub_only = Client(self.hub, after=2)
        clients = [Client(self.hub, each, after=1) for each in (EVERYTHING, Selection(None, "x3"))]
        self.go_round()
        self.clock.advance(15)
        self.go_round()
        self.assertEqual([each.stream.last_event_id for each in clients], ["5", "5"])
        for entry in ahead:
            self.hub.tell([entry])
            self.go_round()
        self.tell("x3")
        expected = [[3, 4, 5, 6], [2, 3, 4, 5, 6], [3, 5, 6]]
        self.assertEqual([each.numbers for each in (hub_only, *clients)], expected)

    def test_ahead_of_a_short_ring(self) -> None:
        """A reader that is ahead of what the hub has dropped already has missed nothing."""
        self.hub = self.make_hub(2)
        self.log("x1", "x2")
        self.hub.begin(2)
        ahead = self.log("x3", "x4", "x5", "x6")
        client = Client(self.hub, after=1)
        self.go_round()
        for entry in ahead:
            self.hub.tell([entry])  # without a moment to write it
        self.go_round()
        self.assertEqual((client.numbers, client.missed), ([2, 3, 4, 5, 6], []))

    def test_left_before_the_log_is_known(self) -> None:
        """Nothing is left of those who come and go before the log is known."""
        references = []
        for after in (None, 1) * 5:
            client = Client(self.hub, after=after)
            references.append(ref(client.reader))
            self.hub.leave(client.reader)
            del client
        gc.collect()
        self.assertEqual([each() for each in references], [None] * 10)

    def test_before_the_log_is_known(self) -> None:
        """One who comes before the log is known gets all that is new from then on."""
        client = Client(self.hub)
        self.go_round()
        self.log("x1", "x2")
        self.hub.begin(2)
        self.tell("x3")
        self.assertEqual(client.numbers, [3])

    def test_same_bytes(self) -> None:
        """All readers of everything share the bytes of their events."""
        self.hub.begin(0)
        clients = [Client(self.hub) for _ in range(3)]
        self.tell(*(f"x{i}" for i in range(200)))
        for client in clients:
            self.assertEqual(client.numbers, list(range(1, 201)))
            for mine, first in zip(client.written, clients[0].written, strict=True):
                self.assertIs(mine, first)

    def test_selected(self) -> None:
        """A reader of some components gets their events only."""
        self.hub.begin(0)
        client = Client(self.hub, Selection(frozenset({"x1c0", "x2", "x10c0"}), "x1"))
        self.tell("x1", "x1c0", "x2", "x10c0", "x1c0s0", "x1c0")
        self.assertEqual(client.numbers, [2, 6])

    def test_left(self) -> None:
        """One who has left is written to no more, and makes room."""
        self.hub.begin(0)
        client = Client(self.hub)
        self.go_round()
        client.reader.ended.addErrback(lambda _: None)
        client.reader.ended.cancel()
        self.tell("x1")
        self.assertEqual((client.written, len(self.hub.readers)), ([], 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closed(self) -> None:
        """When hbtd stops, all streams end at once, also of those that don't read."""
        self.hub.begin(0)
        clients = [Client(self.hub) for _ in range(3)]
        clients[1].reader.pauseProducing()
        self.hub.close()
        self.assertEqual([each.ended for each in clients], [[b""]] * 3)
        self.assertEqual(len(self.hub.readers), 0)

    def test_joins_after_close(self) -> None:
        """The stream of a reader that joins while hbtd stops ends at once, with nothing left."""
        self.hub.begin(0)
        self.hub.close()
        client = Client(self.hub)
        self.assertEqual((client.ended, client.written), ([b""], []))
        self.assertEqual((len(self.hub.readers), self.clock.getDelayedCalls()), (0, []))

    def test_signs_of_life(self) -> None:
        """An idle reader gets a comment every 15 s, one of few components also a number."""
        self.hub.begin(0)
        client, few = Client(self.hub), Client(self.hub, Selection({"x7"}))
        for _ in range(3):
            self.tell("x1")
            self.clock.advance(14)
            self.clock.advance(1)
            self.go_round()
        self.assertEqual((client.stream.comments, few.stream.comments), (3, 3))
        self.assertEqual((few.numbers, few.stream.last_event_id), ([], "3"))
        self.assertEqual(len(client.stream.events), 3)


class ReturningReaderTests(HubTestCase):
    """Readers that come back with the number of the last event they got."""

    def test_resumed(self) -> None:
        """It gets all later events, from the log and from the ring, each once and in order."""
        self.log(*(f"x{i}" for i in range(1200)))
        self.hub.begin(1200)
        self.tell(*(f"x{i}" for i in range(130)))
        for after in (0, 1, 499, 500, 1199, 1200, 1201, 1263, 1264, 1265, 1329, 1330):
            client = Client(self.hub, after=after)
            self.go_round()
            self.assertEqual(client.numbers, list(range(after + 1, 1331)))
            self.assertEqual(client.missed, [])
            self.tell()
            client.reader.stopProducing()
        few = Client(self.hub, Selection({"x3"}), 2)
        self.go_round()
        self.assertEqual(few.numbers, [4, 1204])

    def test_events_meanwhile(self) -> None:
        """What happens while it is sent the past follows after that."""
        self.log(*(f"x{i}" for i in range(2000)))
        self.hub = self.make_hub(64)
        self.hub.begin(2000)
        client = Client(self.hub, after=10, full=True)
        self.assertEqual(len(client.numbers), 500)
        for i in range(100):
            self.hub.tell(self.log(*(f"x{i}" for _ in range(30))))
        client.reader.resumeProducing()
        self.go_round()
        self.tell("x1")
        self.assertEqual(client.numbers, list(range(11, 5002)))

    def test_too_far_behind(self) -> None:
        """One with more than 10,000 events behind is told so, and goes on at the present."""
        self.log(*(f"x{i % 9}" for i in range(12_001)))
        self.hub.begin(12_001)
        client = Client(self.hub, after=2000)
        almost = Client(self.hub, after=2001)
        self.tell("x1")
        self.assertEqual(client.missed, ['{"After":2000,"UpTo":12001}'])
        self.assertEqual((client.numbers, client.stream.last_event_id), ([12_002], "12002"))
        self.assertEqual((almost.missed, len(almost.numbers)), ([], 10_001))

    def test_trimmed(self) -> None:
        """If entries after its number were trimmed, it is told, and gets those that are left."""
        self.log("x1", "x2", "x1", "x3")
        self.store.trim(1e12, 0, 10**9)
        self.hub.begin(4)
        client, later = Client(self.hub, after=0), Client(self.hub, after=1)
        self.go_round()
        self.assertEqual((client.missed, client.numbers), (['{"After":0,"UpTo":1}'], [2, 3, 4]))
        self.assertEqual((later.missed, later.numbers), ([], [2, 3, 4]))

    def test_beyond_the_log(self) -> None:
        """A number that the log does not have is of another log: events begin at the present."""
        self.log("x1", "x2")
        self.hub.begin(2)
        client = Client(self.hub, after=77)
        self.tell("x3")
        self.assertEqual((client.missed, client.numbers), (['{"After":77,"UpTo":2}'], [3]))

    def test_log_unreadable(self) -> None:
        """While the log can't be read, it waits, and gets everything later."""
        self.log("x1", "x2")
        self.hub.begin(2)
        self.store.failing = True
        client = Client(self.hub, after=0)
        for _ in range(5):
            self.clock.advance(1)
        self.assertEqual(client.numbers, [])
        self.tell("x3")
        self.store.failing = False
        self.clock.advance(1)
        self.go_round()
        self.assertEqual(client.numbers, [1, 2, 3])


class SlowReaderTests(HubTestCase):
    """Readers that don't read fast enough."""

    def test_paused(self) -> None:
        """Nothing is written to one who does not read; once it does, it gets what is kept."""
        self.hub.begin(0)
        client = Client(self.hub)
        client.reader.pauseProducing()
        self.tell("x1", "x2")
        self.assertEqual(client.written, [])
        client.reader.resumeProducing()
        self.go_round()
        self.assertEqual(client.numbers, [1, 2])

    def test_dropped(self) -> None:
        """One who does not read until its events are not kept any more is dropped, others not."""
        self.hub = self.make_hub(128)
        self.hub.begin(0)
        slow, other = Client(self.hub), Client(self.hub)
        slow.reader.pauseProducing()
        for _ in range(10):
            self.tell(*["x1"] * 30)
        self.assertEqual((slow.dropped, self.hub.dropped_count), (1, 1))
        self.assertEqual((other.dropped, len(other.numbers)), (0, 300))
        self.assertEqual(list(self.hub.readers), [other.reader])

    def test_bounded(self) -> None:
        """However many events there are, the hub keeps no more than its ring."""
        self.hub = self.make_hub(1000)
        self.hub.begin(0)
        Client(self.hub).reader.pauseProducing()
        for _ in range(30):
            self.tell(*["x1"] * 500)
        self.assertLess(sum(len(each.numbers) for each in self.hub._blocks.values()), 1065)

    def test_hub_behind(self) -> None:
        """One who reads, but whom the hub could not write to in time, is told what it missed."""
        self.hub = self.make_hub(128)
        self.hub.begin(0)
        client = Client(self.hub)
        self.go_round()
        self.hub.tell(self.log(*["x1"] * 640))  # before the reactor goes round
        self.go_round()
        self.assertEqual(client.dropped, 0)
        self.assertEqual(client.missed, ['{"After":0,"UpTo":512}'])
        self.assertEqual(client.numbers, list(range(513, 641)))

    def test_short_turns(self) -> None:
        """Many events for many readers are written in turns of 2 ms, to all of them alike."""
        self.hub.begin(0)
        clients = [Client(self.hub) for _ in range(50)]
        self.go_round()
        self.clock.step = 0.0005
        self.hub.tell(self.log(*["x1"] * 640))
        turns = 0
        while any(len(each.numbers) < 640 for each in clients):
            before = sum(len(each.written) for each in clients)
            (call,) = (c for c in self.clock.calls if c.func == self.hub._pump)
            call.cancel()
            self.hub._pump()
            turns += 1
            self.assertLessEqual(sum(len(each.written) for each in clients) - before, 5)
            counts = [len(each.written) for each in clients]
            self.assertLessEqual(max(counts) - min(counts), 1)
        self.assertGreater(turns, 90)

    def test_broken_writer(self) -> None:
        """A reader whose writing fails is dropped; others get their events."""
        self.hub.begin(0)
        dropped: list[int] = []

        def broken(data: bytes) -> None:
            raise OSError("gone")

        self.hub.join(EVERYTHING, None, broken, lambda: dropped.append(1))
        other = Client(self.hub)
        self.tell("x1")
        self.assertEqual((dropped, other.numbers), ([1], [1]))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


class AnnouncedTests(HubTestCase):
    """Events that are no entries of the log."""

    def setUp(self) -> None:
        """Begin with an entry."""
        super().setUp()
        self.log("x1")
        self.hub.begin(1)

    def announce(self, name: str) -> None:
        """Announce something about a component."""
        event = b"event: flapping\ndata: %b\n\n" % name.encode()
        self.hub.announce(event, lambda selection: selection.includes(name))
        self.go_round()

    def seen(self, client: Client) -> list[str]:
        """Return what a client was sent: numbers of transitions, and names."""
        return [
            str(each.number) if each.type == "transition" else each.data
            for each in client.stream.events
        ]

    def test_in_order(self) -> None:
        """Each reader gets them once, between the transitions, and goes on after these."""
        everything, one = Client(self.hub), Client(self.hub, Selection(None, "x3"))
        self.announce("x2")
        self.tell("x3", "x2")
        self.announce("x3")
        self.tell("x3")
        self.assertEqual(self.seen(everything), ["x2", "2", "3", "x3", "4"])
        self.assertEqual(self.seen(one), ["2", "x3", "4"])
        self.assertEqual(everything.stream.last_event_id, "4")

    def test_ahead(self) -> None:
        """One who was sent transitions from the log, before the hub was told, gets them, too."""
        client = Client(self.hub, after=0)
        self.log("x2", "x3")
        ahead = Client(self.hub, after=0)
        self.go_round()
        self.announce("x2")
        for each in (client, ahead):
            self.assertEqual(self.seen(each)[-1], "x2")

    def test_later(self) -> None:
        """Who continues after a later transition is not sent what was announced before."""
        self.announce("x1")
        self.tell("x2")
        client = Client(self.hub, after=2)
        self.tell("x3")
        self.assertEqual(self.seen(client), ["3"])

    def test_ring(self) -> None:
        """They take room in the ring, as transitions do, and lose none of these for a reader."""
        self.hub = self.make_hub(4)
        self.hub.begin(1)
        for number in range(20):
            self.announce(f"x{number}")
        self.assertLessEqual(len(self.hub._blocks), 4)
        self.tell("x2")
        client = Client(self.hub, after=1)
        self.go_round()
        self.assertEqual((client.numbers, client.missed), ([2], []))

    def test_before_the_log_is_known(self) -> None:
        """What is announced before readers can be served is sent to nobody."""
        self.hub = self.make_hub()
        client = Client(self.hub)
        self.announce("x1")
        self.assertEqual(self.hub._blocks, {})
        self.hub.begin(1)
        self.tell("x2")
        self.assertEqual(self.seen(client), ["2"])
