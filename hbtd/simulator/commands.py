"""The simulator's commands `hsm` and `fleet`, and the lines that they print."""

import signal
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Final, TextIO

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.stdio import StandardIO
from twisted.web.server import Site

from hbtd.formats.counts import counted
from hbtd.net.tls import ServerOptions, ephemeral_identity, load_authorities, load_identity
from hbtd.runtime.periodic import PeriodicService
from hbtd.simulator.bulk_update import Update
from hbtd.simulator.control import CommandLines, CommandRefused, ControlServer, FleetControl
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.simulator.fleet import Fleet, node_names
from hbtd.simulator.guards import StrictServerOptions, TokenGuard
from hbtd.simulator.options import Event, FleetOptions, HSMOptions

_PROGRESS_INTERVAL: Final = 5.0
"""Seconds between two lines about a fleet's progress."""

_NAMES_SHOWN: Final = 4
"""The most components that a line about an update names."""


def describe_update(update: Update) -> str:
    """Return a line that describes an applied update.

    The line has the local time at which the update was applied, the new state and flag, the
    message, the number of components, and the names of the first four.
    """
    when = datetime.fromtimestamp(update.applied or update.received)
    shown = " ".join(update.names[:_NAMES_SHOWN])
    more = " ..." if len(update.names) > _NAMES_SHOWN else ""
    what = f"{update.state}/{update.flag} ({update.message})"
    return f"{when:%H:%M:%S} {what} {len(update.names)}: {shown}{more}"


async def run_hsm(reactor: Any, options: HSMOptions, out: TextIO) -> None:
    """Serve a fake HSM until the reactor stops; print a line on `out` about each applied update.

    Raise `CannotListenError` if the port can't be bound, and `TLSUnusable` if a file of
    certificates or a key can't be used.
    """
    host = options["host"]
    hsm = FakeHSM(reactor, on_update=lambda update: _print(out, describe_update(update)))
    hsm.behaviour.cost_ms = options["cost_ms"]
    hsm.behaviour.cost_ms_by_state = options.costs_by_state()
    resource = hsm.resource()
    if options["token"]:
        resource = TokenGuard(resource, Path(options["token"]))
    site = Site(resource, reactor=reactor)
    port: IListeningPort
    tls = options["tls"] or options["tls_cert"]
    if tls:
        port = reactor.listenSSL(options["port"], site, _certificate(options), interface=host)
    else:
        port = reactor.listenTCP(options["port"], site, interface=host)
    scheme = "https" if tls else "http"
    shown = f"[{host}]" if ":" in host else host
    bound: Any = port.getHost()
    _print(out, f"fake HSM listening on {scheme}://{shown}:{bound.port}/hsm/v1")
    end = _End(reactor)
    try:
        await end.wait()
    finally:
        hsm.stop()
        end.done()


def _certificate(options: HSMOptions) -> ServerOptions | StrictServerOptions:
    """Return how HTTPS is served: with the options' certificate, or one that is made for it."""
    if not options["tls_cert"]:
        return ServerOptions(ephemeral_identity())
    identity = load_identity(options["tls_cert"], options["tls_key"])
    if not options["tls_client_ca"]:
        return ServerOptions(identity)
    return StrictServerOptions(identity, load_authorities(options["tls_client_ca"]))


async def run_fleet(
    reactor: Any, options: FleetOptions, out: TextIO, *, stdin: bool = False
) -> None:
    """Run a fleet until the reactor stops, but at most for the time that the options set.

    The option `seconds` sets this time; 0 stands for no limit. Print the progress of the fleet and,
    at the end, a summary to `out`. If `stdin` is true, read commands to the fleet from standard
    input. Raise `CannotListenError` if the port for commands can't be bound.
    """
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
    _print(out, f"fleet of {counted(count, 'node')} beating to {url}")
    end = _End(reactor)
    timers = [
        reactor.callLater(event.second, _apply_event, fleet, event, out) for event in options.events
    ]
    if options["seconds"]:
        timers.append(reactor.callLater(options["seconds"], end.come))
    control_port = _listen_for_commands(reactor, fleet, options["control_port"], out)
    progress = PeriodicService(
        reactor,
        _PROGRESS_INTERVAL,
        lambda: _print(out, _progress(fleet, reactor.seconds() - began)),
        "the progress report",
        now=False,
    )
    try:
        fleet.startService()
        progress.startService()
        if stdin:
            read_commands(fleet, out, reactor)
        await end.wait()
        await progress.stopService()
        if control_port is not None:
            await maybeDeferred(control_port.stopListening)
        for timer in timers:
            if timer.active():
                timer.cancel()
        seconds = reactor.seconds() - began
        await fleet.stopService()
        _print(out, summary(fleet, seconds))
    finally:
        end.done()


