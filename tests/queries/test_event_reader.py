"""Readers of events that may no longer read."""

from functools import partial

from tests.support.event_hub_memory import Client, HubTestCase


class PermissionTests(HubTestCase):
    """Readers are asked for, again and again, whether they may read."""

    def test_may_no_longer_read(self) -> None:
        """Who may no longer read is sent nothing from 15 s later on; one that is paused is cut."""
        self.hub.begin(0)
        permitted = {"idle": True, "busy": True, "paused": True, "other": True}
        clients = {
            name: Client(self.hub, may_read=partial(permitted.__getitem__, name))
            for name in permitted
        }
        clients["paused"].reader.pauseProducing()
        self.clock.advance(15)
        self.go_round()
        self.assertEqual(len(self.hub.readers), 4)
        permitted |= {"idle": False, "busy": False, "paused": False}
        self.clock.advance(15)
        self.hub.tell(self.log("x1"))
        self.go_round()
        self.assertEqual(list(self.hub.readers), [clients["other"].reader])
        for name, ended, dropped, numbers in (
            ("idle", [b""], 0, []),
            ("busy", [b""], 0, []),
            ("paused", [], 1, []),
            ("other", [], 0, [1]),
        ):
            client = clients[name]
            found = (client.ended, client.dropped, client.numbers)
            self.assertEqual(found, (ended, dropped, numbers), name)
        self.assertEqual(self.hub.dropped_count, 0)

    def test_may_no_longer_read_the_past(self) -> None:
        """A reader that waits for earlier events is ended, too, once it may no longer read."""
        self.log(*["x1"] * 5)
        self.store.failing = True
        self.hub.begin(5)
        client = Client(self.hub, after=0, may_read=lambda: False)
        self.clock.advance(15)
        self.go_round()
        self.assertEqual(client.ended, [b""])
        self.store.failing = False
        self.clock.advance(15)
        self.go_round()
        self.assertEqual((client.written, self.clock.getDelayedCalls()), ([], []))

    def test_checks_in_short_turns(self) -> None:
        """Whether readers may still read is asked in turns of 2 ms, however many they are."""
        self.hub.begin(0)
        asked: list[int] = []

        def may_read() -> bool:
            asked.append(1)
            return True

        for _ in range(50):
            Client(self.hub, may_read=may_read)
        self.go_round()
        self.clock.advance(15)
        self.clock.step = 0.0005
        while len(asked) < 50:
            before = len(asked)
            (call,) = (c for c in self.clock.calls if c.func == self.hub._pump)
            call.cancel()
            self.hub._pump()
            self.assertLessEqual(len(asked) - before, 5)
