"""The stand-in of the original hbtd does what the original does."""

import json
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.etcd.messages import decode_bytes
from hbtd.tracker.transitions import Transition
from tests.support import original_hbtd
from tests.support.etcd_memory import MemoryEtcd
from tests.support.original_hbtd import OriginalHbtd

STARTED, WARNED, RESTARTED, DIED = Transition

RECORDING = json.loads(Path(original_hbtd.__file__).with_name("original_etcd.json").read_text())
BEGAN = 1_795_637_926.0
"""The Unix time of the recording's second 0."""

KILLED, SECOND_ENDED = 36.0, 84.0
"""When the first original of the recording was killed, and the second ended."""


class RecordingTests(SynchronousTestCase):
    """The recording of the original, played to the stand-in."""

    def setUp(self) -> None:
        """Begin with an empty etcd."""
        self.clock = Clock()
        self.etcd = MemoryEtcd(self.clock.seconds, latency=0.0005)
        self.told: list[tuple[float, str, str]] = []
        self.running: dict[int, OriginalHbtd] = {}
        self.times: list[float] = []

    def test_recording(self) -> None:
        """It writes the same to etcd, and tells HSM the same, in the same order and then."""
        records: dict[str, tuple[str, str]] = {}
        for event in RECORDING["events"]:
            key, value, at = event["key"], event["value"], event["at"]
            if key.startswith("hbtd_lifekey-") and value is not None:
                self.advance_to(at)
                self.start(int(key.removeprefix("hbtd_lifekey-")))
            elif key == "params":
                self.advance_to(at)
                params = json.loads(value)
                self.first.warntime = int(params["Warntime"])
                self.run_now(self.first.patch(params))
            elif key.startswith("x") and value is not None:
                fields = json.loads(value)
                heard, warning = fields["Last_hb_rcv_time"], fields["Had_warning"]
                if heard != records.get(key, ("", ""))[0] and warning != "WG":
                    self.advance_to(at)
                    second = event["while"] == "x1c0s0b0n2 starts at the second"
                    original = self.second if second else self.first
                    sent = fields["Last_hb_timestamp"], fields["Last_hb_status"]
                    self.run_now(original.beat(key, *sent))
                records[key] = heard, warning
        self.advance_to(RECORDING["told_to_hsm"][-1]["at"] + 1.0)
        self.compare()

    def compare(self) -> None:
        """Compare what was written and told with the recording."""
        expected = [(each["type"], each["key"], each["value"]) for each in RECORDING["events"]]
        written: list[tuple[str, str, str | None]] = []
        for _, changes in self.etcd.history:
            for change in changes:
                key = decode_bytes(change["kv"]["key"]).decode()
                value = (
                    decode_bytes(change["kv"]["value"]).decode()
                    if "value" in change["kv"]
                    else None
                )
                if not key.startswith("hbtd_dist_lock"):
                    written.append((change.get("type", "PUT"), key, value))
        self.assertEqual(written, expected)
        told = [(each["component"], each["message"]) for each in RECORDING["told_to_hsm"]]
        self.assertEqual([(name, message) for _, name, message in self.told], told)
        for (at, name, _), each in zip(self.told, RECORDING["told_to_hsm"], strict=True):
            self.assertLess(abs(at - each["at"]), 0.1, name)

    @property
    def first(self) -> OriginalHbtd:
        """The original that started first of those that run."""
        return next(iter(self.running.values()))

    @property
    def second(self) -> OriginalHbtd:
        """The original that started last."""
        return list(self.running.values())[-1]

    def start(self, number: int) -> None:
        """Start an original with this number."""
        self.running[number] = OriginalHbtd(
            self.etcd.client(self.clock),
            self.clock,
            lambda: BEGAN + self.clock.seconds(),
            self.tell,
            number,
            warntime=6,
            errtime=14,
            interval=2,
        )
        self.run_now(self.running[number].start())

    def tell(self, transition: Transition, names: list[str]) -> None:
        """Note what HSM is told."""
        self.told += [(self.clock.seconds(), name, transition.message) for name in names]

    def run_now(self, work: Any) -> None:
        """Have something done that takes a few messages to etcd."""
        done = Deferred.fromCoroutine(work)
        self.pump(0.02)
        self.successResultOf(done)

    def advance_to(self, at: float) -> None:
        """Advance the clock, and end those that ended until then."""
        for ends in (KILLED, SECOND_ENDED):
            if self.clock.seconds() < ends <= at:
                self.pump(ends - self.clock.seconds())
                number = list(self.running)[0 if ends == KILLED else -1]
                self.running.pop(number).kill()
        # What was recorded is the end of a step that takes a few milliseconds.
        self.pump(max(at - 0.004 - self.clock.seconds(), 0.0))

    def pump(self, seconds: float) -> None:
        """Advance the clock from one delayed call to the next."""
        end = self.clock.seconds() + seconds
        while (now := self.clock.seconds()) < end:
            due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end)
            self.clock.advance(max(0.0, min(due, end, now + 0.5) - now))
            self.etcd.advance()