class _End:
    """Asks a command to end, and delays the reactor's shutdown until the command has ended."""

    def __init__(self, reactor: Any) -> None:
        self._come: Deferred[None] = Deferred()
        self._done: Deferred[None] = Deferred()
        reactor.addSystemEventTrigger("before", "shutdown", self._shutdown)

    def come(self) -> None:
        """Ask the command to end: fire the Deferred of `wait`, if it has not fired yet."""
        if not self._come.called:
            self._come.callback(None)

    def wait(self) -> Deferred[None]:
        """Return a Deferred that fires when the command must end."""
        return self._come

    def done(self) -> None:
        """Report that the command has ended, so that the reactor may shut down."""
        self._done.callback(None)

    def _shutdown(self) -> Deferred[None]:
        self.come()
        return self._done


def _listen_for_commands(
    reactor: Any, fleet: Fleet, number: int, out: TextIO
) -> IListeningPort | None:
    """Accept commands to a fleet over HTTP, on the local port `number`; return the port.

    If `number` is -1, do nothing and return `None`; 0 means any free port. Print the address to
    `out`.
    """
    if number < 0:
        return None
    site = Site(ControlServer(fleet).resource(), reactor=reactor)
    port: IListeningPort = reactor.listenTCP(number, site, interface="127.0.0.1")
    bound: Any = port.getHost()
    _print(out, f"commands to the fleet: http://127.0.0.1:{bound.port}")
    return port


def read_commands(fleet: Fleet, out: TextIO, reactor: Any) -> None:
    """Begin to read commands to a fleet from standard input; print their results to `out`.

    Do nothing if standard input can't be watched by the reactor.
    """
    # A process in the background that reads its terminal would be stopped; now the read fails.
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    with suppress(OSError, ValueError):
        StandardIO(CommandLines(FleetControl(fleet), out), reactor=reactor)


def _apply_event(fleet: Fleet, event: Event, out: TextIO) -> None:
    if event.nodes:
        try:
            names = list(FleetControl(fleet).change(event.what, event.nodes))
        except CommandRefused as error:
            _print(out, f"{event.second:6.0f} s  {event.what}: {error}")
        else:
            _print(out, f"{event.second:6.0f} s  {event.what} {len(names)} nodes")
        return
    silent = fleet.killed | fleet.frozen
    names = fleet.pick(event.share, silent if event.what == "revive" else None)
    change = {"kill": fleet.kill, "freeze": fleet.freeze, "revive": fleet.revive}[event.what]
    change(names)
    _print(out, f"{event.second:6.0f} s  {event.what} {counted(len(names), 'node')}")


def _progress(fleet: Fleet, seconds: float) -> str:
    statistics = fleet.statistics
    return (
        f"{seconds:6.0f} s  beating {len(fleet.beating)}"
        f"  silent {len(fleet.killed) + len(fleet.frozen)}"
        f"  sent {statistics.sent}  failed {statistics.failed}"
        f"  p99 {statistics.latency().p99 * 1000:.1f} ms"
    )


def summary(fleet: Fleet, seconds: float) -> str:
    """Return the counts and latencies of a fleet's heartbeats, as lines of text.

    `seconds` is the time for which the fleet has run.
    """
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


def _print(out: TextIO, text: str) -> None:
    # Flushed at once, for readers at the other end of a pipe.
    print(text, file=out, flush=True)
