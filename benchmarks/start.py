"""A start with many stored components: how long it takes, and how much memory.

Run as `python -m benchmarks.start make FILE COUNT` it writes a file of the store `sqlite:`; with
`dead` after that, a chassis is dead. Set
`HBTD_BENCH_BASE` to another checkout of hbtd to start that one, too, and compare the two.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from benchmarks.running import SERVER_CORE, on_core
from benchmarks.table import Row
from hbtd.simulator.fleet import node_names
from hbtd.store.sqlite import SqliteStore
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Transition

_BATCH = 5000


class _Start(NamedTuple):
    seconds: float
    peak: float
    """The most memory that was in use, in bytes."""
    after: float
    """The memory in use after the start, in bytes."""


def measure(count: int) -> list[Row]:
    """Measure starts with `count` stored components, without and with judgements to resume."""
    rows: list[Row] = []
    base = os.environ.get("HBTD_BENCH_BASE")
    for untold in (False, True):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "store"
            command = [sys.executable, "-m", "benchmarks.start", "make", str(path), str(count)]
            subprocess.run([*command, *(["untold"] if untold else [])], check=True, timeout=600)
            what = f"start with {count:,} stored components" + (
                ", HSM told of none" if untold else ""
            )
            now = _best(path, Path.cwd())
            rows.append(Row(what, f"{now.seconds:.1f} s, {_of(now)}"))
            if base is not None:
                before = _best(path, Path(base))
                rows.append(
                    Row(
                        f"{what}: compared with {base}",
                        f"{now.seconds / before.seconds:.2f} of {before.seconds:.1f} s,"
                        f" peak {now.peak / before.peak:.2f} of {before.peak / 1e6:.0f} MB",
                        "half",
                    )
                )
    return rows


def _of(start: _Start) -> str:
    return f"at most {start.peak / 1e6:.0f} MB, {start.peak / start.after:.2f} x what it needs then"


def _best(path: Path, tree: Path) -> _Start:
    """Start hbtd from a checkout three times with a copy of the file; return the fastest start."""
    starts: list[_Start] = []
    for _ in range(3):
        copy = path.with_suffix(".copy")
        for end in ("", "-wal", "-shm"):
            Path(f"{copy}{end}").unlink(missing_ok=True)
        shutil.copy(path, copy)
        starts.append(_start(copy, tree))
    return min(starts)


def _start(path: Path, tree: Path) -> _Start:
    command = [sys.executable, "-m", "hbtd", f"--kv_url=sqlite:{path}", "--nosm=yes"]
    command += ["--use_telemetry=no", "--listen=tcp:0:interface=127.0.0.1"]
    began = monotonic()
    process = subprocess.Popen(
        on_core(SERVER_CORE, command), cwd=tree, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        if not any(" serves " in line for line in process.stderr):
            raise RuntimeError("hbtd did not start")
        seconds = monotonic() - began
        status = Path(f"/proc/{process.pid}/status").read_text()
    finally:
        process.kill()
        process.wait()
    peak, after = (
        1024.0 * int(re.findall(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[0])
        for name in ("VmHWM", "VmRSS")
    )
    return _Start(seconds, peak, after)


async def _make(reactor: Any, path: str, count: int, *, untold: bool, dead: bool) -> None:
    """Write a file with `count` components, of whose starts HSM was not told if `untold`."""
    store = SqliteStore(path, reactor, reactor.seconds, "benchmarks")
    await store.open()
    names = node_names(count)
    for first in range(0, count, _BATCH):
        some = names[first : first + _BATCH]
        at = "2026-11-23T00:00:00.%06d+00:00"
        records = [Record(name, 1.0, at % (first + i), "OK", False) for i, name in enumerate(some)]
        judgements = [
            Judgement(each.component, Transition.STARTED, each.timestamp) for each in records
        ]
        await store.commit(judgements if untold else [], records)
    if dead:
        died = [name for name in names if name.startswith("x1003c3s")]
        at = "2026-11-23T00:00:00.000000+00:00"
        await store.commit([Judgement(name, Transition.DIED, at) for name in died])
    await store.close()


def _main(reactor: Any, what: str, path: str, count: str, *rest: str) -> Deferred[None]:
    assert what == "make"
    return Deferred.fromCoroutine(
        _make(reactor, path, int(count), untold="untold" in rest, dead="dead" in rest)
    )


if __name__ == "__main__":
    react(_main, sys.argv[1:])
