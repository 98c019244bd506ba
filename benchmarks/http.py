"""Heartbeats per second over HTTP, compared with servers that answer 200 without any work.

These are nginx, and a bare loop in Python (`benchmarks.bare`). All are measured in turn, in several
rounds, so that other activity of the machine affects them alike. Rates are medians; so are ratios,
each of which is taken within a round.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.running import (
    LOAD_CORE,
    bare_loop,
    fake_hsm,
    hbtd,
    nginx,
    nginx_versions,
    on_core,
)
from benchmarks.table import Row
from hbtd.net.tls import ephemeral_identity

_SHARE = 0.8
"""The share of the highest rate at which latency is measured."""

_HERE = Path(__file__).parent
PLAIN = ("--listen=tcp:0:interface=127.0.0.1:backlog=1024",)
"""Options of an hbtd that serves plain HTTP on the loopback interface."""

_BODY = (
    '{"Component":"x1000c0s0b0n0","Hostname":"nid000001","NID":"1","Status":"OK",'
    '"Timestamp":"2026-11-23T00:00:00.000000+00:00"}'
)


class Sample(NamedTuple):
    """The result of one run of a load generator."""

    rate: float
    """Requests per second."""
    p99: float
    """The 99th percentile of latency, in milliseconds."""


Load = Callable[[str, int], Sample]


class Rounds(NamedTuple):
    """The number of runs of each server, which take turns, and the seconds of each run."""

    number: int
    seconds: int


class Case(NamedTuple):
    """A kind of load, and its targets."""

    name: str
    load: Load
    tls: bool
    targets: Mapping[str, float] = {}
    """The least that hbtd's rate may be, divided by that of another server, by its name."""


def measure(short: Rounds, long: Rounds | None) -> tuple[list[Row], dict[str, dict[str, float]]]:
    """Measure all cases; return rows for the table, and rates by case and server for the plot.

    Rates on few connections are compared in `short` rounds: other activity of the machine changes
    within seconds, and so affects all servers alike. wrk's figures include the time in which
    connections are made, so that 1,000 connections, and latency, need `long` rounds; without these
    they are left out, and so is the ordinary lane, which has no target.
    """
    missing = [tool for tool in ("wrk", "hey", "nginx") if shutil.which(tool) is None]
    rows = [
        Row(f"{tool} is missing", f"not measured; on Debian: apt install {tool}")
        for tool in missing
    ]
    if "wrk" in missing:
        return rows, {}
    cases = [case for case in _CASES if case.load is not _fresh or "hey" not in missing]
    rates: dict[str, dict[str, float]] = {}
    with_nginx = "nginx" not in missing
    if with_nginx:
        rows.append(Row("nginx", nginx_versions()))
    with _servers(with_klein=long is not None, with_nginx=with_nginx) as servers:
        for case in cases:
            rounds = long if case.load is _many else short
            if rounds is None:
                continue
            samples = _measure(case, servers, rounds)
            rates[case.name] = {
                name: median(sample.rate for sample in each) for name, each in samples.items()
            }
            rows += _rows(case, samples)
        plain, tls = servers["hbtd"]
        rows += _mixed(plain, short)
        if long is not None:
            for kind, url in (("plain", plain), ("TLS", tls)):
                for connections in (64, 1000):
                    name = f"{kind} keep-alive, {connections:,} connections"
                    rows.append(_steady(name, url, connections, long))
    return rows, rates


def _measure(
    case: Case, servers: dict[str, tuple[str, str]], rounds: Rounds
) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in servers}
    for _ in range(rounds.number):
        for name, urls in servers.items():
            samples[name].append(case.load(urls[case.tls], rounds.seconds))
    return samples


def _rows(case: Case, samples: dict[str, list[Sample]]) -> Iterator[Row]:
    ours = samples["hbtd"]
    rate = median(sample.rate for sample in ours)
    p99 = median(sample.p99 for sample in ours)
    yield Row(f"{case.name}: heartbeats/s", f"{rate:,.0f}  (p99 {p99:.1f} ms)")
    for name, theirs in samples.items():
        if name != "hbtd":
            ratio = _ratio(ours, theirs)
            rate = median(sample.rate for sample in theirs)
            target = f">= {case.targets[name]:g}" if name in case.targets else ""
            yield Row(f"{case.name}: hbtd / {name} ({rate:,.0f})", ratio, target)


def _ratio(ours: list[Sample], theirs: list[Sample]) -> str:
    """Return the median of the rounds' ratios of rates, and the range of all of them."""
    ratios = [our.rate / their.rate for our, their in zip(ours, theirs, strict=True)]
    return f"{median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"


def _mixed(url: str, rounds: Rounds) -> Iterator[Row]:
    """Compare heartbeats alone with a mix in which one request in a hundred is another."""
    alone, mixed = [], []
    for _ in range(rounds.number):
        alone.append(_wrk(url, rounds.seconds, 64))
        mixed.append(_wrk(url, rounds.seconds, 64, "mixed.lua"))
    yield Row("1 in 100 is no heartbeat: rate / that without", _ratio(mixed, alone), ">= 0.85")


