"""The console command `hbtd`: the service in the foreground."""

import signal
import sys
from os import environ


def main() -> None:
    """Run hbtd until it is stopped; exit with status 2 if an option can't be used."""
    # Before anything that takes time is imported. A SIGHUP would kill the process, so it waits
    # until the service handles it; Ctrl-C would print a traceback.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
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
