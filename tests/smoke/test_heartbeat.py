"""The heartbeat there and back does no harm, whatever happens on the way."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.ctl.client import Answer
from hbtd.ctl.failures import Busy, Failure, Refused, Unreachable
from hbtd.smoke.arguments import CARE
from hbtd.smoke.checking import Checks, Result
from hbtd.smoke.heartbeat import STATUS, Heartbeat

NAME = "x9999c0s0b0n0"


class FakeHbtd:
    """An hbtd that tracks one component, in the time of a clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.state = "unknown"
        self.status = STATUS
        self.last = 0.0
        self.sent: list[str] = []
        """What was asked for and changes something: POST, DELETE."""
        self.away_until = -1.0
        self.too_soon_until = self.broken_until = -1.0
        self.retry_after: str | None = None
        self.operator = True
        self.silences: list[float] = []
        self.takes = True
        self.slow = False
        self.deleting: BaseException | None = None
        self.params: Any = {}

    def get(self, path: str, query: object = None) -> Any:
        """Return the decoded answer to a GET."""
        if path == "/params":
            self.call("GET", path)
            return self.params if query == {"component": NAME} else None
        return self.call("GET", path).json()

    def stream(self, *args: object) -> Any:
        """There are no events."""
        raise NotImplementedError

    def close(self) -> None:
        """There is no connection."""

    def call(
        self,
        method: str,
        path: str,
        query: object = None,
        body: Any = None,
        expected: tuple[int, ...] = (),
    ) -> Answer:
        """Return the answer to a request."""
        now = self.clock.seconds()
        if now < self.away_until:
            raise Unreachable("hbtd can't be reached")
        if now < self.broken_until:
            if method == "GET":
                return Answer(200, {}, b'{"maintenance":[]}')
            raise Failure("hbtd failed: answered 502")
        if method == "GET" and path == f"/components/{NAME}":
            if self.state == "unknown":
                return Answer(404, {}, b"")
            text = f'{{"State":"{self.state}","Status":"{self.status}","Source":"10.0.0.1"}}'
            return Answer(200, {}, text.encode())
        if method == "GET":
            return Answer(200, {}, b'{"Heartbeating":true}')
        if path == "/forget":
            if not self.operator:
                raise Refused("hbtd refuses this")
            assert body == {"XNames": []}
            return Answer(200, {}, b"{}")
        if method == "DELETE" and self.deleting is not None:
            raise self.deleting
        self.sent.append(method)
        if method == "POST":
            if not self.takes:
                raise Busy("No room for another component")
            if self.state == "healthy":
                self.silences.append(now - self.last)
            self.last, self.state = now, "unknown" if self.slow else "healthy"
            return Answer(200, {}, b"")
        if now < self.too_soon_until and self.state != "unknown":
            pause = self.retry_after or str(int(self.too_soon_until - now) + 1)
            return Answer(429, {"Retry-After": pause}, b"")
        self.state = "unknown"
        return Answer(204, {}, b"")


class FakeHSM:
    """HSM's states."""

    def __init__(self, *states: tuple[str, str] | None) -> None:
        self.states = list(states)

    def state(self, xname: str) -> tuple[str, str] | None:
        """Return the next state; the last one lasts."""
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


