"""The demonstration: runs hbtd with a fake HSM and a fleet, and prints what happens."""

import os
import re
import sys
from collections.abc import Container, Iterable
from random import Random
from typing import Any, Final, TextIO

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutput
from twisted.python.failure import Failure
from twisted.web.server import Site

from hbtd.formats.nodesets import within
from hbtd.simulator.commands import summary
from hbtd.simulator.control import FleetControl
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.simulator.fleet import Fleet, node_names
from hbtd.simulator.live import Mishaps
from hbtd.simulator.options import DemoOptions
from hbtd.simulator.transcript import Transcript

_NODES: Final = 96
"""The nodes of one chassis, and half as many of the next."""

_CHASSIS: Final = "x1000c1"
"""The chassis that loses power."""

_WARNTIME: Final = 4
"""hbtd's `Warntime` in the demonstration, in seconds; `Errtime` is twice as long."""

_START_TIMEOUT: Final = 20.0
"""Seconds within which hbtd must start."""

_PATIENCE: Final = 10.0
"""Seconds for which the demonstration waits, where hbtd and HSM are late on a busy machine."""

_LIVE_PERIOD: Final = 1.0
"""Seconds between two heartbeats of a node in the live demonstration."""


async def run_demo(
    reactor: Any, options: DemoOptions, out: TextIO, *, warntime: int = _WARNTIME
) -> None:
    """Run the demonstration, and report on `out` what happens.

    The demonstration takes about 4.5 times `warntime` seconds. With the option `live`, the fleet is
    larger, and the demonstration goes on until it is interrupted. Raise `RuntimeError` if the
    process of hbtd ends before it serves requests, and `TimeoutError` if it does not serve requests
    within 20 seconds of its start.
    """
    transcript = Transcript(reactor, out)
    say = transcript.say
    # In the live demonstration there would be a line each second.
    hsm = FakeHSM(reactor, on_update=None if options["live"] else transcript.update)
    port: Any = reactor.listenTCP(0, Site(hsm.resource(), reactor=reactor), interface="127.0.0.1")
    say(
        "demo",
        f"hbtd warns after {warntime} s of silence, and declares a node dead after"
        f" {2 * warntime} s",
    )
    hbtd = _Hbtd()
    arguments = _arguments(warntime, f"http://127.0.0.1:{port.getHost().port}/hsm/v1")
    reactor.spawnProcess(hbtd, sys.executable, arguments, env=os.environ)
    # A signal that interrupts the demonstration ends hbtd as well.
    reactor.addSystemEventTrigger("before", "shutdown", hbtd.end)
    try:
        url = await hbtd.url.addTimeout(_START_TIMEOUT, reactor)
        say("hbtd", f"serves {url}")
        say("demo", f"to see the machine: {url}/ui/ (the certificate was made just now)")
        if options["live"]:
            await _play_live(reactor, url, options["nodes"], transcript)
        await _play(reactor, url, hsm, warntime / 4, transcript)
        states = sorted({f"{each.state}/{each.flag}" for each in hsm.components.values()})
        say("HSM", f"{len(hsm.components)} components are known, all {' or '.join(states)}")
    finally:
        status = await hbtd.end()
        hsm.stop()
        await port.stopListening()
    say("hbtd", f"ended on SIGTERM with exit status {status}")


async def _play(
    reactor: Any, url: str, hsm: FakeHSM, period: float, transcript: Transcript
) -> None:
    """Run a fleet whose nodes boot; then some lose power, others hang, and all come back.

    Each node sends a heartbeat to the hbtd at `url` every `period` seconds. What hbtd tells `hsm`
    decides when the story goes on.
    """
    say = transcript.say
    names = node_names(_NODES)
    fleet = Fleet(
        reactor,
        client_endpoint(reactor, url),
        url,
        names,
        random=Random(1),  # noqa: S311
        period=period,
    )
    control = FleetControl(fleet)
    say("nodes", f"{_NODES} nodes boot; each sends a heartbeat every {period:g} s")
    began = reactor.seconds()
    fleet.startService()

    async def until(periods: float, some: Iterable[str], *told: str) -> None:
        """Wait until `periods` heartbeat periods have passed since the start of the fleet.

        Wait longer, but for a bounded time, until HSM has one of the states and flags `told` of
        each of `some` nodes.
        """
        await deferLater(reactor, max(0.0, began + periods * period - reactor.seconds()))
        end = reactor.seconds() + _PATIENCE
        while reactor.seconds() < end and not all(_has(hsm, name, told) for name in some):
            await deferLater(reactor, period / 10)

    await until(4, names, "Ready/OK")
    others = [name for name in fleet.beating if not within(name, _CHASSIS)]
    dying, hanging = fleet.pick(0.05, others), fleet.pick(0.04, others)
    hanging = [name for name in hanging if name not in dying]
    chassis = control.change("kill", _CHASSIS)
    say("nodes", f"a whole chassis loses power: {_CHASSIS}, with {len(chassis)} nodes")
    say("nodes", f"{len(dying)} lose power: {' '.join(dying)}")
    fleet.kill(dying)
    say("nodes", f"{len(hanging)} hang: {' '.join(hanging)}")
    fleet.freeze(hanging)
    await until(10.5, hanging, "Ready/Warning", "Standby/Alert")
    say("nodes", f"the {len(hanging)} that hung resume")
    fleet.revive(hanging)
    await until(14.7, hanging, "Ready/OK")
    await until(14.7, [*dying, *chassis], "Standby/Alert")
    say("demo", "what does an operator see? hbtctl tree --down")
    for line in (await _ask(reactor, url, "tree", "--down")).splitlines():
        say("tree", line)
    await until(15.5, ())
    say("nodes", f"the {len(dying) + len(chassis)} without power boot again")
    fleet.revive([*dying, *chassis])
    await until(17.5, names, "Ready/OK")
    await fleet.stopService()
    for line in summary(fleet, reactor.seconds() - began).splitlines():
        say("nodes", line)


