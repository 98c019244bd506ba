"""How long hbtctl takes, from its start to its end, when hbtd has many components."""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.http import PLAIN
from benchmarks.running import LOAD_CORE, hbtd, on_core
from benchmarks.table import Row

_ROUNDS = 11
_TARGET = "< 300 ms"

_COMMANDS = {
    "--version": "< 120 ms",
    "status": _TARGET,
    "list --limit 1000": _TARGET,
    "list --limit 1000 -o wide": _TARGET,
    "list --under x1001 --limit 1000 -o nodeset": _TARGET,
    "list x1002c[0-7]s[0-7]b[0-1]n[0-1]": _TARGET,
    "why x1003c0s0b0n0": _TARGET,
    "list --state dead": _TARGET,
    "tree --down": _TARGET,
}


def measure(count: int) -> list[Row]:
    """Measure commands about `count` components of a file, among them a dead chassis."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        make = [sys.executable, "-m", "benchmarks.start", "make", str(path), str(count), "dead"]
        subprocess.run(make, check=True, timeout=600)
        with hbtd(*PLAIN, f"--kv_url=sqlite:{path}", "--nosm=yes") as url:
            environ = {**os.environ, "HBTCTL_URL": url}
            return [
                Row(
                    f"hbtctl {line}, of {count:,} components",
                    f"{1000 * _seconds(line, environ):.0f} ms",
                    target,
                )
                for line, target in _COMMANDS.items()
            ]


def _seconds(line: str, environ: dict[str, str]) -> float:
    """Return the median of the times that a command takes, after a first one that fills caches."""
    command = on_core(LOAD_CORE, [sys.executable, "-m", "hbtd.ctl", *line.split()])
    times: list[float] = []
    for _ in range(_ROUNDS + 1):
        began = perf_counter()
        subprocess.run(command, env=environ, check=True, capture_output=True, timeout=120)
        times.append(perf_counter() - began)
    return median(times[1:])


if __name__ == "__main__":
    from benchmarks.table import formatted

    print(formatted(measure(int(sys.argv[1]))))
