"""Runs all checks of `hbtd --check`, one after another, and prints their findings."""

from collections.abc import Sequence
from typing import Any, TextIO

from twisted.internet.defer import Deferred

from hbtd.app.check.files import Files
from hbtd.app.check.findings import Findings
from hbtd.app.check.host import check_host
from hbtd.app.check.neighbours import Neighbours
from hbtd.app.check.owners import Owners
from hbtd.app.check.ports import check_ports
from hbtd.app.check.store import check_store
from hbtd.app.errors import StartupError
from hbtd.config.advice import advice
from hbtd.config.command_line import HbtdOptions
from hbtd.net.names import Names


async def check(
    options: HbtdOptions, reactor: Any, findings: Findings, passed: Sequence[int]
) -> None:
    """Check, without changing anything, whether hbtd could start with `options`; print findings.

    `reactor` is running, and provides `IReactorTime`, `IReactorTCP` and
    `IReactorPluggableNameResolver`. `passed` are the file descriptors of the sockets that systemd
    has passed.
    """
    for message in options.faults:
        findings.error(StartupError(message))
    for sentence in options.warnings:
        findings.warning(sentence)
    if options.parsed:
        if not options.faults:
            findings.fine("options: all can be used")
        params = options.params
        for sentence in advice(params):
            findings.warning(f"risky: {sentence}")
        with findings.hearing():
            Files(params, reactor, findings).check()
            owners = Owners()
            check_store(params, findings, owners)
            check_ports(params, findings, owners, passed)
            check_host(params, findings)
            reactor.installNameResolver(Names(reactor))
            await Neighbours(params, reactor, findings).check()
    findings.conclude()


def run(options: HbtdOptions, reactor: Any, out: TextIO, passed: Sequence[int]) -> int:
    """Run `check` in a reactor that is not running yet; return the exit status of the process.

    The findings are printed to `out`.
    """
    findings = Findings(lambda line: print(line, file=out, flush=True))
    outcome: list[Any] = []

    def start() -> None:
        checked = Deferred.fromCoroutine(check(options, reactor, findings, passed))
        checked.addBoth(outcome.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run(installSignalHandlers=False)
    if outcome and outcome[0] is not None:
        outcome[0].raiseException()
    return findings.status
