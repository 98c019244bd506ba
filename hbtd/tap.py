"""hbtd as a twistd plugin, `twistd -n hbtd [options]`; also used by hbtd.tac."""

from os import environ, getpid

from twisted.application.service import IService

from hbtd.config.command_line import CommandLine
from hbtd.runtime.reactor import install
from hbtd.runtime.service_manager import names_of_sockets
from hbtd.runtime.signals import hold_signals


class Options(CommandLine):
    """The command-line options of hbtd, as the class that twistd requires of a plugin.

    Unlike `CommandLine`, it can be instantiated without arguments.
    """

    def __init__(self) -> None:
        super().__init__(environ)


def makeService(options: Options) -> IService:
    """Return hbtd's service for this process, as twistd expects of a plugin.

    The service logs to the standard error stream, unless twistd's options name another log or put
    twistd in the background. Raise `SystemExit` if `--check` or `--health` is given: both are
    options of the command `hbtd` only.
    """
    for name, given in (("check", options.check), ("health", options.health)):
        if given:
            raise SystemExit(
                f"hbtd: --{name} is an option of the command hbtd, not of twistd's plugin"
            )
    hold_signals()
    # Twisted, when its endpoints are imported, removes what systemd says about sockets.
    environment = dict(environ)
    if names := names_of_sockets(environ, getpid()):
        environ.setdefault("LISTEN_FDNAMES", names)
    install()
    # Imported after the reactor is installed: Klein imports the reactor.
    from hbtd.app.process import make_service

    twistd = getattr(options, "parent", None)
    own_log = twistd is None or (
        bool(twistd["nodaemon"])
        and not any(twistd[name] for name in ("logfile", "syslog", "logger"))
    )
    return make_service(options.params, environment, own_log=own_log, warnings=options.warnings)
