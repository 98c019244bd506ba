"""hbtd attacked by strangers without credentials, while nodes beat, and some of them die.

`HBTD_STRANGERS_SECONDS` sets how long each attack lasts, and `HBTD_STRANGERS_HELLOS` by what the
rates of ClientHellos are multiplied. A line of a table is printed for each attack.

What hbtd says must be true each time. How soon it answers also depends on what else the machine
does, so that an attack in which only probes were slow is made once more, and that one counts.
"""

import json
import math
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM
from typing import ClassVar, NamedTuple
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fleet import node_names
from tests.support.askers import Asker, endpoint_from, stop_all
from tests.support.attackers import beat
from tests.support.certificates import issue, rsa_key, write_identity
from tests.support.hsm_memory import DIED, STARTED
from tests.support.issuer import Issuer
from tests.support.own_metrics import numbers
from tests.support.processes import CHECKOUT, HbtdProcess, spawn
from tests.support.running import RunningHSM, WebClient, reactor, start_hsm
from tests.support.strangers import processor_seconds, starved_seconds

SECONDS = float(os.environ.get("HBTD_STRANGERS_SECONDS", "21"))

WARNTIME, ERRTIME, INTERVAL = 6, 12, 1
NODES = 40
"""Nodes of the fleet; every other one makes a connection per heartbeat."""
DYING = 6
"""Those of them, the last, that stop."""
PERIOD = 1.5
DEATH = 5.0
"""Seconds of an attack after which they do."""
PROBE_PERIOD = 0.25
WAIT = 10.0
"""Seconds after an attack in which deaths that are late may still be told."""

KEPT_ADDRESS, PROBE_ADDRESS, OTHER_ADDRESS = (f"127.0.0.{n}" for n in range(1, 4))
FRESH_ADDRESSES = [f"127.0.4.{n}" for n in range(1, NODES + 1)]
"""Nodes that connect anew for each heartbeat have an address each, as on a network of nodes."""


HELLOS = float(os.environ.get("HBTD_STRANGERS_HELLOS", "1"))
LARGE_RATE, SMALL_RATE = 400_000 * HELLOS, 130_000 * HELLOS
"""Bytes of ClientHellos a second, for certificates with RSA keys of 2,048 and of 4,096 bits."""
MOST_SOURCES, SIGNING = 200, 0.2
"""Addresses in a crowd that sends them, and seconds that hbtd takes to sign for each of them once.

Where it would take longer, there are fewer addresses. Larger crowds are what OWN_NODES are.
"""
FEW_CONNECTIONS = 600
FEW_FILES = 1024
NAMES = 2000
OWN_NODES = 1000
"""Nodes that overload hbtd at most."""
OWN_BITS = 6144
"""Bits of the key with which hbtd serves them. It signs so slowly that their clients are quick."""
OWN_LAG = 1000
"""Milliseconds by which nodes may be late, so that a warning is hbtd's and not their fault."""

MOST_STARVED, MOST_LAG = 0.25, 0.3
"""The most of the time that hbtd may wait for a core, and seconds that this process may be late.

Beyond that, latencies do not say much of hbtd, but of what else the machine does.
"""

PROBE = b"GET /hmi/v1/liveness HTTP/1.1\r\nHost: h\r\n\r\n"


HELD = 10_000
"""Nodes that keep their connections, and rarely beat."""
HOLDING = (f"--others={NODES}", "--first=127.0.5.1", "--sources=2", "--rate=1500")
MOST_OF_HELD = 400
"""MiB by which hbtd may grow beside these: a table of connections that attackers fill."""


def crowd(bits: int) -> tuple[str, str]:
    """Return options for attackers with many addresses, beside a certificate with an RSA key."""
    key = rsa_key(bits)
    began, count = time.thread_time(), 20
    for _ in range(count):
        key.sign(b"hello", padding.PKCS1v15(), SHA256())
    signature = (time.thread_time() - began) / count
    return "--first=127.0.2.1", f"--sources={min(MOST_SOURCES, int(SIGNING / signature))}"


