"""Heartbeats a second over HTTP, with wrk."""

import re
import shutil
import subprocess
from pathlib import Path
from statistics import median

from benchmarks.running import LOAD_CORE, hbtd, on_core
from benchmarks.table import Row

_SCRIPT = Path(__file__).with_name("heartbeats.lua")
_CONNECTIONS = 64


def measure(seconds: int, rounds: int) -> list[Row]:
    """Measure heartbeats a second, plain and over TLS on connections that are kept."""
    if shutil.which("wrk") is None:
        return [Row("heartbeats/s", "not measured: wrk is missing (apt install wrk)")]
    rates: dict[str, list[float]] = {"plain": [], "TLS": []}
    latencies: dict[str, list[float]] = {"plain": [], "TLS": []}
    with (
        hbtd("--nosm", "--listen=tcp:0:interface=127.0.0.1") as plain,
        hbtd("--nosm", "--port=0") as tls,
    ):
        for _ in range(rounds):
            for kind, url in (("plain", plain), ("TLS", tls)):
                rate, p99 = _wrk(url, seconds)
                rates[kind].append(rate)
                latencies[kind].append(p99)
    return [
        Row(
            f"heartbeats/s through Klein, {kind} keep-alive, {_CONNECTIONS} connections",
            f"{median(rates[kind]):,.0f}  (p99 {median(latencies[kind]):.1f} ms)",
        )
        for kind in rates
    ]


def _wrk(url: str, seconds: int) -> tuple[float, float]:
    """Run wrk once; gives requests a second and the 99th percentile in milliseconds."""
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "--latency", "-s"]
    done = subprocess.run(
        on_core(LOAD_CORE, [*command, str(_SCRIPT), url]),
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=True,
    )
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    if failed:
        raise RuntimeError(f"{failed[1]} heartbeats were refused")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert rate
    assert p99
    return float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]
