"""The simulator's commands: they put the parts together and tell people how it goes."""

from datetime import datetime
from random import Random
from typing import Any, Final, TextIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.web.server import Site

from hbtd.net.tls import ephemeral_identity, server_options
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fake_hsm import FakeHSM, Update
from hbtd.simulator.fleet import Fleet, node_names
from hbtd.simulator.options import Event, FleetOptions, HSMOptions

_PROGRESS_SECONDS: Final = 5.0
_NAMES_SHOWN: Final = 4


def describe_update(update: Update) -> str:
    """Tell of an applied update in one line, in local time."""
    when = datetime.fromtimestamp(update.applied or update.received)
    shown = " ".join(update.names[:_NAMES_SHOWN])
    more = " ..." if len(update.names) > _NAMES_SHOWN else ""
    said = f"{update.state}/{update.flag} ({update.message})"
    return f"{when:%H:%M:%S} {said} {len(update.names)}: {shown}{more}"


async def run_hsm(reactor: Any, options: HSMOptions, out: TextIO) -> None:
    """Serve a fake HSM until the reactor stops.

    Fails as listening does, with `CannotListenError`.
    """
    host = options["host"]
    hsm = FakeHSM(reactor, on_update=lambda update: _say(out, describe_update(update)))
    hsm.behaviour.cost_ms = options["cost_ms"]
    hsm.behaviour.cost_ms_by_state = options.costs_by_state()
    site = Site(hsm.resource(), reactor=reactor)
    port: IListeningPort
    if options["tls"]:
        certificate = server_options(ephemeral_identity())
        port = reactor.listenSSL(options["port"], site, certificate, interface=host)
    else:
        port = reactor.listenTCP(options["port"], site, interface=host)
    scheme = "https" if options["tls"] else "http"
    shown = f"[{host}]" if ":" in host else host
    bound: Any = port.getHost()
    _say(out, f"fake HSM listening on {scheme}://{shown}:{bound.port}/hsm/v1")
    over = _Interruption(reactor)
    try:
        await over.wait()
    finally:
        hsm.stop()
        over.done()


async def run_fleet(reactor: Any, options: FleetOptions, out: TextIO) -> None:
    """Let a fleet beat for as long as the options say, or until the reactor stops."""
    random = Random(options["seed"])  # noqa: S311
    url, count = options["url"], options["nodes"]
    fleet = Fleet(
        reactor,
        client_endpoint(reactor, url, options["ca"]),
        url,
        node_names(count),
        random=random,
        period=options["period"],
        jitter=options["jitter"],
        connections=options["connections"],
    )
    began = reactor.seconds()
    _say(out, f"fleet of {count} nodes beating to {url}")
    over = _Interruption(reactor)
    timers = [
        reactor.callLater(event.second, _happen, fleet, event, out) for event in options.events
    ]
    if options["seconds"]:
        timers.append(reactor.callLater(options["seconds"], over.interrupt))
    progress = LoopingCall(lambda: _say(out, _progress(fleet, reactor.seconds() - began)))
    progress.clock = reactor
    try:
        fleet.start()
        progress.start(_PROGRESS_SECONDS, now=False)
        await over.wait()
        progress.stop()
        for timer in timers:
            if timer.active():
                timer.cancel()
        seconds = reactor.seconds() - began
        await fleet.stop()
        _say(out, summary(fleet, seconds))
    finally:
        over.done()


class _Interruption:
    """Makes a command end, and a reactor that is told to stop wait until it has."""

    def __init__(self, reactor: Any) -> None:
        self._interrupted: Deferred[None] = Deferred()
        self._done: Deferred[None] = Deferred()
        reactor.addSystemEventTrigger("before", "shutdown", self._shutdown)

    def interrupt(self) -> None:
        """Make `wait` return, now if it was called already."""
        if not self._interrupted.called:
            self._interrupted.callback(None)

    def wait(self) -> Deferred[None]:
        """Fire when it is time to end."""
        return self._interrupted

    def done(self) -> None:
        """Let the reactor stop."""
        self._done.callback(None)

    def _shutdown(self) -> Deferred[None]:
        self.interrupt()
        return self._done


def _happen(fleet: Fleet, event: Event, out: TextIO) -> None:
    silent = fleet.killed | fleet.frozen
    names = fleet.pick(event.share, silent if event.what == "revive" else None)
    change = {"kill": fleet.kill, "freeze": fleet.freeze, "revive": fleet.revive}[event.what]
    change(names)
    _say(out, f"{event.second:6.0f} s  {event.what} {len(names)} nodes")


def _progress(fleet: Fleet, seconds: float) -> str:
    statistics = fleet.statistics
    return (
        f"{seconds:6.0f} s  beating {len(fleet.beating)}"
        f"  silent {len(fleet.killed) + len(fleet.frozen)}"
        f"  sent {statistics.sent}  failed {statistics.failed}"
        f"  p99 {statistics.latency().p99 * 1000:.1f} ms"
    )


def summary(fleet: Fleet, seconds: float) -> str:
    """Sum up what a fleet did in so many seconds, in a few lines."""
    statistics = fleet.statistics
    latency = statistics.latency()
    lines = [
        f"{statistics.sent} heartbeats sent in {seconds:.1f} s"
        f" ({statistics.sent / seconds if seconds else 0:.0f}/s)",
        f"{statistics.answered} answered, p50 {latency.p50 * 1000:.1f} ms,"
        f" p99 {latency.p99 * 1000:.1f} ms, longest {latency.max * 1000:.1f} ms",
        f"{statistics.failed} failed",
    ]
    lines += [f"  {count} {reason}" for reason, count in statistics.failures.most_common()]
    return "\n".join(lines)


def _say(out: TextIO, text: str) -> None:
    # Whoever reads this through a pipe wants to see it now.
    print(text, file=out, flush=True)
