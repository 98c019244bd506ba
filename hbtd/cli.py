"""The console command `hbtd`, which runs the service in the foreground."""

from __future__ import annotations

import os
import signal
import sys
from os import environ
from pathlib import Path
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
    health_of_container = sys.argv[1:] == ["--health"]
    options.parseOptions([*_first_arguments(), "--health"] if health_of_container else None)
    if options.health:
        deliver_signals()
        _health(options)
    if options.check:
        deliver_signals()
        _check(options)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # Imported late, so that --help is fast.
    from twisted.scripts import twistd

    config = twistd.ServerOptions()  # type: ignore[attr-defined]  # it has it on POSIX
    config.parseOptions(["--nodaemon", "--pidfile=", "hbtd", *sys.argv[1:]])
    twistd.runApp(config)


def _first_arguments() -> list[str]:
    """Return the arguments of hbtd if it is a container's first process, or a child of its init.

    A health check that is executed in the container knows the container's environment, but not
    these arguments.
    """
    try:
        words = Path("/proc/1/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []
    for place, word in enumerate(words):
        if word.rpartition(b"/")[2] == b"hbtd":
            return [os.fsdecode(each) for each in words[place + 1 :]]
    return []


def _health(options: CommandLine) -> NoReturn:
    """Ask a running hbtd whether it lives; exit with 0 if so, else say why not, and exit with 1."""
    from hbtd.app.health_check import why_not_alive

    reason = why_not_alive(options.params)
    if reason:
        print(f"hbtd: {reason}", file=sys.stderr)
    raise SystemExit(1 if reason else 0)


def _check(options: CommandLine) -> NoReturn:
    """Print whether hbtd could start; exit with 0 if so, or with the status of a failed start."""
    from hbtd.runtime.reactor import install

    # Twisted, when its endpoints are imported, removes what systemd says about sockets.
    environment = dict(environ)
    install()
    from hbtd.app.process import run_check

    raise SystemExit(run_check(options, environment, sys.stdout))
