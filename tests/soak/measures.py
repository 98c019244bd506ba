"""What a process, a folder or an hbtd needs at a moment."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_ESTABLISHED: Final = "01"
_METRIC: Final = re.compile(r"^(\w+)(\{[^}]*\})? (\S+)$", re.MULTILINE)


def process(pid: int, proc: Path = Path("/proc")) -> dict[str, float]:
    """Return what a process needs: nothing if it has ended.

    `rss_mb` are megabytes of resident memory, `fds` open files, `connections` established TCP
    connections, `threads` threads, and `cpu_s` seconds of processor time.
    """
    own = proc / str(pid)
    with suppress(OSError, IndexError, KeyError):
        status = dict(
            line.split(":", 1) for line in (own / "status").read_text().splitlines() if ":" in line
        )
        links = [_link(each) for each in (own / "fd").iterdir()]
        fields = (own / "stat").read_text().rpartition(")")[2].split()
        return {
            "rss_mb": round(int(status["VmRSS"].split()[0]) / 1024, 2),
            "fds": len(links),
            "connections": _established(own, {link for link in links if "socket" in link}),
            "threads": int(status["Threads"]),
            "cpu_s": round((int(fields[11]) + int(fields[12])) / _TICKS, 2),
        }
    return {}


def _link(path: Path) -> str:
    with suppress(OSError):
        return os.readlink(path)
    return ""


def _established(own: Path, sockets: set[str]) -> int:
    found = 0
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (own / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                found += fields[3] == _ESTABLISHED and f"socket:[{fields[9]}]" in sockets
    return found


def megabytes(path: Path) -> float:
    """Return the size of a file, or of all files in a folder, in megabytes; 0 without one."""
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for each in files:
        with suppress(OSError):
            total += 0 if each.is_dir() else each.stat().st_size
    return round(total / 1e6, 3)


def metrics(text: str, wanted: Mapping[str, str]) -> dict[str, float]:
    """Return some metrics out of those of a `/metrics`: names as in `wanted`, by what they are.

    Those with labels are summed.
    """
    sums: dict[str, float] = {}
    for name, _, value in _METRIC.findall(text):
        sums[name] = sums.get(name, 0.0) + float(value)
    return {short: sums[name] for short, name in wanted.items() if name in sums}
