"""The console command `hbtd`: the service in the foreground."""

from __future__ import annotations

import signal
import sys
from os import environ
from typing import TYPE_CHECKING, NoReturn

from hbtd.runtime.signals import deliver_signals, hold_signals

if TYPE_CHECKING:
    from hbtd.config.command_line import CommandLine


def main() -> None:
    """Run hbtd until it is stopped; exit with status 2 if an option can't be used."""
    # Before anything that takes time is imported. Ctrl-C would print a traceback.
    hold_signals()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from hbtd.config.command_line import CommandLine

    options = CommandLine(environ)
    # --help may be piped into a command that stops reading; a server ignores this signal.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    options.parseOptions()
    if options.check:
        deliver_signals()
        _check(options)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # Imported late, so that --help is fast.
    from twisted.scripts import twistd

    config = twistd.ServerOptions()  # type: ignore[attr-defined]  # it has it on POSIX
    config.parseOptions(["--nodaemon", "--pidfile=", "hbtd", *sys.argv[1:]])
    twistd.runApp(config)


def _check(options: CommandLine) -> NoReturn:
    """Print whether hbtd could start; exit with 0 if so, else with the status of a failed start."""
    from hbtd.runtime.reactor import install

    # Twisted, when its endpoints are imported, removes what systemd says about sockets.
    environment = dict(environ)
    install()
    from hbtd.app.process import run_check

    raise SystemExit(run_check(options, environment, sys.stdout))
