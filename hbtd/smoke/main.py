"""The console command `hbtd-smoke`."""

import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn, TextIO

from hbtd.ctl.arguments import settings
from hbtd.ctl.client import Client
from hbtd.ctl.escaping import shown
from hbtd.ctl.failures import INTERRUPTED, Failure
from hbtd.smoke.arguments import parse
from hbtd.smoke.checking import Checks, Report, Skipped
from hbtd.smoke.heartbeat import Heartbeat
from hbtd.smoke.hsm import HSM
from hbtd.smoke.reports import JUnitReport, TapReport
from hbtd.smoke.service import Service

_COMMAND = "hbtd-smoke"


def main() -> None:
    """Run hbtd-smoke with the arguments of the process, and exit with its status."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    # A component that beats has to be forgotten first.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    raise SystemExit(run(sys.argv[1:], os.environ, sys.stdout, sys.stderr))


def run(
    words: Sequence[str],
    environ: Mapping[str, str],
    out: TextIO,
    err: TextIO,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run the checks that the arguments `words` ask for, and return the exit status.

    Raise `SystemExit` for `--help`, and for arguments that can't be used. The report is written to
    `out`, and messages about errors to `err`. `clock` returns the seconds of a monotonic clock,
    `wall` returns the Unix time, and `sleep` sleeps for the given seconds.
    """
    options = parse(words, environ)
    lines = _Lines(out)
    clients: list[Client | HSM] = []
    try:
        api, node_api, hsm = _connect(options, clients)
        if api.exposes_token:
            print(f"{_COMMAND}: the token goes to {api.target} unencrypted", file=err)
        report: Report = (
            TapReport(lines.write)
            if options.output == "tap"
            else JUnitReport(lines.write, str(api.target))
        )
        checks = Checks(report, clock)
        service = Service(
            api,
            lambda: api.certificate,
            wall,
            most_apart=options.apart,
            least_days=options.days,
        )
        why = f"{api.target} does not answer as hbtd does"
        try:
            if service.run(checks):
                why = ""
                if options.xname:
                    Heartbeat(
                        *(api, node_api, hsm, options.xname, service.params, clock, wall, sleep),
                        patience=options.timeout,
                    ).run(checks)
                else:
                    checks.run("heartbeat", _no_name)
        except BaseException:
            why = "interrupted"
            raise
        finally:
            report.end(why)
        return checks.status
    except Failure as failure:
        print(f"{_COMMAND}: {shown(failure, 4000)}", file=err)
        return failure.status
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        for client in clients:
            client.close()
        lines.close()


def _connect(options: Namespace, clients: list[Client | HSM]) -> tuple[Client, Client, HSM | None]:
    """Return the clients for operators' requests, for heartbeats, and for HSM (`None` without URL).

    Append each of them to `clients`, which the caller closes.
    """
    # No heartbeat is sent while an answer is waited for, so that has to be short.
    ours = settings(options, _COMMAND)._replace(longest=options.timeout)
    api = node_api = Client(ours)
    hsm = None
    if options.node_token_file:
        node_api = Client(ours._replace(token_file=options.node_token_file))
    if options.hsm_url:
        ca, token = options.hsm_ca or options.ca, options.hsm_token_file
        hsm = HSM(ours._replace(url=options.hsm_url, ca=ca, token_file=token))
    clients += [api, node_api, *([] if hsm is None else [hsm])]
    return api, node_api, hsm


def _no_name() -> str:
    raise Skipped("no --xname")


class _Lines:
    """Standard output, to which writing does nothing once its reader has gone.

    So the checks go on, and have the component forgotten at the end.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._gone = False

    def write(self, line: str) -> None:
        """Write a line and flush it, unless the reader has gone."""
        if not self._gone:
            try:
                print(line, file=self._out, flush=True)
            except BrokenPipeError:
                self._gone = True

    def close(self) -> None:
        """If the reader has gone, discard buffered output, which Python could not write at exit."""
        if self._gone:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
