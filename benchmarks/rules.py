"""The costs of the rules that hold back: thresholds, the guard with groups, and maintenance."""

import http.client
import json
import random
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any
from urllib.parse import SplitResult, urlsplit

from benchmarks.components import beat, heartbeat
from benchmarks.crowds import resident
from benchmarks.http import PLAIN
from benchmarks.running import cpu_seconds, hbtd_process
from benchmarks.table import Row
from hbtd.formats.nodesets import fold
from hbtd.simulator.fleet import node_names

_THRESHOLDS = 100
_GROUPS = 50
_MAINTAINED = 10
"""Of how many components one is in maintenance."""

_ROUNDS = 3
"""The number of heartbeats of each component before anything is measured."""

_TURNS = 8
_SECONDS = 2.0
_AT_ONCE = 50
_SWEEPS = 20

# Nobody falls silent while this is measured.
_OPTIONS = (*PLAIN, "--nosm", "--interval=1", "--warntime=5000", "--errtime=10000")


def measure(count: int) -> list[Row]:
    """Measure heartbeats, memory and sweeps of `count` components, with all rules and without."""
    names = node_names(count)
    with TemporaryDirectory() as folder:
        groups = Path(folder) / "groups"
        groups.write_text(_groups(names))
        guarded = ("--guard=hold", f"--groups={groups}")
        with (
            hbtd_process(*_OPTIONS, "--guard=off") as (plain_url, plain_pid),
            hbtd_process(*_OPTIONS, *guarded) as (url, pid),
        ):
            plain, ruled = urlsplit(plain_url), urlsplit(url)
            _call(ruled, "PUT", "thresholds", list(_thresholds(names)))
            spared = names[-(count // _MAINTAINED) :]
            away = {"XNames": [fold(spared)], "For": 86_400, "Reason": "bench"}
            _call(ruled, "POST", "maintenance", away)
            less, more = _grow(plain, plain_pid, names), _grow(ruled, pid, names)
            sweeps = [_last_sweep(ruled) for _ in range(_SWEEPS)]
            some = random.Random(1).sample(names, min(count, 20_000))
            ratio = _ratio((ruled, pid), (plain, plain_pid), some)
    what = f"{_THRESHOLDS} thresholds, {_GROUPS} groups, {len(spared):,} in maintenance"
    return [
        Row("rules", f"{what}; {count:,} components"),
        Row("heartbeats with the rules: rate / that without", f"{ratio:.3f}", ">= 0.97"),
        Row("bytes more per component", f"{(more - less) / count:.0f}", "<= 100"),
        Row(
            "sweep with the rules, none overdue",
            f"median {median(sweeps) * 1e3:.3f} ms, most {max(sweeps) * 1e3:.3f} ms",
            "< 1 ms",
        ),
    ]


def _groups(names: Sequence[str]) -> str:
    size = max(len(names) // _GROUPS, 1)
    lines = [f"pdu-{k} {fold(names[k * size : (k + 1) * size])}" for k in range(_GROUPS)]
    return "\n".join([*lines, ""])


def _thresholds(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield rows that match half of the components, each with times of its own."""
    size = max(len(names) // (2 * _THRESHOLDS), 1)
    for k in range(_THRESHOLDS):
        some = names[2 * k * size : (2 * k + 1) * size]
        yield {"Match": fold(some), "Warntime": 5_001 + k, "Errtime": 10_001 + k}


def _call(url: SplitResult, method: str, path: str, body: object = None) -> bytes:
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    headers = {"Content-Type": "application/json"}
    try:
        connection.request(method, f"/hmi/v1/{path}", json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    assert answer.status < 300, (answer.status, said)
    return said


def _grow(url: SplitResult, pid: int, names: list[str]) -> int:
    """Let components start and beat; return by how many bytes the process has grown."""
    with socket.create_connection((url.hostname, url.port)) as connection:
        beat(connection, names[:500], 0)  # what is allocated only once is not counted
        before = resident(pid)
        for round_ in range(_ROUNDS):
            beat(connection, names, round_)
        return resident(pid) - before


def _last_sweep(url: SplitResult) -> float:
    """Return how long the last sweep took, once there may have been another one."""
    sleep(1.0)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.search(r"^hbtd_sweep_seconds (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


def _ratio(one: tuple[SplitResult, int], other: tuple[SplitResult, int], names: list[str]) -> float:
    """Return the rate of heartbeats at one process by that at another, measured in turn.

    They are rates by the second of the processor that hbtd gets, as the load has the other one.
    """
    portions = [
        b"".join(heartbeat(name, i, 9) for i, name in enumerate(names[first : first + _AT_ONCE]))
        for first in range(0, len(names), _AT_ONCE)
    ]
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TURNS):
        for (url, pid), measured in zip((one, other), rates, strict=True):
            began = cpu_seconds(pid)
            count = _beat_for_a_while(url, portions)
            measured.append(count / (cpu_seconds(pid) - began))
    return median(rates[0]) / median(rates[1])


def _beat_for_a_while(url: SplitResult, portions: list[bytes]) -> int:
    """Return how many heartbeats are answered."""
    count = 0
    with socket.create_connection((url.hostname, url.port)) as connection:
        began = monotonic()
        while monotonic() - began < _SECONDS:
            portion = portions[count % len(portions)]
            connection.sendall(portion)
            answers, wanted = 0, portion.count(b"POST ")
            while answers < wanted:
                answers += connection.recv(65536).count(b"HTTP/1.1 200 OK\r\n")
            count += 1
    return count * _AT_ONCE