class Limits(NamedTuple):
    """What an attack may bring about at most."""

    false: float = 0
    """Warnings and deaths that HSM is told of nodes that beat."""
    death: float = ERRTIME + INTERVAL + 2
    """Seconds from the last heartbeat of a node that dies until HSM is told."""
    probe: float = 0.5
    """Seconds until a probe is answered, 99 % of them and all."""
    failed: float = 0
    """Heartbeats and probes that fail."""
    deaf: float = 2.0
    """Seconds that hbtd counts as deaf."""
    memory: float = 150
    """MiB by which hbtd grows."""


STRANGERS = Limits()
CROWD = Limits(probe=1.0)
"""A burst from many addresses is served in turn with a probe, which has to wait for most of it."""
SLOWED = Limits(probe=2.0)
"""A handshake and what comes after it take several of the tenths of a second."""
UPLOADERS = Limits(memory=450)
"""The large bodies that hbtd keeps may have 256 MiB, and do not come in one piece."""
OWN_ERRTIME = 24
"""Seconds by which nodes that had to wait are judged later; an attack is shorter than that."""
OWN = Limits(*(math.inf for _ in Limits._fields))._replace(false=0)
"""An overload makes everything slow, and nothing of it untrue."""


class Figures(NamedTuple):
    """What an attack has brought about."""

    false: int
    deaths: list[float]
    """Seconds from the last heartbeat of each node that died; infinite if HSM was not told."""
    probes: Asker
    fleet: list[Asker]
    others: Asker | None
    """Who asked for states meanwhile, if anybody did."""
    deaf: float
    busy: float
    """The share of a core that hbtd has taken."""
    starved: float
    """The share of the time for which hbtd had to wait for a core: what else the machine did."""
    memory: float
    lag: float
    """Seconds that this process was late at most, by which the latencies are too high."""
    seen: dict[str, int]
    """What the attackers have seen."""

    def exceeded(self, limits: Limits) -> list[str]:
        """Return what is more than it may be, but for how soon probes are answered."""
        failed = sum(each.failures.total() for each in self.fleet)
        figures = {
            "false warnings": (self.false, limits.false),
            "seconds until a death is told": (max(self.deaths), limits.death),
            "failed probes": (self.probes.failures.total(), limits.failed),
            "failed heartbeats": (failed, limits.failed),
            "others' failed requests": (
                self.others.failures.total() if self.others else 0,
                limits.failed,
            ),
            "deaf seconds": (self.deaf, limits.deaf),
            "MiB": (self.memory, limits.memory),
        }
        return _exceeded(figures)

    def slow(self, limits: Limits) -> list[str]:
        """Return which probes were answered later than they may be."""
        return _exceeded(
            {
                "seconds of 99 % of the probes": (p99(self.probes.latencies), limits.probe),
                "seconds of the slowest probe": (max(self.probes.latencies), limits.probe),
            }
        )

    def row(self, name: str) -> str:
        """Return a row of the table."""
        told = [each for each in self.deaths if each < math.inf]
        latencies = self.probes.latencies
        cells = (
            f"{name:32}",
            f"{self.false:5}",
            f"{len(told)}/{len(self.deaths)}",
            f"{max(told, default=math.nan):7.1f}",
            f"{p99(latencies):5.2f} {max(latencies):5.2f}",
            _share([self.probes]),
            _share(self.fleet),
            _share([self.others] if self.others else []),
            f"{self.deaf:4.1f}",
            f"{100 * self.busy:3.0f}%",
            f"{100 * self.starved:6.0f}%",
            f"{self.memory:4.0f}",
            f"{self.lag:4.2f}",
            ", ".join(f"{what} {often}" for what, often in self.seen.items()),
        )
        return "| " + " | ".join(cells) + " |"


def _exceeded(figures: Mapping[str, tuple[float, float]]) -> list[str]:
    return [
        f"{what}: {figure:.2f}, not {limit:g} at most"
        for what, (figure, limit) in figures.items()
        if not figure <= limit
    ]