def _has(hsm: FakeHSM, name: str, told: Container[str]) -> bool:
    """Return whether `hsm` has one of the states and flags `told`, as in `Ready/OK`, of `name`."""
    row = hsm.components.get(name)
    return row is not None and f"{row.state}/{row.flag}" in told


async def _play_live(reactor: Any, url: str, nodes: int, transcript: Transcript) -> None:
    """Run a fleet with one mishap after another, until the process is interrupted."""
    names = node_names(nodes)
    fleet = Fleet(
        reactor,
        client_endpoint(reactor, url),
        url,
        names,
        random=Random(1),  # noqa: S311
        period=_LIVE_PERIOD,
    )
    control = FleetControl(fleet)
    transcript.say("nodes", f"{nodes} nodes boot; Ctrl-C ends it")
    fleet.startService()
    mishaps = Mishaps(names, Random(2))  # noqa: S311

    def pass_by(where: str) -> None:
        control.change("revive", where)
        transcript.say("nodes", f"{where} is back")

    await deferLater(reactor, 2 * _LIVE_PERIOD)
    while True:
        mishap = mishaps.draw()
        await deferLater(reactor, mishap.after)
        control.change(mishap.kind.change, mishap.nodes)
        transcript.say("nodes", mishap.kind.text.format(mishap.nodes))
        reactor.callLater(mishap.seconds, pass_by, mishap.nodes)


async def _ask(reactor: Any, url: str, *command: str) -> str:
    """Run `hbtctl` with the arguments `command` for the hbtd at `url`; return what it prints."""
    printed: bytes = await getProcessOutput(
        sys.executable,
        ["-m", "hbtd.ctl", f"--url={url}", "--ca=insecure", *command],
        env=os.environ,
        reactor=reactor,
        errortoo=True,
    )
    return printed.decode("utf-8", "replace")


def _arguments(warntime: int, sm_url: str) -> list[str]:
    """Return the command line that starts hbtd with this `Warntime` and this URL of HSM."""
    return [
        *(sys.executable, "-m", "hbtd", "--kv_url=mem:", "--port=0", "--use_telemetry=no"),
        *(f"--warntime={warntime}", f"--errtime={2 * warntime}", "--interval=1"),
        f"--sm_url={sm_url}",
    ]


class _Hbtd(ProcessProtocol):
    """The child process in which hbtd runs."""

    transport: IProcessTransport

    def __init__(self) -> None:
        self.url: Deferred[str] = Deferred()
        """Fires with hbtd's base URL once hbtd serves requests.

        It fails with `RuntimeError` if hbtd ends before that.
        """

        self._waiting: list[Deferred[int]] = []
        self._status: int | None = None
        self._log = ""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._log += data.decode("utf-8", "replace")
        serves = re.search(r"hbtd \S+ serves (\S+)\n", self._log)
        if serves and not self.url.called:
            self.url.callback(serves[1].replace("[::]", "localhost"))

    def processEnded(self, reason: Failure) -> None:
        assert isinstance(reason.value, ProcessDone | ProcessTerminated)
        self._status = reason.value.exitCode or 0
        if not self.url.called:
            self.url.errback(RuntimeError(f"hbtd did not start: {self._log}"))
        for waiting in self._waiting:
            waiting.callback(self._status)

    def end(self) -> Deferred[int]:
        """Send hbtd SIGTERM; return a Deferred that fires with its exit status when it ends."""
        if self._status is not None:
            return succeed(self._status)
        self.transport.signalProcess("TERM")
        waiting: Deferred[int] = Deferred()
        self._waiting.append(waiting)
        return waiting