def _steady(name: str, url: str, connections: int, rounds: Rounds) -> Row:
    """Measure latency at a fixed share of the highest rate."""

    def run(pause: float) -> Sample:
        return _wrk(url, rounds.seconds, connections, "steady.lua", f"{pause:.4f}")

    # Measured just before, as the machine's speed varies.
    highest = _wrk(url, rounds.seconds, connections).rate
    wanted = connections / (_SHARE * highest) * 1000  # milliseconds between two on a connection
    pause = wanted
    for _ in range(2):
        # Corrected only in part, so that a moment's hiccup is not compensated for.
        found = connections / run(pause).rate * 1000
        pause = max(pause + 0.7 * (wanted - found), 0.0)
    samples = [run(pause) for _ in range(rounds.number)]
    share = median(sample.rate for sample in samples) / highest
    p99 = median(sample.p99 for sample in samples)
    return Row(f"{name}, at {share:.0%} of that rate: p99", f"{p99:.1f} ms", "< 10 ms")


@contextmanager
def _servers(*, with_klein: bool, with_nginx: bool) -> Iterator[dict[str, tuple[str, str]]]:
    """Run hbtd with either lane, and the others; yield plain and TLS URLs of each by name."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()))
        identity = ephemeral_identity()
        certificate, key = directory / "cert.pem", directory / "key.pem"
        certificate.write_bytes(identity.chain[0].public_bytes(Encoding.PEM))
        key.write_bytes(
            identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        tls = ("--port=0", f"--tls_cert={certificate}", f"--tls_key={key}")
        # hbtd does all its other work meanwhile: it sweeps, stores records, and updates HSM.
        hsm = stack.enter_context(fake_hsm())

        def serve(name: str, *options: str) -> str:
            store = f"--kv_url=sqlite:{directory}/{name}.sqlite"
            return stack.enter_context(hbtd(store, f"--sm_url={hsm}", *options))

        servers = {
            "hbtd": (serve("fast", *PLAIN), serve("fast-tls", *tls)),
            "bare loop": (
                stack.enter_context(bare_loop()),
                stack.enter_context(bare_loop(str(certificate), str(key))),
            ),
        }
        if with_klein:
            servers["Klein"] = (
                serve("klein", *PLAIN, "--fast_lane=no"),
                serve("klein-tls", *tls, "--fast_lane=no"),
            )
        if with_nginx:
            servers["nginx"] = stack.enter_context(nginx(str(certificate), str(key)))
        yield servers


def _wrk(
    url: str, seconds: int, connections: int, script: str = "heartbeats.lua", *arguments: str
) -> Sample:
    """Run wrk once."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s"]
    done = subprocess.run(
        on_core(LOAD_CORE, [*command, str(_HERE / script), url, *arguments]),
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=True,
    )
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", done.stdout)
    if failed:
        raise RuntimeError(f"some heartbeats to {url} failed: {failed[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert rate
    assert p99
    if not float(rate[1]):
        raise RuntimeError(f"{url} has answered nothing in {seconds} s")
    return Sample(float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]])


def heartbeats(url: str, seconds: int) -> Sample:
    """Send heartbeats on 64 connections at the highest rate."""
    return _wrk(url, seconds, 64)


def _many(url: str, seconds: int) -> Sample:
    return _wrk(url, seconds, 1000)


def _fresh(url: str, seconds: int) -> Sample:
    """Run hey once, with a new connection for each heartbeat."""
    command = ["hey", "-disable-keepalive", "-z", f"{seconds}s", "-c", "64", "-m", "POST", "-d"]
    done = subprocess.run(
        on_core(LOAD_CORE, [*command, _BODY, f"{url}/hmi/v1/heartbeat"]),
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=True,
    )
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    p99 = re.search(r"99%+ in ([\d.]+) secs", done.stdout)
    if p99 is None:  # hey finds none among fewer than a hundred
        p99 = re.search(r"Slowest:\s+([\d.]+)", done.stdout)
    statuses = re.findall(r"\[(\d+)\]\t\d+ responses", done.stdout)
    if not rate or not p99 or statuses != ["200"] or "Error distribution" in done.stdout:
        raise RuntimeError(f"some heartbeats to {url} failed: {done.stdout}")
    return Sample(float(rate[1]), float(p99[1]) * 1000)


_CASES = (
    Case("plain keep-alive, 64 connections", heartbeats, False, {"bare loop": 0.55, "nginx": 0.6}),
    Case("plain keep-alive, 1,000 connections", _many, False),
    Case("TLS keep-alive, 64 connections", heartbeats, True, {"bare loop": 0.5, "nginx": 0.45}),
    Case("TLS keep-alive, 1,000 connections", _many, True),
    Case("TLS, a connection per heartbeat", _fresh, True, {"nginx": 1.0}),
)