HEADER = (
    f"| {'attack':32} | false | told | slowest | p99   max s | probes  | heartbeats"
    " | others  | deaf | busy | starved | MiB  | lag  | seen by the attackers |"
)


class Attack(ProcessProtocol):
    """A process of attackers."""

    def __init__(self) -> None:
        self.begun: Deferred[None] = Deferred()
        """Fires when the attack is under way, or fails if it ends before."""
        self.ended: Deferred[dict[str, int]] = Deferred()
        """Fires with what the attackers have seen."""
        self._out = self._err = b""

    def outReceived(self, data: bytes) -> None:
        """Look for the line that says that it has begun."""
        self._out += data
        if b"begun\n" in self._out and not self.begun.called:
            self.begun.callback(None)

    def errReceived(self, data: bytes) -> None:
        """Keep what goes wrong."""
        self._err += data

    def processEnded(self, reason: Failure) -> None:
        """Fire the Deferreds."""
        if not self.begun.called:
            self.begun.errback(AssertionError(self._err.decode()[-2000:]))
        if reason.check(ProcessDone):
            self.ended.callback(json.loads(self._out.partition(b"begun\n")[2]))
        else:
            self.ended.errback(AssertionError(self._err.decode()[-2000:]))

    def end(self) -> None:
        """Have the attackers end now, and say what they have seen."""
        assert self.transport is not None
        self.transport.signalProcess("TERM")

    def finish(self) -> Deferred[object]:
        """Kill it if it still runs; the Deferred fires when it has ended."""
        if self.transport is not None and self.transport.pid is not None:
            self.transport.signalProcess("KILL")
        return self.ended.addBoth(lambda _: None)


