"""What hbtd-agent costs a node: processor time for each heartbeat, and memory."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep

from benchmarks.reconnect import metrics
from benchmarks.running import LOAD_CORE, hbtd, on_core
from benchmarks.table import Row
from hbtd.simulator.fleet import node_names

_AGENT = Path(__file__).resolve().parent.parent / "deploy" / "node" / "hbtd-agent"


def measure(nodes: int, seconds: float) -> list[Row]:
    """Measure the agents of some nodes over TLS, a heartbeat each a second, for some seconds.

    They wake up one by one, so that each finds the processor's caches cold, as on a node.
    """
    with ExitStack() as stack:
        url = stack.enter_context(hbtd("--port=0", "--address=127.0.0.1", "--nosm"))
        pids = [stack.enter_context(_agent(url, name)) for name in node_names(nodes)]
        patience = monotonic() + 60
        while metrics(url)['hbtd_components{state="healthy"}'] < nodes:
            if monotonic() > patience:
                raise RuntimeError(f"not all of {nodes} nodes were heard")
            sleep(0.2)
        before, began = sum(map(_processor_ms, pids)), _heartbeats(url)
        sleep(seconds)
        beats = _heartbeats(url) - began
        each = (sum(map(_processor_ms, pids)) - before) / beats
        whole, own = (max(_memory(pid, field) for pid in pids) for field in ("Rss", "Private"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [
        Row(
            f"hbtd-agent over TLS, Python {version}: processor time a heartbeat, of {beats:,.0f}",
            f"{each:.2f} ms",
            "under 0.5 ms",
        ),
        Row(
            "... its memory at most: resident, of which not shared",
            f"{whole:.0f}, {own:.0f} MB",
            "under 40 MB",
        ),
    ]


@contextmanager
def _agent(url: str, name: str) -> Iterator[int]:
    """Run the agent of a node on the load core; yield its process ID."""
    command = [sys.executable, "-IS", str(_AGENT), f"--url={url}", f"--xname={name}"]
    options = ["--ca=insecure", "--nid=1", "--period=1"]
    with subprocess.Popen(
        on_core(LOAD_CORE, [*command, *options]), stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def _heartbeats(url: str) -> float:
    """Return how many heartbeats hbtd has taken."""
    return metrics(url)["hbtd_heartbeats_total"]


def _processor_ms(pid: int) -> float:
    """Return the processor time of a process in milliseconds, by the scheduler's own count."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def _memory(pid: int, field: str) -> float:
    """Return the memory of a process in MB: all fields that begin so."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(each) for each in re.findall(rf"^{field}\w*: +(\d+) kB", text, re.M)) / 1024
