"""The demonstration: hbtd, a fake HSM and a small fleet, and what they tell each other."""

import os
import re
import sys
from random import Random
from typing import Any, Final, TextIO

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.server import Site

from hbtd.simulator.commands import describe_update, summary
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.simulator.fleet import Fleet, node_names
from hbtd.simulator.options import DemoOptions

_NODES: Final = 40
_OPTIONS: Final = (
    "--kv_url=mem:",
    "--port=0",
    "--use_telemetry=no",
    "--warntime=4",
    "--errtime=8",
    "--interval=1",
)
_START_TIMEOUT: Final = 20.0


async def run_demo(reactor: Any, options: DemoOptions, out: TextIO) -> None:
    """Play the whole story, which takes 20 seconds; fails if hbtd does not start."""

    def say(who: str, text: str) -> None:
        print(f"{who:<6}| {text}", file=out, flush=True)

    hsm = FakeHSM(reactor, on_update=lambda update: say("HSM", describe_update(update)))
    port: Any = reactor.listenTCP(0, Site(hsm.resource(), reactor=reactor), interface="127.0.0.1")
    sm_url = f"http://127.0.0.1:{port.getHost().port}/hsm/v1"
    say("demo", "hbtd warns after 4 s of silence, and takes who is silent for 8 s for dead")
    hbtd = _Hbtd()
    arguments = [sys.executable, "-m", "hbtd", *_OPTIONS, f"--sm_url={sm_url}"]
    reactor.spawnProcess(hbtd, sys.executable, arguments, env=os.environ)
    # Whoever interrupts the demonstration ends hbtd with it.
    reactor.addSystemEventTrigger("before", "shutdown", hbtd.end)
    url = await hbtd.url.addTimeout(_START_TIMEOUT, reactor)
    say("hbtd", f"serves {url}")
    fleet = Fleet(
        reactor,
        client_endpoint(reactor, url),
        url,
        node_names(_NODES),
        random=Random(1),  # noqa: S311
        period=1.0,
    )
    say("nodes", f"{_NODES} nodes boot and beat once a second")
    began = reactor.seconds()
    fleet.start()

    async def at(second: float) -> None:
        await deferLater(reactor, max(0.0, began + second - reactor.seconds()))

    await at(4)
    dying, hanging = fleet.pick(0.08), fleet.pick(0.05)
    hanging = [name for name in hanging if name not in dying]
    say("nodes", f"{len(dying)} lose power: {' '.join(dying)}")
    fleet.kill(dying)
    say("nodes", f"{len(hanging)} hang: {' '.join(hanging)}")
    fleet.freeze(hanging)
    await at(10.5)
    say("nodes", f"the {len(hanging)} that hung go on")
    fleet.revive(hanging)
    await at(15)
    say("nodes", f"the {len(dying)} without power boot again")
    fleet.revive(dying)
    await at(17)
    states = sorted({f"{c.state}/{c.flag}" for c in hsm.components.values()})
    say("HSM", f"knows {len(hsm.components)} components, all {' or '.join(states)}")
    await fleet.stop()
    for line in summary(fleet, reactor.seconds() - began).splitlines():
        say("nodes", line)
    status = await hbtd.end()
    say("hbtd", f"was told to end, and did with status {status}")
    hsm.stop()


class _Hbtd(ProcessProtocol):
    """hbtd as a process."""

    transport: IProcessTransport

    def __init__(self) -> None:
        self.url: Deferred[str] = Deferred()
        self._waiting: list[Deferred[int]] = []
        self._status: int | None = None
        self._said = ""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._said += data.decode("utf-8", "replace")
        serves = re.search(r"hbtd \S+ serves (\S+)\n", self._said)
        if serves and not self.url.called:
            self.url.callback(serves[1].replace("[::]", "localhost"))

    def processEnded(self, reason: Failure) -> None:
        assert isinstance(reason.value, ProcessDone | ProcessTerminated)
        self._status = reason.value.exitCode or 0
        if not self.url.called:
            self.url.errback(RuntimeError(f"hbtd did not start: {self._said}"))
        for waiting in self._waiting:
            waiting.callback(self._status)

    def end(self) -> Deferred[int]:
        """Tell it to end; fires with its exit status when it has."""
        if self._status is not None:
            return succeed(self._status)
        self.transport.signalProcess("TERM")
        waiting: Deferred[int] = Deferred()
        self._waiting.append(waiting)
        return waiting