class StrangersTests(TestCase):
    """Attacks by strangers, one after another."""

    timeout = 300

    rows: ClassVar[list[str]] = []
    """The rows of the table so far."""

    async def test_a_hellos_rsa_2048(self) -> None:
        """Bursts of ClientHellos from one address do no harm to nodes of others."""
        await self.attacked(
            "ClientHellos, RSA-2048",
            ("hellos", f"--rate={LARGE_RATE}"),
            self.rsa_certificate(2048),
        )

    async def test_a_hellos_rsa_4096(self) -> None:
        """The same is true where each of them costs a slower signature."""
        await self.attacked(
            "ClientHellos, RSA-4096",
            ("hellos", f"--rate={SMALL_RATE}"),
            self.rsa_certificate(4096),
        )

    async def test_b_silent(self) -> None:
        """Silent connections from three addresses don't take all places."""
        await self.attacked(
            "silent, table of 600",
            ("silent", f"--count={FEW_CONNECTIONS + 100}", "--sources=3", "--rate=400"),
            (f"--max_connections={FEW_CONNECTIONS}",),
        )

    async def test_b_silent_few_files(self) -> None:
        """Nor do those from one address where a process may have few files open."""
        await self.attacked(
            "silent, 1,024 files",
            ("silent", f"--count={FEW_FILES + 100}", "--rate=400"),
            files=FEW_FILES,
        )

    async def test_c_metrics(self) -> None:
        """Two thousand connections that ask for metrics all the time leave others their turn."""
        await self.attacked("metrics, 2,000 connections", ("metrics", "--count=2000", "--rate=400"))

    async def test_d_uploads(self) -> None:
        """Large bodies that never end, of one address, leave room for others' requests."""
        names = json.dumps({"XNames": node_names(NAMES)}).encode()
        await self.attacked(
            "70 uploads of 4 MiB",
            ("uploads", "--count=70", "--rate=50"),
            others=b"POST /hmi/v1/hbstates HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b"
            % (len(names), names),
            limits=UPLOADERS,
        )

    async def test_e_tokens(self) -> None:
        """Tokens with bad signatures do no harm to nodes with good ones."""
        issuer = Issuer("ES256")
        await self.attacked(
            "bad tokens",
            ("tokens", "--count=200", "--rate=6000", f"--token={issuer.token(None)}"),
            (f"--node_access=jwt:{issuer.publish(Path(self.mktemp()).resolve() / 'jwks')}",),
            issuer=issuer,
        )

    async def test_f_hellos_of_many_rsa_2048(self) -> None:
        """Bursts of ClientHellos do no harm if they are from many addresses, either."""
        await self.attacked(
            "ClientHellos of many, RSA-2048",
            ("hellos", f"--rate={LARGE_RATE}", *crowd(2048)),
            self.rsa_certificate(2048),
            limits=CROWD,
        )

    async def test_f_hellos_of_many_rsa_4096(self) -> None:
        """The same is true where each of them costs a slower signature."""
        await self.attacked(
            "ClientHellos of many, RSA-4096",
            ("hellos", f"--rate={SMALL_RATE}", *crowd(4096)),
            self.rsa_certificate(4096),
            limits=CROWD,
        )

    async def test_f_held(self) -> None:
        """Thousands of nodes that rarely beat keep their connections in a full house."""
        await self.attacked(
            f"silent, {HELD:,} nodes that beat",
            ("silent", f"--count={HELD}", "--sources=3", "--rate=2000"),
            (f"--max_connections={HELD + FEW_CONNECTIONS}", "--warntime=10"),
            held=HELD,
            limits=STRANGERS._replace(memory=MOST_OF_HELD),
        )

    async def test_f_starved(self) -> None:
        """A hbtd that runs for a tenth of the time still tells who dies, and nobody else."""
        await self.attacked("a tenth of a core", limits=SLOWED, slowed=True)

    async def test_g_patient_nodes(self) -> None:
        """Nodes that are more than hbtd can serve, and wait for it, get no false warnings."""
        await self.overloaded("own nodes, patient")

    async def test_g_impatient_nodes(self) -> None:
        """Nor do those that give up after three seconds, and try again."""
        await self.overloaded("own nodes, impatient", "--patience=3")

    def rsa_certificate(self, bits: int) -> tuple[str, ...]:
        """Return options for a certificate with an RSA key."""
        cert, key = write_identity(issue(rsa_key(bits)), Path(self.mktemp()).resolve())
        return (f"--tls_cert={cert}", f"--tls_key={key}")

    async def overloaded(self, name: str, *options: str) -> None:
        """Have more nodes than hbtd can serve, which is as many as it has time to sign for."""
        await self.attacked(
            name,
            (
                *("nodes", f"--count={OWN_NODES}", f"--others={NODES}"),
                *("--first=127.0.3.1", f"--sources={OWN_NODES}", *options),
            ),
            (*self.rsa_certificate(OWN_BITS), f"--errtime={OWN_ERRTIME}"),
            limits=OWN,
        )

    async def attacked(
        self,
        name: str,
        attack: Sequence[str] = (),
        options: Sequence[str] = (),
        *,
        held: int = 0,
        slowed: bool = False,
        files: int | None = None,
        issuer: Issuer | None = None,
        others: bytes | None = None,
        limits: Limits = STRANGERS,
    ) -> None:
        """Attack hbtd while nodes beat and die; print a row, and fail if a limit is exceeded.

        Some nodes more have their connections `held`. hbtd may be `slowed` down, and have so many
        `files` open; nodes have tokens of an `issuer`; and somebody sends the request of `others`
        twice a second. Without an `attack`, nothing but this happens.
        """

        async def attacked() -> list[str]:
            figures = await self.attacked_once(
                name,
                attack,
                options,
                held=held,
                slowed=slowed,
                files=files,
                issuer=issuer,
                others=others,
            )
            if figures.starved > MOST_STARVED or figures.lag > MOST_LAG:
                print("      (the machine did so much else that only false warnings are counted)")
                self.assertEqual(figures.exceeded(OWN), [])
                return []
            self.assertEqual(figures.exceeded(limits), [])
            return figures.slow(limits)

        if slow := await attacked():
            print(f"      ({', '.join(slow)}; once more)")
            self.assertEqual(await attacked(), [], "slow twice")

    async def attacked_once(
        self,
        name: str,
        attack: Sequence[str],
        options: Sequence[str],
        *,
        held: int,
        slowed: bool,
        files: int | None,
        issuer: Issuer | None,
        others: bytes | None,
    ) -> Figures:
        """Make an attack, print its row, and return its figures; see `attacked`.

        Raise `SkipTest` if nodes were too late for anything to be said about hbtd.
        """
        told: dict[tuple[str, str], float] = {}

        def note(update: Update) -> None:
            for each in update.names:
                told.setdefault((each, update.message), reactor.seconds())

        hsm = start_hsm(self, on_update=note)
        process, url = await self.hbtd(hsm, options, files)
        fleet = self.fleet(url, issuer)
        probes = Asker(
            endpoint_from(url, PROBE_ADDRESS), PROBE, period=PROBE_PERIOD, overlapping=True
        )
        askers = [*fleet.values(), probes]
        other = others and Asker(endpoint_from(url, OTHER_ADDRESS), others, period=0.5)
        self.addCleanup(stop_all, askers)
        for number, asker in enumerate(fleet.values()):
            asker.start(number * PERIOD / NODES)
        await deferLater(reactor, 2 * PERIOD)
        pid, client = process_id(process), WebClient(self)
        memory = kibibytes(pid, "VmRSS")
        deaf = (await numbers(client, url))["deaf_seconds_total"]
        if held:
            holders = self.attack(url, pid, ("held", f"--count={held}", *HOLDING), 3 * SECONDS)
            await holders.begun
            # While so many connect, this machine may be too slow for their heartbeats.
            await deferLater(reactor, WARNTIME)
            told.clear()
            for node in fleet.values():
                node.failures.clear()
            memory = kibibytes(pid, "VmRSS")
        attackers = self.attack(url, pid, attack) if attack else None
        if attackers is not None:
            await attackers.begun
        if slowed:
            slow = Slowed(pid)
            self.addCleanup(slow.stop)
        lag = Lag()
        self.addCleanup(lag.stop)
        probes.start()
        if other:
            other.start()
            askers.append(other)
        began, busy, starved = reactor.seconds(), processor_seconds(pid), starved_seconds(pid)
        await deferLater(reactor, DEATH)
        dying, killed = list(fleet)[-DYING:], reactor.seconds()
        for each in dying:
            fleet[each].stop()
        if attackers is not None:
            seen = await attackers.ended.addTimeout(SECONDS + 60, reactor)
        else:
            seen = await deferLater(reactor, SECONDS - DEATH, dict)
        ended = reactor.seconds()
        lag.stop()
        busy, starved = processor_seconds(pid) - busy, starved_seconds(pid) - starved
        grown = kibibytes(pid, "VmHWM") - memory
        await probes.finish()
        if other:
            await other.finish()
        deadline = ended + WAIT
        while reactor.seconds() < deadline and not all(
            (each, DIED.message) in told for each in dying
        ):
            await deferLater(reactor, 0.1)
        if held:
            holders.end()
            nodes = await holders.ended.addTimeout(20, reactor)
            seen |= {"nodes": held, "held": nodes["connected"], "node lag": nodes["lag"]}
        if slowed:
            slow.stop()
        deaf = (await numbers(client, url))["deaf_seconds_total"] - deaf
        await stop_all(askers)
        strangers = node_names(NODES + seen.get("nodes", 0))[NODES:]
        ends = dict.fromkeys(fleet, math.inf) | dict.fromkeys(dying, killed)
        ends |= dict.fromkeys(strangers, ended)
        figures = Figures(
            false=sum(
                message != STARTED.message and when < ends.get(each, 0.0)
                for (each, message), when in told.items()
            ),
            deaths=[
                told.get((each, DIED.message), math.inf) - fleet[each].answered for each in dying
            ],
            probes=probes,
            fleet=list(fleet.values()),
            others=other or None,
            deaf=deaf,
            busy=busy / (ended - began),
            starved=starved / (ended - began),
            memory=grown / 1024,
            lag=lag.most,
            seen=seen,
        )
        if not self.rows:
            print(f"\n{HEADER}", end="")
        self.rows.append(figures.row(name))
        print(f"\n{self.rows[-1]}")
        late = seen["node lag"] if held else seen["lag"] if "capacity" in seen else 0
        if late > OWN_LAG:
            raise SkipTest(f"the nodes were {late} ms late: this machine does too much else")
        if held:
            self.assertEqual(seen["held"], held, "connections of nodes were closed")
        process.signal(SIGTERM)
        await process.ended
        return figures

    async def hbtd(
        self, hsm: RunningHSM, options: Sequence[str], files: int | None
    ) -> tuple[HbtdProcess, str]:
        """Start hbtd; return the process and its URL."""
        run = ("-m", "hbtd")
        if files is not None:
            run = (
                "-c",
                "import resource, runpy;"
                f"resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}));"
                "runpy.run_module('hbtd', run_name='__main__', alter_sys=True)",
            )
        process = spawn(
            self,
            (
                *(*run, "--kv_url=mem:", "--use_telemetry=no", "--port=0"),
                *("--address=127.0.0.1", f"--sm_url={hsm.url}"),
                *(f"--warntime={WARNTIME}", f"--errtime={ERRTIME}", f"--interval={INTERVAL}"),
                *options,
            ),
        )
        return process, await process.url.addTimeout(20, reactor)

    def fleet(self, url: str, issuer: Issuer | None) -> dict[str, Asker]:
        """Return the nodes by name."""
        fleet = {}
        for number, name in enumerate(node_names(NODES)):
            request = beat(name)
            if issuer is not None:
                head = b"\r\nAuthorization: Bearer %b\r\n" % issuer.token(name).encode()
                request = request.replace(b"\r\n", head, 1)
            kept = number % 2 == 0
            endpoint = endpoint_from(url, KEPT_ADDRESS if kept else FRESH_ADDRESSES[number])
            fleet[name] = Asker(endpoint, request, period=PERIOD, kept=kept)
        return fleet

    def attack(
        self, url: str, pid: int, arguments: Sequence[str], seconds: float = SECONDS
    ) -> Attack:
        """Begin to attack hbtd, which has this URL and is this process."""
        kind, *rest = arguments
        attack = Attack()
        reactor.spawnProcess(
            attack,
            sys.executable,
            [
                *(sys.executable, "-m", "tests.support.strangers"),
                *(str(urlsplit(url).port), kind, f"--pid={pid}", f"--seconds={seconds}", *rest),
            ],
            {**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        self.addCleanup(attack.finish)
        return attack


class Slowed:
    """A process that is stopped for nine tenths of each tenth of a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._looping = LoopingCall(self._run)
        self._looping.start(0.1)

    def _run(self) -> None:
        os.kill(self._pid, SIGCONT)
        self._stopping = reactor.callLater(0.01, os.kill, self._pid, SIGSTOP)

    def stop(self) -> None:
        """Let it run."""
        if self._looping.running:
            self._looping.stop()
            if self._stopping.active():
                self._stopping.cancel()
            os.kill(self._pid, SIGCONT)


class Lag:
    """How late this process is at most."""

    def __init__(self) -> None:
        self.most = 0.0
        """Seconds."""
        self._last = reactor.seconds()
        self._looping = LoopingCall(self._note)
        self._looping.start(0.05)

    def _note(self) -> None:
        now = reactor.seconds()
        self.most = max(self.most, now - self._last - 0.05)
        self._last = now

    def stop(self) -> None:
        """Measure no more."""
        if self._looping.running:
            self._looping.stop()


def p99(latencies: Sequence[float]) -> float:
    """Return the 99th percentile of latencies."""
    ordered = sorted(latencies)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def process_id(process: HbtdProcess) -> int:
    """Return the number of a process that runs."""
    assert process.transport is not None
    number: int = process.transport.pid
    return number


def kibibytes(pid: int, what: str) -> int:
    """Return a line of what the kernel says of the memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    assert found
    return int(found[1])


def _share(askers: Sequence[Asker]) -> str:
    """Return how many requests have failed, of how many."""
    failed = sum(each.failures.total() for each in askers)
    return f"{failed}/{sum(each.sent for each in askers)}".rjust(7)
