"""The simulator's command line: `python -m hbtd.simulator hsm|fleet|demo [options]`."""

import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, TextIO

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater, react
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python import usage

from hbtd.net.tls import TLSUnusable
from hbtd.simulator.commands import run_fleet, run_hsm
from hbtd.simulator.demo import run_demo
from hbtd.simulator.options import SimulatorOptions

_COMMANDS: Final[Mapping[str, Callable[..., Coroutine[Deferred[Any], Any, None]]]] = {
    "hsm": run_hsm,
    "fleet": partial(run_fleet, stdin=True),
    "demo": run_demo,
}


async def _run(reactor: Any, options: SimulatorOptions) -> None:
    command = options.subCommand
    assert command is not None
    # The first line printed may provoke a signal, which the reactor handles only once it runs.
    await deferLater(reactor, 0)
    try:
        await _COMMANDS[command](reactor, options.subOptions, sys.stdout)
    except (CannotListenError, TLSUnusable) as error:
        print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(1) from error


def main(argv: Sequence[str], err: TextIO) -> None:
    """Run the simulator with the arguments `argv`, which don't include the program's name.

    Errors in the arguments, and the log, are written to `err`. Always end by raising `SystemExit`:
    with status 0 when the command has finished, 2 if the arguments can't be used, and 1 if a port
    can't be bound, a certificate can't be used, or the command fails.
    """
    options = SimulatorOptions()
    try:
        options.parseOptions(argv)
    except usage.UsageError as error:
        print(f"hbtd.simulator: {error}", file=err)
        raise SystemExit(2) from error
    # Warnings and errors only: the web server's log has a line for every request.
    serious = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    observer = FilteringLogObserver(textFileLogObserver(err), [serious])
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True, redirectStandardIO=False)
    react(_run, (options,))


if __name__ == "__main__":
    main(sys.argv[1:], sys.stderr)
