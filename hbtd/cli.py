"""The console command `hbtd`: the service in the foreground."""

import signal
import sys
from os import environ

from hbtd.config.command_line import CommandLine


def main() -> None:
    """Run hbtd until it is told to end; exits with 2 when an option can't be used."""
    options = CommandLine(environ)
    # As any command: who reads --help may stop reading. What serves connections ignores this.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    options.parseOptions()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # Only now, so that --help is there at once.
    from twisted.scripts import twistd

    config = twistd.ServerOptions()  # type: ignore[attr-defined]  # it is, on this platform
    config.parseOptions(["--nodaemon", "--pidfile=", "hbtd", *sys.argv[1:]])
    twistd.runApp(config)