class HeartbeatTests(SynchronousTestCase):
    """What is sent, and what is not."""

    def setUp(self) -> None:
        """Make an hbtd."""
        self.clock = Clock()
        self.hbtd = FakeHbtd(self.clock)
        self.results: list[Result] = []

    def add(self, result: Result) -> None:
        """Take the outcome of a check."""
        self.results.append(result)

    def end(self, gave_up: str) -> None:
        """There are no more."""

    def run_it(self, hsm: FakeHSM | None = None, **params: str) -> list[str]:
        """Run the checks; return the texts of those that have failed."""
        checks = Checks(self, self.clock.seconds)
        self.hbtd.params = {"Warntime": "10", "Errtime": "30", **params}
        Heartbeat(
            *(self.hbtd, self.hbtd, hsm, NAME, params),
            *(self.clock.seconds, lambda: 1.8e9 + self.clock.seconds(), self.clock.advance),
            patience=15.0,
        ).run(checks)
        return [each.text for each in self.results if not each.ok]

    def test_well(self) -> None:
        """One heartbeat is sent, and the component forgotten."""
        self.assertEqual(self.run_it(), [])
        self.assertEqual(self.hbtd.sent, ["POST", "DELETE"])
        self.assertEqual(len(self.results), 7)

    def test_no_parameters(self) -> None:
        """Nothing is sent unless it is known how often to beat, nor beaten without a pause."""
        for params in ({"Warntime": "0"}, {"Warntime": "nan"}, {"Errtime": "10"}, {"Errtime": ""}):
            self.assertEqual(len(self.run_it(None, **params)), 1, params)
            self.results.clear()
        checks = Checks(self, self.clock.seconds)
        strange: list[Any] = [{}, ["Warntime"]]
        for self.hbtd.params in strange:
            Heartbeat(
                *(self.hbtd, self.hbtd, None, NAME, {}),
                *(self.clock.seconds, self.clock.seconds, self.clock.advance),
                patience=15.0,
            ).run(checks)
        self.assertEqual([each.ok for each in self.results], [False, False])
        self.assertEqual(self.hbtd.sent, [])

    def test_tracked(self) -> None:
        """A component that beats, is warned about or is dead, and not by us, is left alone."""
        for state in ("healthy", "warned", "dead"):
            self.hbtd.state, self.hbtd.status = state, "Kernel Alive"
            (text,) = self.run_it()
            self.assertIn(f"{NAME} is {state}, last heard", text)
            self.assertIn("nothing was sent", text)
            self.results.clear()
        self.assertEqual(self.hbtd.sent, [])

    def test_left_behind(self) -> None:
        """What a killed run has left behind, warned about or dead, is taken up and removed."""
        for state in ("warned", "dead"):
            self.hbtd.state = state
            self.assertEqual(self.run_it(), [])
            self.assertEqual(self.hbtd.state, "unknown")

    def test_another_run(self) -> None:
        """While another smoke test beats as the component, this one does not."""
        self.hbtd.state = "healthy"
        self.assertEqual(len(self.run_it()), 1)
        self.assertEqual(self.hbtd.sent, [])

    def test_no_operator(self) -> None:
        """Who may not have it forgotten sends nothing: it would be declared dead."""
        self.hbtd.operator = False
        self.assertEqual(self.run_it(), ["hbtd refuses this"])
        self.assertEqual(self.hbtd.sent, [])

    def test_too_soon(self) -> None:
        """Forgotten a moment ago, it beats on until it may be again, and is not warned about."""
        self.hbtd.too_soon_until = 29.0
        self.assertEqual(self.run_it(), [])
        self.assertEqual(self.hbtd.state, "unknown")
        self.assertGreaterEqual(len(self.hbtd.silences), 7)
        self.assertLess(max(self.hbtd.silences), 10 / 2)

    def test_any_retry_after(self) -> None:
        """However a server asks to wait, the component beats on, and is forgotten in the end."""
        for text in ("nan", "inf", "-1", "1e999", "-inf", "soon", "0", ""):
            self.hbtd.retry_after = text
            self.hbtd.too_soon_until = self.clock.seconds() + 29.0
            failed = self.run_it()
            self.assertEqual(self.hbtd.state, "unknown", (text, failed))
            self.assertEqual(failed, [], text)
            self.results.clear()
        self.assertLess(max(self.hbtd.silences), 10 / 2)

    def test_gateway(self) -> None:
        """A gateway that fails, or answers for hbtd, is outlasted: the component is forgotten."""
        hbtd = self.hbtd

        class Meanwhile(FakeHSM):
            def state(self, xname: str) -> tuple[str, str] | None:
                hbtd.broken_until = hbtd.clock.seconds() + 8.0
                return ("Ready", "OK")

        self.assertEqual(self.run_it(Meanwhile()), [])
        self.assertEqual(self.hbtd.state, "unknown")

    def test_somebody_else(self) -> None:
        """If a node begins to beat as it, it is not forgotten."""
        hbtd = self.hbtd

        class Meanwhile(FakeHSM):
            def state(self, xname: str) -> tuple[str, str] | None:
                hbtd.status = "Kernel Alive"
                return ("Ready", "OK")

        (text,) = self.run_it(Meanwhile())
        self.assertIn(f"somebody else beats as {NAME}, from 10.0.0.1: it is not forgotten", text)
        self.assertEqual((hbtd.sent, hbtd.state), (["POST"], "healthy"))

    def test_away(self) -> None:
        """While hbtd is away, it is asked again: nothing is left behind."""
        hbtd = self.hbtd

        class Meanwhile(FakeHSM):
            def state(self, xname: str) -> tuple[str, str] | None:
                hbtd.away_until = hbtd.clock.seconds() + 12
                return ("Ready", "OK")

        self.assertEqual(self.run_it(Meanwhile()), [])
        self.assertEqual(hbtd.state, "unknown")

    def test_gone(self) -> None:
        """If hbtd stays away, what is left behind is named, with what removes it."""
        hbtd = self.hbtd

        class Meanwhile(FakeHSM):
            def state(self, xname: str) -> tuple[str, str] | None:
                hbtd.away_until = 1e9
                return ("Ready", "OK")

        (text,) = self.run_it(Meanwhile())
        self.assertIn(f"{NAME} is left behind, and will be declared dead: hbtd can't", text)
        self.assertIn(f"hbtctl forget {NAME}", text)
        self.assertLess(self.clock.seconds(), 60)

    def test_no_room(self) -> None:
        """If the heartbeat is refused, nothing is waited for, and nothing left behind."""
        self.hbtd.takes = False
        self.assertEqual(self.run_it(), ["No room for another component"])
        self.assertEqual(self.hbtd.sent, ["POST", "DELETE"])

    def test_never_seen(self) -> None:
        """A heartbeat that is taken, but not shown, is a failure after a while."""
        self.hbtd.slow = True
        self.assertEqual(self.run_it(), ["it is not shown as healthy after 15 s"])

    def test_interrupted(self) -> None:
        """Ctrl-C, while HSM is waited for, has it forgotten first."""

        class Meanwhile(FakeHSM):
            def state(self, xname: str) -> tuple[str, str] | None:
                raise KeyboardInterrupt

        self.assertRaises(KeyboardInterrupt, self.run_it, Meanwhile())
        self.assertEqual((self.hbtd.sent, self.hbtd.state), (["POST", "DELETE"], "unknown"))

    def test_not_forgotten(self) -> None:
        """Interrupted once more, or refused in the end, it is left behind, as the help says."""
        hbtd, said = self.hbtd, " ".join(CARE.split())

        class Meanwhile(FakeHSM):
            def state(self, xname: str) -> tuple[str, str] | None:
                raise KeyboardInterrupt

        hbtd.deleting = KeyboardInterrupt()
        self.assertRaises(KeyboardInterrupt, self.run_it, Meanwhile())
        self.assertEqual((hbtd.sent, hbtd.state), (["POST"], "healthy"))
        hbtd.state, hbtd.deleting = "unknown", Refused("hbtd refuses this")
        self.assertEqual(self.run_it(), ["hbtd refuses this"])
        self.assertEqual((hbtd.sent, hbtd.state), (["POST", "POST"], "healthy"))
        self.assertIn("killed or interrupted once more, or if hbtd refuses to forget it", said)
        self.results.clear()
        hbtd.state, hbtd.deleting = "dead", None
        self.assertEqual(self.run_it(), [])
        self.assertEqual(hbtd.state, "unknown")
        self.assertIn("unless an earlier run has left it behind", said)

    def test_hsm(self) -> None:
        """HSM has to show it as ready; it beats while HSM is waited for."""
        off = ("Off", "OK")
        self.assertEqual(self.run_it(FakeHSM(*[off] * 40, ("Ready", "OK"))), [])
        self.assertGreater(len(self.hbtd.silences), 1)
        self.assertEqual(self.run_it(FakeHSM(off)), ["HSM shows Off OK after 15 s"])
        self.results.clear()
        (text,) = self.run_it(FakeHSM(None))
        self.assertIn(f"HSM knows no {NAME}: give the name", text)
        self.results.clear()
        self.assertEqual(self.run_it(FakeHSM(None), Nosm="1"), [])
