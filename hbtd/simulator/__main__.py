"""Run a part of the simulated world: `python -m hbtd.simulator hsm|fleet|demo [options]`."""

import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
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

from hbtd.simulator.commands import run_fleet, run_hsm
from hbtd.simulator.demo import run_demo
from hbtd.simulator.options import SimulatorOptions

_COMMANDS: Final[Mapping[str, Callable[..., Coroutine[Deferred[Any], Any, None]]]] = {
    "hsm": run_hsm,
    "fleet": run_fleet,
    "demo": run_demo,
}


async def _run(reactor: Any, options: SimulatorOptions) -> None:
    command = options.subCommand
    assert command is not None
    # A reactor heeds signals only once it runs. Whoever sees our first line may send one.
    await deferLater(reactor, 0)
    try:
        await _COMMANDS[command](reactor, options.subOptions, sys.stdout)
    except CannotListenError as error:
        print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(1) from error


def main(argv: Sequence[str], err: TextIO) -> None:
    """Run the command that the arguments name; exits with 2 if they can't be used.

    Complaints and the log go to `err`, one line for arguments that can't be used.
    """
    options = SimulatorOptions()
    try:
        options.parseOptions(argv)
    except usage.UsageError as error:
        print(f"hbtd.simulator: {error}", file=err)
        raise SystemExit(2) from error
    # What goes wrong is logged; the web server's chatter is not.
    serious = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    observer = FilteringLogObserver(textFileLogObserver(err), [serious])
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True, redirectStandardIO=False)
    react(_run, (options,))


if __name__ == "__main__":
    main(sys.argv[1:], sys.stderr)
