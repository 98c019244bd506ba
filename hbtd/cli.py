"""The console command `hbtd`: the service in the foreground."""

import signal
import sys
from os import environ

from hbtd.runtime.signals import hold_signals


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
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # Imported late, so that --help is fast.
    from twisted.scripts import twistd

    config = twistd.ServerOptions()  # type: ignore[attr-defined]  # it has it on POSIX
    config.parseOptions(["--nodaemon", "--pidfile=", "hbtd", *sys.argv[1:]])
    twistd.runApp(config)
