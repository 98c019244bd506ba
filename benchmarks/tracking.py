"""The costs of the tracker: the time of a sweep, the bytes of a component, and a mass death.

Run as `python -m benchmarks.tracking memory COUNT` or `... deaths COUNT DYING KV_URL` it measures
in its own process and prints the figures as JSON.
"""

import gc
import json
import random
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall, deferLater, react

from benchmarks.running import SERVER_CORE, on_core
from benchmarks.table import Row
from hbtd.app.service import HbtdService
from hbtd.config.params import Params
from hbtd.simulator.fleet import node_names
from hbtd.tracker.tracker import Tracker

_HOLD = 12
"""Seconds for which deaths wait in the measurement with the guard."""

_TIMESTAMP = "2026-11-23T00:00:00.%06d+00:00"


def measure(largest: int) -> list[Row]:
    """Measure sweeps of up to `largest` components, the memory of a component, and a mass death."""
    rows = []
    for count in (1_000, 100_000, 1_000_000):
        if count > largest:
            break
        figures = _in_own_process("memory", count)
        rows.append(
            Row(
                f"sweep of {count:,} components, none overdue",
                f"median {figures['sweep'] * 1e3:.4f} ms, most {figures['longest'] * 1e3:.3f} ms",
                "flat, < 1 ms",
            )
        )
        if count == largest:
            rows.append(
                Row(f"bytes per component at {count:,}", f"{figures['bytes']:.0f}", "<= 650")
            )
    rows += [_mass_death(10_000, 10_000, "mem:"), _mass_death(largest // 10, 10_000, "mem:")]
    with TemporaryDirectory() as folder:
        rows.append(_mass_death(largest // 10, 10_000, f"sqlite:{folder}/hbtd.sqlite"))
    return [*rows, _mass_death(largest // 10, 10_000, "mem:", _HOLD)]


def _mass_death(components: int, dying: int, store: str, hold: int = 0) -> Row:
    """Measure a mass death; of three, return the one with the shortest block.

    With `hold` the deaths wait for so many seconds, as what dies is a failure domain.
    """
    runs = [_in_own_process("deaths", components, dying, store, hold) for _ in range(3)]
    figures = min(runs, key=lambda each: each["blocked"])
    kind = store.partition(":")[0] + (", --guard=hold" if hold else "")
    return Row(
        f"{dying:,} of {components:,} die at once, store {kind}: reactor blocked for at most",
        f"{figures['blocked'] * 1e3:.1f} ms; busy for {figures['busy'] * 1e3:.1f} ms",
        "< 20 ms",
    )


def _in_own_process(what: str, *options: str | int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.tracking", what, *map(str, options)]
    done = subprocess.run(
        on_core(SERVER_CORE, command), capture_output=True, text=True, timeout=300, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _memory_and_sweep(count: int) -> dict[str, float]:
    names = node_names(count)
    before = _resident()
    # The tracker holds the only copy of each text, as when they come from requests.
    tracker = Tracker(note_changes=True)
    at = 0.0
    while names:
        name = names.pop()
        _beat_with_all(tracker, name, at, len(names))
        component = tracker.component(name)
        assert component is not None
        component.since = at
        at += 1e-6
        del name
    # From the third heartbeat on, mean and deviation have values of their own.
    for _ in range(3):
        at += 10.0
        for number, name in enumerate(list(tracker.living())):
            _beat_with_all(tracker, name, at + number * 1e-6, number)
            tracker.take_changed([name], 0.0)
        tracker.take_renamed(count)
    # Names were allocated before; they are part of a component's cost.
    resident = _resident() - before + sum(sys.getsizeof(name) + 8 for name in tracker._healthy)
    order = list(tracker._healthy)
    random.Random(1).shuffle(order)
    times = []
    for i in range(200):
        for name in order[i::200][:5000]:
            tracker.beat(name, at, _TIMESTAMP % i, "OK")
        began = perf_counter()
        tracker.sweep(at, 10.0, 30.0, 1000)
        times.append(perf_counter() - began)
    return {"bytes": resident / count, "sweep": median(times), "longest": max(times)}


def _beat_with_all(tracker: Tracker, name: str, at: float, number: int) -> None:
    """Let a component send a heartbeat with all that a node sends."""
    timestamp = _TIMESTAMP % (number % 1_000_000)
    tracker.beat(name, at, timestamp, "OK", "10.1.0.1", False, f"nid{number:06}", str(number))


def _resident() -> int:
    """Return the bytes of memory that this process occupies."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def _deaths(reactor: Any, count: int, dying: int, store: str, hold: int) -> dict[str, float]:
    """Measure for how long a service's reactor is blocked when some components die at once.

    The others go on beating, 10,000 times a second. With `hold` the deaths wait for so long.
    """
    service = HbtdService(
        Params(
            kv_url=store,
            listen="tcp:0:interface=127.0.0.1",
            nosm=True,
            interval=1,
            errtime=12,
            warntime=12,
            use_telemetry=False,
            guard="hold" if hold else "report",
            guard_hold=str(hold) if hold else "auto",
        ),
        reactor,
    )
    service.startService()
    names = node_names(count)
    for first in range(0, count, 500):
        for name in names[first : first + 500]:
            service.monitor.beat(name, _TIMESTAMP % 0, "OK")
        await deferLater(reactor, 0)
    await deferLater(reactor, 0.5)
    gc.freeze()  # as hbtd does when many components have come
    living = names[dying:]
    beats = count

    def beat() -> None:
        nonlocal beats
        for name in living[beats % len(living) :][:50]:
            service.tracker.beat_again(name, service.monitor.now(), _TIMESTAMP % 1, "OK")
        beats += 50

    beating = LoopingCall(beat)
    if living:
        beating.start(0.005)
    longest = (0.0, 0.0)
    last = perf_counter(), thread_time()

    def tick() -> None:
        nonlocal longest, last
        now = perf_counter(), thread_time()
        longest = max(longest[0], now[0] - last[0]), max(longest[1], now[1] - last[1])
        last = now

    ticking = LoopingCall(tick)
    ticking.start(0.001)
    await deferLater(reactor, 15.0 + hold)
    ticking.stop()
    if living:
        beating.stop()
    assert service.tracker.dead == dying, service.tracker.dead
    assert not hold or service.core.guard.stated, "no domain was disrupted"
    await service.stopService()
    return {"blocked": longest[0], "busy": longest[1]}


def _main(
    reactor: Any, what: str, count: str, dying: str = "", store: str = "", hold: str = ""
) -> Any:
    if what == "memory":
        print(json.dumps(_memory_and_sweep(int(count))))
        return succeed(None)
    done = Deferred.fromCoroutine(_deaths(reactor, int(count), int(dying), store, int(hold)))
    return done.addCallback(lambda figures: print(json.dumps(figures)))


if __name__ == "__main__":
    react(_main, sys.argv[1:])
