"""hbtd as a twistd plugin, `twistd -n hbtd [options]`, and for hbtd.tac."""

from os import environ

from twisted.application.service import IService

from hbtd.config.command_line import CommandLine
from hbtd.runtime.reactor import install


class Options(CommandLine):
    """hbtd's options, as twistd wants to make them."""

    def __init__(self) -> None:
        super().__init__(environ)


def makeService(options: Options) -> IService:
    """Make the service.

    It logs to the standard error stream, unless twistd was told to log elsewhere or to go into the
    background.
    """
    install()
    # Only now: Klein takes hold of whichever reactor there is when it is imported.
    from hbtd.app.process import make_service

    twistd = getattr(options, "parent", None)
    own_log = twistd is None or (
        bool(twistd["nodaemon"])
        and not any(twistd[name] for name in ("logfile", "syslog", "logger"))
    )
    return make_service(options.params, environ, own_log=own_log)
